"""Layers over linear cells are recurrent nodes to every method."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo
from tests.methods.table import TABLE

LOSS = keras.losses.MeanSquaredError()
FITTING = ["bptt", "bptt_checkpointed", "tbptt", "artbp"]
FITTING += ["dni", "alternating", "fptt", "tprop"]
ALL = ["MinGRU", "LRU", "MinLSTM", "RGLRU", "QRNN", "CausalConv1D"]
OPTIONS = {"CausalConv1D": {"kernel_size": 3, "activation": "tanh"}}


def network(kinds):
    """One layer of each kind, above one another."""
    keras.utils.set_random_seed(1)
    layers = [keras.Input((None, zoo.FEATURES))]
    for kind in kinds:
        options = {"return_sequences": True, **OPTIONS.get(kind, {})}
        layers.append(getattr(ksg.layers, kind)(3, **options))
    return keras.Sequential([*layers, keras.layers.Dense(2)])


def model_of(stock, method):
    model = ksg.SequenceModel.from_model(stock)
    model.compile("sgd", LOSS, method=method, jit_compile=False)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", FITTING)
def test_every_method_trains_them(name):
    x, y = zoo.data(3)
    stock = network(ALL if name == "bptt" else ["CausalConv1D", "LRU", "QRNN"])
    model = model_of(stock, TABLE[name].method())
    _, exact = zoo.keras_gradients(stock, x, y, LOSS)
    _, found = model.estimate_gradients(x, y)
    if TABLE[name].gradient == "exact":
        zoo.assert_same(found, exact)
    else:
        assert zoo.differ(found, exact)
    before = [w.copy() for w in stock.get_weights()]
    loss = model.fit(x, y, batch_size=3, verbose=0).history["loss"]
    assert np.isfinite(loss).all()
    moved = [
        np.any(a != b) for a, b in zip(before, stock.get_weights(), strict=True)
    ]
    assert all(moved)


@pytest.mark.parametrize("name", ["inversion", "inversion_learned"])
def test_inversion_refuses_them_by_name(name):
    model = ksg.SequenceModel.from_model(network(["MinGRU"]))
    with pytest.raises(ValueError, match=r"'min_gru' \(MinGRUCell\) has no"):
        model.compile("sgd", "mse", method=TABLE[name].method())


@pytest.mark.slow
def test_masks_and_resets_of_a_window():
    """NaN in a hole of masked steps; a reset is two sequences."""
    x, y = zoo.data()
    model = model_of(
        network(["QRNN", "RGLRU", "CausalConv1D", "LRU"]), ksg.methods.BPTT(3)
    )
    _, expected = model.estimate_gradients(x, y)
    hole = np.full((zoo.BATCH, 2, 2), np.nan, "float32")
    mask = np.ones((zoo.BATCH, zoo.STEPS + 2), bool)
    mask[:, 3:5] = False
    longer = [np.concatenate([a[:, :3], hole, a[:, 3:]], 1) for a in (x, y)]
    _, found = model.estimate_gradients(
        {"inputs": longer[0], "mask": mask}, longer[1]
    )
    zoo.assert_same(found, expected)

    reset = np.zeros((zoo.BATCH, zoo.STEPS), bool)
    reset[:, 4] = True
    _, found = model.estimate_gradients({"inputs": x, "reset": reset}, y)
    parts = [model.estimate_gradients(x[:, p], y[:, p])[1]
             for p in (slice(0, 4), slice(4, None))]  # fmt: skip
    expected = [(4 * a + 3 * b) / 7 for a, b in zip(*parts, strict=True)]
    zoo.assert_same(found, expected)


def test_segments_are_the_whole():
    x, _ = zoo.data()
    stock = network(ALL)
    model = model_of(stock, ksg.methods.BPTT())
    state, found = model.start_state(x, zoo.BATCH), []
    for start in (0, 3, 6):
        outputs, state = model.call_segment(
            tf.constant(x[:, start : start + 3]), state
        )
        found.append(outputs)
    np.testing.assert_allclose(np.concatenate(found, 1), stock(x), atol=1e-6)


@pytest.mark.slow
@pytest.mark.compiled
def test_compiled_training_saving_and_exported_steps(tmp_path):
    x, y = zoo.data(4)
    found = []
    for options in ({"run_eagerly": True}, {"jit_compile": True}):
        model = ksg.SequenceModel.from_model(
            network(["CausalConv1D", "LRU", "QRNN"])
        )
        model.compile("sgd", LOSS, method=ksg.methods.BPTT(), **options)
        model.fit(x, y, batch_size=3, verbose=0)
        found.append(model.get_weights())
    zoo.assert_same(*found)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    expected = model(x)
    found = loaded.predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    model.export_steps(tmp_path / "steps", verbose=False)
    served = tf.saved_model.load(tmp_path / "steps")
    state = served.initial_state(x[:, :1])
    outputs = []
    for step in range(4):
        state = dict(served.step(x[:, step : step + 1], state))
        outputs.append(state.pop("outputs"))
    np.testing.assert_allclose(np.concatenate(outputs, 1), expected, atol=1e-6)
