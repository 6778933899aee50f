"""Twins of a pass against a second way back."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.layers.scan import scan
from keras_seqgrad.methods import SyntheticGradients
from keras_seqgrad.methods.synthetic_gradients.twins import Twins
from keras_seqgrad.window.opening import open_window
from tests import zoo
from tests.network import networks

# Only a graph tells what stands between twins.
pytestmark = pytest.mark.compiled

L = keras.layers
STEPS, LENGTH = 5, 2  # two whole segments and one of one step
# Nothing is guessed at the end, nor taught at the start: what the target alone
# receives is between. A loop over segments is traced once, however many.
WHOLE = 6


def with_dropout():
    return keras.Sequential(
        [
            networks.signal(),
            networks.lstm(dropout=0.4, seed=1),
            L.Dropout(0.3, seed=2),
            L.LayerNormalization(),
            L.GRU(3, return_sequences=True, dropout=0.4, seed=3),
            L.Dense(2),
        ]
    )


def one_layer():
    return zoo.network("simple_rnn")


def other_cells():
    kinds = ("gru_before", "simple_rnn")
    layers = [zoo.recurrent(kind) for kind in kinds]
    return keras.Sequential([networks.signal(), *layers, L.Dense(2)])


def reading_integers():
    inputs = keras.Input((None, 1), dtype="int32")
    return keras.Model(inputs, L.Dense(2)(networks.lstm()(inputs)))


NETWORKS = {
    "the other cells": other_cells,
    "dropout": with_dropout,
    "under XLA": one_layer,
    "integers": reading_integers,
    **{
        name: networks.NETWORKS[name]
        for name in (
            "skip connections",
            "keras.ops",
            "one nested model called twice",
            "state from an input",
            "masked readout",
        )
    },
}


def guessing(size):
    start = keras.initializers.RandomNormal(0.0, 0.3, seed=5)
    return keras.Sequential(
        [keras.Input((size,)), L.Dense(size, kernel_initializer=start)]
    )


def trained(
    make, x, y, jit=False, eagerly=False, learn_initial_state=False, **options
):
    """Weights of a network and its synthesiser after two or three updates."""
    keras.utils.set_random_seed(3)
    network = make()
    model = ksg.SequenceModel.from_model(
        network, learn_initial_state=learn_initial_state
    )
    method = SyntheticGradients(
        LENGTH, guessing, scale=0.5, synthesizer_rate=1.0, **options
    )
    model.compile(
        keras.optimizers.SGD(0.1),
        "mse",
        method=method,
        jit_compile=jit,
        run_eagerly=eagerly,
    )
    model.fit(x, y, zoo.BATCH, verbose=0, shuffle=False)
    learnt = model.method_state.parts["synthesis"].network
    return [*model.get_weights(), *learnt.get_weights()]


@pytest.fixture
def counted(monkeypatch):
    """Counts the passes with twins."""

    class Counter:
        passes = 0

    start = Twins.__init__

    def counting(self, leaves):
        Counter.passes += 1
        start(self, leaves)

    monkeypatch.setattr(Twins, "__init__", counting)
    return Counter


def compare(counted, make, x, y, tolerance=2e-5, **options):
    found = trained(make, x, y, **options)
    passes = counted.passes
    assert passes > 0
    # An eager pass has no twins.
    expected = trained(make, x, y, **{**options, "jit": False}, eagerly=True)
    assert counted.passes == passes
    zoo.assert_same(found, expected, tolerance)


@pytest.mark.parametrize(
    "name, jit",
    [(name, name == "under XLA") for name in NETWORKS],
)
def test_equal_a_second_way_back(name, jit, counted):
    network = NETWORKS[name]()
    # Whole segments alone: a shorter last one is traced once more.
    if name == "integers":
        x = np.random.default_rng(0).integers(-2, 3, (zoo.BATCH, WHOLE, 1))
    else:
        x = networks.numbers(network, WHOLE)
    shape = network(x).shape
    y = np.random.default_rng(1).normal(size=shape).astype("float32")
    compare(counted, NETWORKS[name], x, y, jit=jit)


def test_what_the_target_alone_receives_matters():
    """The control of all comparisons here."""
    make, (x, y) = one_layer, zoo.data(STEPS)
    found = trained(make, x, y, eagerly=True)
    assert zoo.differ(found, trained(make, x, y, eagerly=True, bootstrap=0.5))


def test_mixed_precision(counted):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        compare(counted, one_layer, *zoo.data(WHOLE), tolerance=0.02)
    finally:
        keras.config.set_dtype_policy("float32")


def test_beside_resets_and_masks(counted):
    x, y = zoo.data(STEPS + LENGTH)
    reset, hidden = np.random.default_rng(2).random((2, *x.shape[:2])) < 0.3
    inputs = {"inputs": x, "reset": reset, "mask": ~hidden}
    compare(counted, one_layer, inputs, y, learn_initial_state=True)


@pytest.mark.parametrize("kind", zoo.KINDS)
def test_a_cell_without_a_fast_scan_has_none(kind):
    model = ksg.SequenceModel.from_model(zoo.network(kind))
    model.compile("sgd", "mse", run_eagerly=True)
    data = [tf.convert_to_tensor(each) for each in zoo.data(LENGTH)]
    window = open_window(model, model.carried["training"], data, True)
    assert not Twins.serve(window)  # in no graph
    with tf.Graph().as_default():
        assert Twins.serve(window) == (kind not in ("own", "stacked"))


def test_a_scan_without_twins_refuses_them():
    cell = zoo.PlainCell()
    cell.build((None, 2))
    x, state = tf.ones((3, 4, 2)), [tf.zeros((3, 3))]
    with pytest.raises(ValueError, match="`twin` is for cells with a scan of"):
        scan(cell, x, state, twin=[x, *state])


def test_nobody_asks_for_them_without_need(monkeypatch):
    asked = []
    monkeypatch.setattr(Twins, "serve", asked.append)
    for options in ({"bootstrap": 0.5}, {"inject": False}):
        trained(one_layer, *zoo.data(LENGTH), eagerly=True, **options)
        assert not asked
    trained(one_layer, *zoo.data(LENGTH), eagerly=True)
    assert asked
