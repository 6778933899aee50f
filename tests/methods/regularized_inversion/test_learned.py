"""The learned inverse: its rule, what it learns, and who moves it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import RegularizedInversion
from keras_seqgrad.methods.regularized_inversion import learned
from keras_seqgrad.methods.regularized_inversion.inverse import Steps
from tests import zoo


def one_step(activation="tanh"):
    keras.utils.set_random_seed(0)
    cell = keras.layers.SimpleRNNCell(3, activation=activation)
    cell.build((None, 2))
    inputs = keras.random.normal((1, 4, 2))
    before = keras.random.uniform((1, 4, 3), -0.5, 0.5)
    outputs = cell(inputs[0], [before[0]])[0][tf.newaxis]
    inverse = learned.LearnedInverse(cell, activation, "inverse")
    return Steps(cell, inputs, before, outputs, 3), inverse


def test_rule_is_the_difference_of_two_inversions():
    steps, inverse = one_step()
    delta = keras.random.normal((4, 3))
    rate = tf.constant(0.3)
    series, back = learned.difference(steps, inverse, rate)
    found = -rate * back(*[s[0] for s in series], delta)
    x, h = steps.inputs[0], steps.outputs[0]
    kernel, recurrent, bias = (
        w.astype("float64") for w in inverse.get_weights()
    )

    def undo(states):
        return np.tanh(x @ kernel + states @ recurrent + bias)

    expected = undo(h - 0.3 * delta) - undo(h.numpy())
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_reconstruction_loss_by_hand_and_without_masked_steps():
    steps, inverse = one_step()
    noise = keras.random.normal((1, 4, 3), stddev=0.1)
    states = steps.before[0] + noise[0]
    after = steps.cell(steps.inputs[0], [states])[0]
    error = inverse(steps.inputs[0], after) - states
    each = 0.5 * np.sum(np.square(error), axis=1)
    found = learned.reconstruction_loss(steps, None, inverse, noise)
    np.testing.assert_allclose(found, each.mean(), rtol=1e-6)
    mask = np.array([True, False, True, True]).reshape(1, 4, 1)
    steps.inputs = tf.where(mask, steps.inputs, np.nan)
    found = learned.reconstruction_loss(steps, mask, inverse, noise)
    np.testing.assert_allclose(found, each[[0, 2, 3]].mean(), rtol=1e-6)


def test_noise_has_its_deviation():
    seed = tf.constant([1, 2])
    noise = learned.uniform_noise((200, 50, 10), 0.25, seed, "float32").numpy()
    assert abs(noise.mean()) < 0.005 and abs(noise.std() - 0.25) < 0.002
    other = learned.uniform_noise((200, 50, 10), 0.25, seed + 1, "float32")
    assert np.abs(np.corrcoef(noise.ravel(), np.ravel(other))[0, 1]) < 0.02


def compiled(**options):
    network = zoo.network("simple_rnn")
    method = RegularizedInversion(0.1, propagation="learned", seed=3, **options)
    model = SequenceModel.from_model(network)
    # A rate of 0: what is looked at is the inverse's own learning.
    model.compile(keras.optimizers.SGD(0.0), "mse", method=method)
    return model


@pytest.mark.compiled
def test_learns_to_undo_the_step_with_its_own_optimizer():
    model = compiled(inverse_optimizer=keras.optimizers.Adam(0.02))
    x, y = zoo.data()
    parts = model.method_state.parts
    inverse = parts["inverse_0"]
    cell = model.network.layers[0].cell
    before = keras.random.uniform((50, 3), -0.5, 0.5, seed=1)
    inputs = keras.random.normal((50, 2), seed=1)

    def error():
        after = cell(inputs, [before])[0]
        return float(tf.reduce_mean((inverse(inputs, after) - before) ** 2))

    first, start = error(), [w.copy() for w in model.network.get_weights()]
    x, y = (np.tile(a, (150, 1, 1)) for a in (x, y))
    model.fit(x, y, batch_size=3, shuffle=False, verbose=0)
    assert error() < 0.3 * first
    assert int(parts["inverse_optimizer"].iterations) == 150
    np.testing.assert_array_equal(parts["draws"].seed_and_count, [3, 150])
    zoo.assert_same(model.network.get_weights(), start, 0.0)
    learnt = {id(v) for v in inverse.trainable_variables}
    assert learnt.isdisjoint(id(v) for v in model.trainable_variables)
    assert len(model.trainable_variables) == 5


def test_without_noise_nothing_is_drawn():
    model = compiled(noise=0.0)
    x, y = zoo.data()
    model.fit(x, y, batch_size=3, verbose=0)
    draws = model.method_state.draws.seed_and_count
    np.testing.assert_array_equal(draws, [3, 0])
