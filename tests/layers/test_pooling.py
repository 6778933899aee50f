"""A pooling over a series at once is that of one step after the other."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.layers.pooling import LAST, MAXIMUM, MEAN, SUM, PoolingCell
from keras_seqgrad.layers.scan import scan
from keras_seqgrad.ops import rnn
from tests.layers.common import BATCH, FEATURES, STEPS, assert_close, random


def flags(seed, share=0.4):
    drawn = np.random.default_rng(seed).random((BATCH, STEPS))
    return tf.constant(drawn > share)


NUMBER = tf.constant([[0], [3], [1]])
AGAIN = [random(BATCH, FEATURES, seed=6), tf.constant([[2], [0], [7]])]
OPTIONS = {
    "nothing": {},
    "mask": {"mask": flags(1)},
    "nothing valid": {"mask": tf.zeros((BATCH, STEPS), "bool")},
    "gates of a step": {"gates": random(STEPS, seed=2)},
    "gates of a row": {"gates": random(BATCH, STEPS, seed=2)},
    "a closed gate": {"gates": tf.constant([1.0, 1.0, 0.0, 2.0, 0.5])},
    "reset": {"reset": flags(3, 0.7)},
    "all": {
        "mask": flags(1),
        "gates": random(BATCH, STEPS, seed=2),
        "reset": flags(3, 0.7),
        "reset_state": AGAIN,
    },
    "all but rows": {"gates": random(STEPS, seed=2), "reset": flags(3, 0.7)},
}


def by_steps(cell, sequences, state, **options):
    if "reset" in options:
        options["reset_output"] = options["reset_state"][0]
    outputs, state = rnn(
        cell, sequences, state, previous_output=state[0], **options
    )
    return outputs[:, -1:], state


def results(run, kind, options):
    """What a run gives, and its gradients by the inputs and the states."""
    cell = PoolingCell(kind, FEATURES)
    inputs, before = random(BATCH, STEPS, FEATURES), random(BATCH, FEATURES)
    again = options.get("reset_state", [tf.zeros((1,))])[0]
    with tf.GradientTape() as tape:
        tape.watch([inputs, before, again])
        outputs, state = run(cell, inputs, [before, NUMBER], **options)
        loss = tf.reduce_sum(outputs * random(BATCH, 1, FEATURES, seed=5))
        loss += tf.reduce_sum(state[0] * random(BATCH, FEATURES, seed=7))
    sources = [inputs, before, again]
    found = tape.gradient(loss, sources, unconnected_gradients="zero")
    return [outputs, *state, *found]


@pytest.mark.parametrize("kind", [MEAN, SUM, MAXIMUM, LAST])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_series_is_its_steps(name, kind):
    options = OPTIONS[name]
    if "reset" in options:
        options = {"reset_state": AGAIN, **options}
    assert_close(results(scan, kind, options), results(by_steps, kind, options))


@pytest.mark.parametrize("kind", [MEAN, MAXIMUM])
def test_resets_start_from_nothing_unless_told(kind):
    options = {"reset": tf.constant([[False, False, True, False, False]] * 3)}
    cell, inputs = PoolingCell(kind, FEATURES), random(BATCH, STEPS, FEATURES)
    before = [random(BATCH, FEATURES), NUMBER]
    outputs, (_, number) = scan(cell, inputs, before, **options)
    pool = tf.reduce_mean if kind == MEAN else tf.reduce_max
    assert_close(outputs[:, 0], pool(inputs[:, 2:], axis=1))
    assert number.numpy().tolist() == [[3]] * BATCH


def test_what_is_masked_may_be_nan_or_infinite():
    mask = tf.constant([[True, True, False, True, False]] * BATCH)
    inputs = random(BATCH, STEPS, FEATURES)
    spoilt = np.array(inputs)
    spoilt[:, 2], spoilt[:, 4] = np.nan, np.inf
    for kind in MEAN, SUM, MAXIMUM, LAST:
        cell = PoolingCell(kind, FEATURES)
        start = cell.get_initial_state(BATCH)
        variable = tf.Variable(spoilt)
        with tf.GradientTape() as tape:
            found, _ = scan(cell, variable, start, mask=mask)
        expected, _ = scan(cell, inputs, start, mask=mask)
        assert_close(found, expected)
        assert np.isfinite(tape.gradient(found, variable)).all()


def test_a_mean_of_many_steps_stays_exact_in_half_precision():
    # Of 40 segments the last adds 1/40, which float16 would half forget.
    layer = keras.layers.GlobalAveragePooling1D()
    series = 1.0 + 1e-3 * np.arange(4000, dtype="float32").reshape(1, -1, 1)
    cell = PoolingCell(MEAN, 1, dtype="float32")
    state = cell.get_initial_state(1)
    for piece in np.split(series.astype("float16"), 40, axis=1):
        outputs, state = scan(cell, piece, state)
    expected = layer(series.astype("float16").astype("float32"))
    np.testing.assert_allclose(outputs[:, 0], expected, rtol=1e-5)
