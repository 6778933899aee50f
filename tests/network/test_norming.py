"""What does not go together with layers that norm by what they are given."""

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from keras_seqgrad import methods
from tests import stock, zoo
from tests.network.networks import L, lstm, signal
from tests.network.test_segmented import Own
from tests.network.test_statistics import MASK, Block, X, Y, norm


def below():
    return keras.Sequential([signal(), norm(name="low"), lstm(), L.Dense(2)])


def above():
    return keras.Sequential([signal(), lstm(), norm(name="high"), L.Dense(2)])


def at_the_end(**options):
    layers = [signal(), L.Masking(), L.LSTM(3), norm(name="end"), L.Dense(2)]
    return keras.Sequential(layers, **options)


def spectral():
    norm = L.SpectralNormalization(L.Dense(2), name="spectral")
    return keras.Sequential([signal(), norm, lstm(), L.Dense(2)])


def still():
    return keras.optimizers.SGD(0.0)


def in_a_cell():
    class Cell(L.SimpleRNNCell):
        def build(self, shape):
            super().build(shape)
            self.inside = norm()
            self.inside.build(shape)

        def call(self, inputs, states, training=False):
            inputs = self.inside(inputs, training=training)
            return super().call(inputs, states, training=training)

    layer = L.RNN(Cell(3), return_sequences=True, name="cell")
    return keras.Sequential([signal(), layer, L.Dense(2)])


REFUSED = {
    "blocks": (methods.TargetPropagation(2), at_the_end, "side by side.*'end'"),
    "rows of RTRL": (methods.RTRL(2), below, "RTRL carries .*'low'"),
    "rows of UORO": (methods.UORO(2), below, "UORO carries .*'low'"),
    "rows of a cell": (methods.RTRL(2), in_a_cell, "RTRL carries .*'cell'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_at_compile(name):
    method, network, text = REFUSED[name]
    model = ksg.SequenceModel.from_model(network())
    with pytest.raises(ValueError, match=text) as refusal:
        model.compile("sgd", "mse", method=method)
    assert "LayerNormalization" in str(refusal.value)


@pytest.mark.parametrize(
    "method, network",
    [
        (methods.BPTT(2), at_the_end),
        (methods.BPTT(2), spectral),
        (methods.BPTT(2), in_a_cell),
        (methods.RTRL(2), above),
        (methods.UORO(2), at_the_end),
    ],
)
def test_elsewhere_they_are_taken(method, network):
    model = ksg.SequenceModel.from_model(network())
    model.compile("sgd", "mse", method=method)


@pytest.mark.parametrize("name", REFUSED)
def test_frozen_they_go_with_all(name):
    method, network, _ = REFUSED[name]
    network = network()
    for layer in network.layers:
        if not isinstance(layer, L.Dense):
            layer.trainable = False
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse", method=method)


def test_kernels_are_normed_once_a_window():
    """Behind the last state, whatever runs before or beside."""
    layers = [signal(), L.GRU(3), L.SpectralNormalization(L.Dense(2))]
    keras.utils.set_random_seed(1)
    plain = keras.Sequential(layers)
    plain.compile(still(), "mse")
    found = [plain]
    for method in methods.BPTT(2), methods.TruncatedBPTT(2), methods.RTRL(2):
        copy = keras.models.clone_model(plain)
        copy.set_weights(plain.get_weights())
        found.append(ksg.SequenceModel.from_model(copy))
        found[-1].compile(still(), "mse", method=method)
    for each in found:
        each.train_on_batch(X, Y[:, 0])
        zoo.assert_same(each.get_weights(), plain.get_weights())


def test_rows_that_end_apart_are_not_normed_in_segments():
    model = ksg.SequenceModel.from_model(at_the_end())
    model.compile("sgd", "mse", method=methods.SyntheticGradients(2))
    with pytest.raises(ValueError, match="where each of them ends.*'end'"):
        model.train_on_batch(X, Y[:, 0])
    whole = {"inputs": X, "mask": MASK}
    with pytest.raises(ValueError, match="where each of them ends.*'end'"):
        model.train_on_batch(whole, Y[:, 0])


def test_truncation_norms_rows_that_end_apart_at_their_ends():
    plain, model = stock.pair(at_the_end(), optimizer=still)
    method = methods.TruncatedBPTT(2)
    model.compile(still(), "mse", method=method)
    losses = [m.train_on_batch(X, Y[:, 0]) for m in (plain, model)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    zoo.assert_same(model.get_weights(), plain.get_weights())


def test_a_mask_that_a_layer_is_not_told_of():
    layers = [signal(), Block(), lstm(), L.Dense(2)]
    model = ksg.SequenceModel.from_model(keras.Sequential(layers))
    model.compile("sgd", "mse")
    model.train_on_batch(X, Y)
    before = model.get_weights()
    beside = {"inputs": X, "mask": MASK}
    with pytest.raises(ValueError, match="not told of the mask.*'block"):
        model.train_on_batch(beside, Y)
    for was, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
    model.evaluate(beside, Y, verbose=0)  # norms by what was learned


def test_a_segment_of_ones_own_step_by_step():
    class Normed(Own):
        def __init__(self):
            super().__init__()
            self.norm = norm(name="inside")

        def call_segment(self, inputs, state, training=False):
            inputs = self.norm(inputs, training=training)
            return super().call_segment(inputs, state, training=training)

    model = Normed()
    model.compile("sgd", "mse")
    model.train_on_batch(X, Y)
    with pytest.raises(ValueError, match="step by step.*'inside'"):
        model.train_on_batch({"inputs": X, "mask": MASK}, Y)


def test_run_by_a_layer_of_keras_on_single_steps():
    layer = L.TimeDistributed(norm(), name="parted")
    layers = [signal(), layer, lstm(), L.Dense(2)]
    model = ksg.SequenceModel.from_model(keras.Sequential(layers))
    with pytest.raises(ValueError, match="'parted' .*on parts of them"):
        model.compile("sgd", "mse", method=ksg.methods.FPTT(2))
