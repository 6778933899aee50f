"""SnAp on linear recurrences, where it is exact."""

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from keras_seqgrad.methods import BPTT, RTRL, SnAp, TruncatedBPTT
from tests.methods import wide

UNITS = 4
CELLS = {
    "min_gru": lambda: ksg.layers.MinGRU(3, **OPTIONS),
    "min_gru, positive": lambda: ksg.layers.MinGRU(
        3, candidate="positive", use_bias=False, **OPTIONS
    ),
    "min_lstm": lambda: ksg.layers.MinLSTM(3, **OPTIONS),
    "min_lstm, positive": lambda: ksg.layers.MinLSTM(
        3, candidate="positive", **OPTIONS
    ),
    "lru": lambda: ksg.layers.LRU(3, max_phase=1.0, **OPTIONS),
    "rg_lru": lambda: ksg.layers.RGLRU(UNITS, heads=2, **OPTIONS),
    "rg_lru, one head": lambda: ksg.layers.RGLRU(UNITS, **OPTIONS),
    "qrnn": lambda: ksg.layers.QRNN(3, **OPTIONS),
    "qrnn, f": lambda: ksg.layers.QRNN(UNITS, pooling="f", **OPTIONS),
    "qrnn, one step": lambda: ksg.layers.QRNN(3, window=1, **OPTIONS),
    "convolution": lambda: ksg.layers.CausalConv1D(3, 3, activation="tanh"),
    "qrnn, three steps": lambda: ksg.layers.QRNN(3, window=3, **OPTIONS),
}
OPTIONS = {"return_sequences": True}
# As many inputs as units, so that both widths of a state may be the same.
FEATURES, STEPS = UNITS, wide.STEPS
# One of each kind of state, and of weight.
KINDS = ["min_gru", "lru", "rg_lru", "qrnn"]
pytestmark = pytest.mark.usefixtures("float64")


def network(*kinds):
    keras.utils.set_random_seed(1)
    layers = [CELLS[kind]() for kind in kinds]
    made = keras.Sequential(
        [keras.Input((None, FEATURES)), *layers, keras.layers.Dense(2)]
    )
    for layer in layers:  # neither zeros nor ones
        for variable in layer.trainable_variables:
            drawn = np.random.default_rng(4).normal(size=variable.shape)
            variable.assign_add(0.3 * drawn)
    return made


def data(steps=STEPS):
    x, y = wide.data(steps)
    extra = np.random.default_rng(5).normal(size=x.shape)
    return np.concatenate([x, extra], axis=-1), y


@pytest.mark.slow
@pytest.mark.parametrize("kind", CELLS)
def test_exact_at_any_length(kind):
    stock, (x, y) = network(kind), data(3)
    exact = wide.estimate(stock, BPTT(), x, y)
    # A variant of a cell has the traces of the cell, whatever the length.
    for length in (1, 2) if kind in KINDS else (1,):
        found = wide.estimate(stock, SnAp(length), x, y)
        assert wide.error(found, exact) < 1e-12
    cut = wide.estimate(stock, TruncatedBPTT(2), x, y)
    if kind == "convolution":
        # What its weights did in one segment no loss of a later one sees.
        assert wide.error(cut, exact) < 1e-12
    else:
        assert wide.error(cut, exact) > 0.01


@pytest.mark.slow
def test_rtrl_sees_through_a_convolution():
    stock, (x, y) = network("convolution", "min_gru"), data(3)
    exact = wide.estimate(stock, BPTT(), x, y)
    found = wide.estimate(stock, RTRL(2), x, y)
    assert wide.error(found, exact) < 1e-12
    # The kernel's influence on the layer above has no trace.
    found = wide.estimate(stock, SnAp(2), x, y)
    assert wide.error(found, exact) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lru", "rg_lru", "qrnn"])
