"""BatchNormalization, and other layers that keep statistics in training."""

import functools

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from keras_seqgrad.network import statistics
from tests import stock, zoo
from tests.methods.table import TABLE
from tests.network.networks import L, signal

pytestmark = pytest.mark.slow

X, Y = stock.numbers()
MASK = np.ones(X.shape[:2], bool)
MASK[0, -1:], MASK[5, -3:] = False, False


def recurrent(units=3, **options):
    """Of the cheapest kind: what is normed does not hang on the cell."""
    return L.SimpleRNN(units, **options)


def norm(**options):
    return L.BatchNormalization(momentum=0.5, **options)


class Block(L.Layer):
    """A user's own layer that norms inside."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inside = keras.Sequential([L.Dense(2), norm()])

    def call(self, inputs, training=False):
        return inputs + self.inside(inputs, training=training)


class Mean(L.Layer):
    """A user's own average of what it was given."""

    def build(self, shape):
        self.mean = self.add_weight(
            shape=shape[-1:], initializer="zeros", trainable=False
        )

    def call(self, inputs, training=False):
        if training:
            axes = list(range(len(inputs.shape) - 1))
            mean = keras.ops.mean(inputs, axes)
            self.mean.assign(0.5 * (self.mean + mean))
        return inputs


def network(below="a layer", masking=False):
    """Two recurrent layers between which is normed, and what is below."""
    keras.utils.set_random_seed(1)
    layers = [signal(), *[L.Masking()] * masking, *BELOW[below]()]
    layers += [recurrent(return_sequences=True), norm()]
    layers += [recurrent(2, return_sequences=True), L.Dense(2)]
    return keras.Sequential(layers)


def nested():
    return keras.Sequential([signal(), L.Dense(2), norm()])


BELOW = {
    "nothing": lambda: [],
    "a layer": lambda: [L.Dense(2), norm()],
    "without scale": lambda: [norm(scale=False, center=False)],
    "places": lambda: [
        L.Reshape((-1, 2, 1)),
        norm(),
        norm(axis=2),
        L.Reshape((-1, 2)),
    ],
    "own": lambda: [Block()],
    "nested": lambda: [nested()],
}


@pytest.mark.parametrize("below", BELOW)
def test_bptt_is_keras(below):
    pair = stock.pair(network(below))
    stock.assert_same_training(*pair, X, Y)
    zoo.assert_same(*[[m.predict(X, verbose=0)] for m in pair])


def test_masked_steps_do_not_count():
    """By a mask of Masking as in Keras, and by one beside the inputs."""
    expected, model = stock.pair(network(masking=True))
    stock.assert_same_training(expected, model, X, Y)
    model = ksg.SequenceModel.from_model(network())
    model.compile("sgd", "mse")
    garbage = np.where(MASK[..., None], X, 9.0)
    beside = {"inputs": garbage, "mask": MASK}
    model.fit(beside, Y, batch_size=3, shuffle=False, verbose=0)
    zoo.assert_same(model.get_weights(), expected.get_weights())


def test_places_are_masked_with_their_step():
    model = ksg.SequenceModel.from_model(network("places"))
    model.compile("sgd", "mse")
    garbage = np.where(MASK[..., None], X, 9.0)
    model.train_on_batch({"inputs": garbage, "mask": MASK}, Y)
    first = model.layers[1]
    mean = X[MASK].mean()
    np.testing.assert_allclose(first.moving_mean, [0.5 * mean], rtol=1e-4)


def moved(model, y, **options):
    """What a window leaves in the averages, at a rate of zero."""
    model.compile(keras.optimizers.SGD(0.0), "mse", **options)
    model.train_on_batch(X, y)
    seeds = "seed_generator_state"
    return [v for v in model.non_trainable_variables if v.name != seeds]


# Rows that run the same segments of the network as others of the table.
ALIKE = {"dni_next", "artbp_rows"}
BY_SEGMENTS = ["tbptt", "dni", "dni_lambda", "alternating", "fptt"]
BY_SEGMENTS += ["snap"]
BY_WINDOWS = ["bptt", "artbp", "artbp_window", "inversion"]


