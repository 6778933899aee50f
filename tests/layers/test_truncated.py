"""Truncation in the layers: equal to pieces, unbiased, drawn by its law."""

import itertools

import keras
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.layers.scan import scan
from tests.layers.common import (
    BATCH,
    INPUTS,
    STEPS,
    assert_close,
    gradients,
    make,
    pair,
    random,
)


class GivenGates:
    """A law that says what it is told."""

    def __init__(self, gates):
        self.given = tf.constant(gates, "float32")

    def gates(self, steps, batch_size=None, seed=None):
        return self.given


def cut_every(length, name):
    """Gradient of a layer of Keras over pieces, states cut between them."""
    theirs, ours = pair(name, return_sequences=True, return_state=True)
    variables = [v.value for v in theirs.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(INPUTS)
        outputs, state = [], theirs.get_initial_state(BATCH)
        for start in range(0, STEPS, length):
            state = keras.tree.map_structure(tf.stop_gradient, state)
            piece, *state = theirs(
                INPUTS[:, start : start + length], initial_state=state
            )
            outputs.append(piece)
        results = [tf.concat(outputs, axis=1), *keras.tree.flatten(state)]
        loss = tf.add_n(
            [tf.reduce_sum(r * random(*r.shape, seed=4)) for r in results]
        )
    return ours, (results, tape.gradient(loss, [INPUTS, *variables]))


@pytest.mark.parametrize(
    "name, length, jit",
    [
        ("GRU", 1, False),
        ("GRU", 2, True),
        ("GRU", 4, False),
        ("RNN", 1, False),
        ("RNN", 2, False),
    ],
)
def test_fixed_truncation_equals_pieces(name, length, jit):
    plain, expected = cut_every(length, name)
    layer = make(
        ksg.layers,
        name,
        truncation=length,
        return_sequences=True,
        return_state=True,
    )
    layer.set_weights(plain.get_weights())
    found = tf.function(gradients, jit_compile=jit)(layer)
    assert_close(found, expected)
    # Forward it is the same; not so the full gradient.
    full = gradients(plain)
    assert_close(found[0], full[0])
    with pytest.raises(AssertionError):
        assert_close(found[1], full[1], tolerance=1e-3)


@pytest.mark.parametrize("length", [STEPS, 50])
def test_truncation_beyond_the_sequence_is_none(length):
    plain = make(ksg.layers, "LSTM")
    layer = make(ksg.layers, "LSTM", truncation=length)
    layer.set_weights(plain.get_weights())
    assert_close(gradients(layer), gradients(plain), tolerance=0)


@pytest.mark.parametrize(
    "law", [ksg.truncation.Fixed(1), ksg.truncation.Random(1.1, alpha=None)]
)
def test_no_truncation_outside_training(law):
    plain = make(ksg.layers, "LSTM")
    layer = make(ksg.layers, "LSTM", truncation=law)
    layer.set_weights(plain.get_weights())
    expected = gradients(plain, training=False)
    assert_close(gradients(layer, training=False), expected, tolerance=0)
    with pytest.raises(AssertionError):
        assert_close(gradients(layer), expected)


def mean_gradient(law, plain, factor=1.0):
    """Mean over all cut patterns of one row, links worth `factor` more."""
    parts, total = [], 0.0
    for cuts in itertools.product([False, True], repeat=STEPS - 1):
        probability, age, gates = 1.0, 1, [1.0]
        for cut in cuts:
            chance = float(law.cut_probability(age))
            probability *= chance if cut else 1.0 - chance
            gates.append(0.0 if cut else factor / (1.0 - chance))
            age = 1 if cut else age + 1
        layer = make(ksg.layers, "SimpleRNN", truncation=GivenGates(gates))
        layer.set_weights(plain.get_weights())
        parts.append([probability * d for d in gradients(layer)[1]])
        total += probability
    assert total == pytest.approx(1.0)
    return [tf.add_n(part) for part in zip(*parts, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [4.0, None])
def test_random_truncation_is_unbiased(alpha):
    law = ksg.truncation.Random(2.0, alpha=alpha)
    plain = make(ksg.layers, "SimpleRNN")
    full = gradients(plain)[1]
    assert_close(mean_gradient(law, plain), full, tolerance=1e-5)
    # The comparison sees what a wrong compensation does.
    with pytest.raises(AssertionError):
        assert_close(mean_gradient(law, plain, 0.9), full, tolerance=1e-3)


def test_random_truncation_draws_by_its_law():
    law = ksg.truncation.Random(2.0)
    layer = make(ksg.layers, "GRU", truncation=law, return_sequences=True)
    seed = tf.cast(layer.cuts.seed_generator.state.value, "int32")
    gates = law.gates(STEPS, BATCH, seed)
    assert gates.shape == (BATCH, STEPS)
    weight = layer.cell.kernel.value
    with tf.GradientTape(persistent=True) as tape:
        found = tf.reduce_sum(layer(INPUTS, training=True))
        outputs, _ = scan(
            layer.cell, INPUTS, layer.get_initial_state(BATCH), gates=gates
        )
        expected = tf.reduce_sum(outputs)
    found = tape.gradient(found, weight)
    assert_close(found, tape.gradient(expected, weight))
    # The next batch has other cuts.
    with tf.GradientTape() as tape:
        again = tf.reduce_sum(layer(INPUTS, training=True))
    with pytest.raises(AssertionError):
        assert_close(tape.gradient(again, weight), found, tolerance=1e-3)