def test_rtrl_agrees(kind):
    stock, (x, y) = network(kind), (each[:1] for each in data(3))
    found = wide.estimate(stock, SnAp(2), x, y)
    assert wide.error(found, wide.estimate(stock, RTRL(2), x, y)) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_windows_are_one(kind):
    stock, (x, y) = network(kind), data(4)
    exact = wide.estimate(stock, BPTT(), x, y)
    model = wide.compiled(stock, SnAp(1), stateful=True)
    halves = [(x[:, :2], y[:, :2]), (x[:, 2:], y[:, 2:])]
    first = model.estimate_gradients(*halves[0])[1]
    model.train_on_batch(*halves[0])
    second = model.estimate_gradients(*halves[1])[1]

    def mean(a, b):
        return [(one + other) / 2 for one, other in zip(a, b, strict=True)]

    assert wide.error(mean(first, second), exact) < 1e-12
    model.reset_state()
    alone = model.estimate_gradients(*halves[1])[1]
    assert wide.error(mean(first, alone), exact) > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*KINDS, "qrnn, f"])
def test_masks_and_resets_as_in_bptt(kind):
    stock, (x, y) = network(kind), data(5)
    mask = np.random.default_rng(1).random(x.shape[:2]) < 0.7
    mask[:, -1] = True
    reset = np.zeros_like(mask)
    reset[1, 3] = reset[2, 2] = reset[1, 0] = True  # inside, at a cut, first
    x[~mask] = np.nan
    given = {"inputs": x, "mask": mask, "reset": reset}
    exact = wide.estimate(stock, BPTT(), given, y)
    found = wide.estimate(stock, SnAp(2), given, y)
    assert wide.error(found, exact) < 1e-12
    del given["reset"]
    unlike = wide.estimate(stock, SnAp(2), given, y)
    assert wide.error(unlike, exact) > 0.01


def test_of_two_layers_the_upper_one_is_exact_and_the_lower_one_is_not():
    stock, (x, y) = network("min_gru", "min_gru"), data()
    exact = wide.estimate(stock, BPTT(), x, y)
    found = wide.estimate(stock, SnAp(2), x, y)
    assert wide.error(found[2:], exact[2:]) < 1e-12
    assert wide.error(found[:2], exact[:2]) > 0.01


def traces_of(kind):
    """Numbers that are kept for each row, and those of all weights."""
    stock = network(kind)
    model = wide.compiled(stock, SnAp(2))
    influence = model.method_state.parts["influence"]
    specs = keras.tree.flatten(influence.specs())
    return sum(int(np.prod(spec.shape)) for spec in specs)


@pytest.mark.parametrize(
    "kind, numbers",
    [
        ("min_gru", FEATURES * 6 + 6),
        # B, ν, θ and γ, for both parts of the state; none of C and D.
        ("lru", 2 * (FEATURES * 6 + 3 + 3 + 3)),
        # Two heads of 2 inputs, biases, the decay; none of what has begun.
        ("rg_lru", 2 * 2 * 4 + 8 + 4),
        # None of the gate of the outputs, nor of the input before.
        ("qrnn", 2 * FEATURES * 6 + 6),
        ("qrnn, f", 2 * FEATURES * 8 + 8),
    ],
)
def test_one_number_for_each_weight_that_moves_the_state(kind, numbers):
    assert traces_of(kind) == numbers


def test_frozen_layers_have_no_traces():
    stock, (x, y) = network("qrnn"), data()
    stock.layers[0].trainable = False
    exact = wide.estimate(stock, BPTT(), x, y)
    assert wide.error(wide.estimate(stock, SnAp(2), x, y), exact) < 1e-12


@pytest.mark.compiled
def test_compiled_is_eager():
    x, y = data(4)
    found = []
    for options in ({"run_eagerly": True}, {"jit_compile": True}):
        stock = network("qrnn", "lru")
        model = ksg.SequenceModel.from_model(stock, stateful=True)
        optimizer = keras.optimizers.SGD(0.1)
        model.compile(optimizer, "mse", method=SnAp(2), **options)
        for _ in range(2):
            model.train_on_batch(x, y)
        found.append(stock.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_half_precision_keeps_traces_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        stock = network("convolution", "lru")
    finally:
        keras.config.set_dtype_policy("float64")
    model = wide.compiled(stock, SnAp(2), stateful=True)
    model.train_on_batch(*data(4))
    *kept, _ = model.method_state.parts["influence"].memory.rows
    assert {v.dtype for v in kept} == {"float32"}
    assert all(np.any(np.asarray(v)) for v in kept)