@pytest.mark.parametrize("name", BY_SEGMENTS + BY_WINDOWS)
def test_averages_move_once_for_each_segment_or_window(name):
    layers = [signal(), norm(), recurrent(return_sequences=True), L.Dense(2)]
    keras.utils.set_random_seed(1)
    model = ksg.SequenceModel.from_model(keras.Sequential(layers))
    mean, variance = moved(model, Y, method=TABLE[name].method())
    expected, spread = np.zeros(2), np.ones(2)
    length = 2 if name in BY_SEGMENTS else stock.STEPS
    for start in range(0, stock.STEPS, length):
        piece = X[:, start : start + length]
        expected = 0.5 * expected + 0.5 * piece.mean((0, 1))
        spread = 0.5 * spread + 0.5 * piece.var((0, 1))
    np.testing.assert_allclose(mean, expected, atol=1e-6)
    np.testing.assert_allclose(variance, spread, atol=1e-6)


def normed_at_the_end():
    keras.utils.set_random_seed(1)
    layers = [signal(), recurrent(), Mean(), norm(), L.Dense(2)]
    return keras.Sequential(layers)


@functools.cache
def moved_by_keras():
    averages = moved(normed_at_the_end(), Y[:, 0])
    return [np.array(average) for average in averages]


@pytest.mark.parametrize("name", sorted({*TABLE} - ALIKE - {"tprop"}))
def test_behind_the_last_state_averages_move_once_a_window(name):
    """As Keras has them, whatever segments come before the last."""
    model = ksg.SequenceModel.from_model(normed_at_the_end())
    found = moved(model, Y[:, 0], method=TABLE[name].method())
    zoo.assert_same(found, moved_by_keras())


def test_each_segment_is_normed_by_itself():
    """Truncation to the whole window is BPTT; to less it is not."""
    found = {}
    for length in 2, stock.STEPS, None:
        method = ksg.methods.BPTT()
        if length:
            method = ksg.methods.TruncatedBPTT(length)
        model = ksg.SequenceModel.from_model(network())
        model.compile("sgd", "mse", method=method)
        model.train_on_batch(X, Y)
        found[length] = model.get_weights()
    zoo.assert_same(found[stock.STEPS], found[None])
    with pytest.raises(AssertionError):
        zoo.assert_same(found[2], found[None])


@pytest.mark.parametrize("name", ["bptt_checkpointed", "rtrl"])
def test_exact_methods_are_exact_behind_the_last_state(name):
    layers = [signal(), recurrent(), norm(), L.Dense(2)]
    keras.utils.set_random_seed(1)
    plain = keras.Sequential(layers)
    found = []
    for method in ksg.methods.BPTT(), TABLE[name].method():
        model = ksg.SequenceModel.from_model(plain)
        model.compile("sgd", "mse", method=method)
        found.append(model.estimate_gradients(X, Y[:, 0])[1])
    zoo.assert_same(*found)


@pytest.mark.compiled
def test_compiled_is_eager():
    """Of a method that goes through a window in a loop."""
    found = []
    layers = [signal(), norm(), recurrent(return_sequences=True), norm()]
    plain = keras.Sequential([*layers, L.Dense(2)])
    before = plain.get_weights()
    for options in {"run_eagerly": True}, {"jit_compile": True}:
        plain.set_weights(before)
        model = ksg.SequenceModel.from_model(plain)
        method = TABLE["tbptt_stride"].method()
        model.compile("sgd", "mse", method=method, **options)
        model.fit(X, Y, batch_size=3, shuffle=False, verbose=0)
        found.append(model.get_weights())
    zoo.assert_same(*found)
    assert zoo.differ(found[0], before)


def test_fixed_weights_of_ones_own_layers_are_no_statistics():
    class Fixed(Mean):
        def build(self, shape):
            super().build(shape)
            self.fixed = self.add_weight(shape=(9, 9), trainable=False)

    layers = [signal(), Fixed(), norm(), L.GRU(2), L.Dense(2)]
    model = ksg.SequenceModel.from_model(keras.Sequential(layers))
    own, batch = model.layers[:2]
    kept = [own.mean, own.fixed, *batch.non_trainable_variables]
    ids = [id(v) for v in statistics.variables(model)]
    assert ids == [id(v) for v in kept]  # nobody has looked yet
    model.compile("sgd", "mse")
    del kept[1]
    assert [id(v) for v in statistics.variables(model)] == [*map(id, kept)]


def test_looking_moves_nothing():
    model = ksg.SequenceModel.from_model(network())
    model.compile("sgd", "mse")
    before = model.get_weights()
    model.estimate_gradients(X, Y)
    model.evaluate(X, Y, verbose=0)
    zoo.assert_same(model.get_weights(), before, tolerance=0)
