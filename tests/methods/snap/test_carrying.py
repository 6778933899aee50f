"""Traces from window to window: carried, started anew, saved."""

import keras
import numpy as np
import pytest

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import BPTT, RTRL, UORO, SnAp
from tests import zoo
from tests.methods import wide

pytestmark = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "method, kind", [(SnAp(1), "gru"), (RTRL(1), "simple_rnn")]
)
def test_two_windows_are_one(method, kind):
    network, (x, y) = wide.network(kind), wide.data(4)
    exact = wide.estimate(network, BPTT(), x, y)
    model = wide.compiled(network, method, stateful=True)
    halves = [(x[:, :2], y[:, :2]), (x[:, 2:], y[:, 2:])]
    first = model.estimate_gradients(*halves[0])[1]
    model.train_on_batch(*halves[0])
    second = model.estimate_gradients(*halves[1])[1]

    def mean(other):
        return [(a + b) / 2 for a, b in zip(first, other, strict=True)]

    assert wide.error(mean(second), exact) < 1e-12
    again = model.estimate_gradients(*halves[1])[1]
    assert wide.error(again, second) == 0
    # The state goes on, the traces do not.
    for variable in model.method_state.parts["influence"].memory.rows:
        variable.assign(np.zeros_like(variable))
    other = model.estimate_gradients(*halves[1])[1]
    assert wide.error(mean(other), exact) > 0.01


@pytest.mark.usefixtures("float64")
def test_rows_that_start_anew_have_no_trace():
    network, (x, y) = wide.network("lstm", dense=True), wide.data(4)
    model = wide.compiled(network, SnAp(2), stateful=True)
    alone = model.estimate_gradients(x, y)[1]
    model.train_on_batch(x, y)
    assert wide.error(model.estimate_gradients(x, y)[1], alone) > 0.01
    model.reset_state()
    assert wide.error(model.estimate_gradients(x, y)[1], alone) < 1e-12
    # Of one row: as a reset at its first step.
    model.train_on_batch(x, y)
    reset = np.zeros(x.shape[:2], bool)
    reset[1, 0] = True
    expected = model.estimate_gradients({"inputs": x, "reset": reset}, y)[1]
    model.reset_state([1])
    found = model.estimate_gradients(x, y)[1]
    assert wide.error(found, expected) < 1e-12


def test_without_stateful_every_window_starts_from_nothing():
    model = SequenceModel.from_model(zoo.network("gru"))
    optimizer = keras.optimizers.SGD(0.0)
    model.compile(optimizer, "mse", method=SnAp(2), run_eagerly=True)
    x, y = zoo.data(4)
    before = model.estimate_gradients(x, y)[1]
    model.train_on_batch(x, y)
    for a, b in zip(model.estimate_gradients(x, y)[1], before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("method", [SnAp(2), RTRL(2), UORO(2, seed=3)])
def test_saved_in_the_middle_of_a_stream(method, tmp_path):
    """What goes on is bit for bit what was never interrupted."""
    first, second = (zoo.data(3, seed=seed) for seed in range(2))
    network = zoo.network("simple_rnn")
    model = SequenceModel.from_model(network, stateful=True)
    model.compile("adam", "mse", method=method, run_eagerly=True)
    model.train_on_batch(*first)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    again.run_eagerly = True
    assert again.method.get_config() == method.get_config()
    model.train_on_batch(*second)
    again.train_on_batch(*second)
    for a, b in zip(zoo.everything(model), zoo.everything(again), strict=True):
        np.testing.assert_array_equal(a, b)
    kept = again.method_state.parts["influence"].variables
    assert any(np.any(np.asarray(v) != 0) for v in kept)
    assert not any("influence" in v.path for v in model.weights)


@pytest.mark.parametrize("stateful, said", [(True, 0), (False, 1)])
def test_a_stream_of_short_windows_is_no_bptt(stateful, said, recwarn):
    model = SequenceModel.from_model(zoo.network("gru"), stateful=stateful)
    model.compile("sgd", "mse", method=SnAp(5), run_eagerly=True)
    model.fit(*zoo.data(2), batch_size=3, shuffle=False, verbose=0)
    assert sum("none is cut" in str(w.message) for w in recwarn) == said


def test_traces_are_float32_under_every_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = zoo.network("lstm")
    finally:
        keras.config.set_dtype_policy("float32")
    model = SequenceModel.from_model(network, stateful=True)
    model.compile("sgd", "mse", method=SnAp(2), run_eagerly=True)
    model.train_on_batch(*zoo.data(4))
    *kept, _ = model.method_state.parts["influence"].memory.rows
    assert {v.dtype for v in kept} == {"float32"}
    assert all(np.any(np.asarray(v)) for v in kept)
