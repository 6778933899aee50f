"""Layers over linear cells: Keras' options, saving, initial values."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests.layers import linear
from tests.layers.common import (
    MASK,
    assert_close,
    gradients,
    random,
)

BATCH, STEPS = MASK.shape
INPUTS = random(BATCH, STEPS, linear.UNITS)
ONE_OF_EACH = ["lru", "min_gru", "min_lstm", "rg_lru", "qrnn"]
ONE_OF_EACH += ["qrnn, three steps", "convolution"]


def over_the_cell(layer, **options):
    """Keras' own layer over the cell of `layer`."""
    return keras.layers.RNN(layer.cell, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"return_sequences": True, "return_state": True},
        {"go_backwards": True, "return_sequences": True},
        {"zero_output_for_mask": True, "return_sequences": True},
        {"return_state": True},
    ],
    ids=lambda options: "-".join(options),
)
@pytest.mark.parametrize("name", ["min_gru", "qrnn", "convolution"])
def test_options_are_those_of_keras(name, options):
    options = {"return_sequences": False, **options}
    layer = linear.layer(name, **options)
    layer.build(INPUTS.shape)
    theirs = over_the_cell(layer, **options)
    found = gradients(layer, inputs=INPUTS, mask=MASK)
    assert_close(found, gradients(theirs, inputs=INPUTS, mask=MASK))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_stateful_goes_on(name):
    layer = linear.layer(name, stateful=True, return_sequences=True)
    whole = over_the_cell(layer, return_sequences=True)
    first = layer(INPUTS[:, :2])
    found = tf.concat([first, layer(INPUTS[:, 2:])], axis=1)
    assert_close(found, whole(INPUTS))
    layer.reset_state()
    assert_close(layer(INPUTS[:, :2]), first, 0)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_initial_state(name):
    layer = linear.layer(name, return_sequences=True, return_state=True)
    first, *state = layer(INPUTS[:, :2])
    second, *end = layer(INPUTS[:, 2:], initial_state=state)
    whole, *expected = layer(INPUTS)
    assert_close(tf.concat([first, second], axis=1), whole)
    assert_close(end, expected)


@pytest.mark.parametrize("name", linear.LAYERS)
def test_shapes_are_known_before_anything_is_built(name):
    layer = linear.layer(name, return_sequences=True, return_state=True)
    expected = [tuple(t.shape) for t in linear.layer(
        name, return_sequences=True, return_state=True
    )(INPUTS)]  # fmt: skip
    assert [*layer.compute_output_shape(INPUTS.shape)] == expected
    symbolic = layer(keras.Input((None, linear.UNITS)))
    assert [t.shape[-1] for t in symbolic] == [s[-1] for s in expected]


@pytest.mark.parametrize("name", linear.LAYERS)
def test_saved_and_loaded(name, tmp_path):
    layer = linear.layer(
        name, return_sequences=True, dropout=0.1, truncation=3, seed=5
    )
    model = keras.Sequential([keras.Input((None, linear.UNITS)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.layers[0]) is type(layer)
    assert loaded.layers[0].get_config() == layer.get_config()
    assert_close(loaded(INPUTS), model(INPUTS), 0)
    over = keras.Sequential(
        [keras.Input((None, linear.UNITS)), over_the_cell(layer)]
    )
    over.save(tmp_path / "over.keras")
    loaded = keras.models.load_model(tmp_path / "over.keras")
    assert_close(loaded(INPUTS), over(INPUTS), 0)


def test_weights_take_their_options():
    layer = ksg.layers.MinGRU(
        2,
        kernel_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(0.5),
        bias_constraint="non_neg",
        activity_regularizer=keras.regularizers.L1(1.0),
    )
    output = layer(tf.ones((1, 2, 3)))
    losses = sorted(float(loss) for loss in layer.losses)
    expected = sorted([0.5 * 12, float(tf.reduce_sum(tf.abs(output)))])
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    assert isinstance(layer.cell.bias.constraint, keras.constraints.NonNeg)
    config = layer.get_config()
    assert config["activity_regularizer"]["class_name"] == "L1"
    again = ksg.layers.MinGRU.from_config(config)
    assert isinstance(again.cell.kernel_regularizer, keras.regularizers.L2)


def test_fixed_truncation_equals_pieces():
    layer = linear.layer("qrnn", truncation=2, return_sequences=True)
    layer.build(INPUTS.shape)
    variables = [v.value for v in layer.trainable_variables]
    with tf.GradientTape() as tape:
        pieces, state = [], layer.get_initial_state(BATCH)
        pieced = over_the_cell(layer, return_sequences=True, return_state=True)
        for start in (0, 2, 4):
            state = [tf.stop_gradient(tensor) for tensor in state]
            piece, *state = pieced(
                INPUTS[:, start : start + 2], initial_state=state
            )
            pieces.append(piece)
        outputs = tf.concat(pieces, axis=1)
        loss = tf.reduce_sum(outputs * random(*outputs.shape, seed=4))
    expected = tape.gradient(loss, variables)
    found = gradients(layer, inputs=INPUTS)[1][1:]
    assert_close(found, expected)
    whole = gradients(
        over_the_cell(layer, return_sequences=True), inputs=INPUTS
    )
    with pytest.raises(AssertionError):
        assert_close(found, whole[1][1:], 1e-3)


@pytest.mark.compiled
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_compiled_equals_eager(name):
    layer = linear.layer(name, return_sequences=True, return_state=True)
    layer.build(INPUTS.shape)

    def run():
        return gradients(layer, inputs=INPUTS, mask=MASK)

    assert_close(tf.function(run, jit_compile=True)(), run())


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_mixed_precision(name, policy):
    options = {"return_sequences": True, "return_state": True}
    exact = linear.layer(name, **options)
    exact.build(INPUTS.shape)
    layer = linear.layer(name, dtype=policy, **options)
    layer.build(INPUTS.shape)
    layer.set_weights(exact.get_weights())
    assert {t.dtype.name for t in layer(INPUTS)} == {layer.compute_dtype}

    def run(inputs, training):
        return [tf.cast(tensor, "float32") for tensor in layer(inputs)]

    run.trainable_variables = layer.trainable_variables
    found = gradients(run, inputs=INPUTS)
    expected = gradients(exact, inputs=INPUTS)
    tolerance = 0.01 if policy == "mixed_float16" else 0.1
    for a, b in zip(
        keras.tree.flatten(found), keras.tree.flatten(expected), strict=True
    ):
        assert tf.norm(a - b) < tolerance * tf.norm(b)


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_lru_keeps_its_radius_in_bfloat16(policy):
    """|λ| = .999 is 1 in bfloat16, and the sum would never end."""

    def layer(dtype):
        return ksg.layers.LRU(
            2,
            min_radius=0.999,
            max_radius=0.999,
            max_phase=1e-3,
            use_feedthrough=False,
            dtype=dtype,
        )

    half, exact = layer(policy), layer("float64")
    inputs = tf.ones((1, 10_000, 1))
    for one in (half, exact):
        one.build(inputs.shape)
    exact.set_weights([w.numpy().astype("float64") for w in half.weights])
    run = tf.function(lambda layer: layer(inputs), jit_compile=True)
    found, expected = (float(run(one)[0, 0]) for one in (half, exact))
    # Rounded outputs, and a product of four numbers in half precision.
    assert abs(found - expected) < 0.01 * abs(expected)


def test_initial_values_of_the_lru():
    keras.utils.set_random_seed(3)
    cell = ksg.layers.LRUCell(4000, min_radius=0.5, max_radius=0.9, max_phase=2)
    cell.build((None, 8))
    square = np.exp(-2 * np.exp(cell.nu.numpy()))
    assert 0.25 <= square.min() < 0.26 and 0.80 < square.max() <= 0.81
    assert abs(square.mean() - (0.25 + 0.81) / 2) < 0.01
    angle = np.exp(cell.theta.numpy())
    assert 0 < angle.min() and angle.max() <= 2 and abs(angle.mean() - 1) < 0.05
    np.testing.assert_allclose(
        np.exp(cell.gamma.numpy()), np.sqrt(1 - square), rtol=1e-5
    )
    for weight, variance in [
        (cell.kernel, 1 / 16),
        (cell.output_kernel, 1 / 4000),
    ]:
        assert abs(weight.numpy().var() / variance - 1) < 0.05
    other = ksg.layers.LRUCell(4000)
    other.build((None, 8))
    assert np.abs(other.kernel.numpy() - cell.kernel.numpy()).max() > 0.1
    one = ksg.layers.LRUCell(3, min_radius=1.0)
    one.build((None, 1))
    assert all(np.isfinite(w.numpy()).all() for w in one.weights)


def test_initial_values_of_the_rg_lru():
    keras.utils.set_random_seed(3)
    cell = ksg.layers.RGLRUCell(4000, heads=400)
    cell.build((None, 4000))
    square = np.exp(-2 * np.log1p(np.exp(cell.decay.numpy())))
    assert 0.81 <= square.min() < 0.815 and 0.995 < square.max() <= 0.9981
    assert abs(square.mean() - (0.81 + 0.998) / 2) < 0.005
    kernel = cell.kernel.numpy()
    assert abs(kernel.var() * 10 - 1) < 0.05  # each block has a fan of its own
    assert np.abs(kernel[0] - kernel[1]).max() > 0.1
    assert not np.any(cell.bias.numpy())


def test_the_root_of_the_rg_lru_has_no_infinite_slope():
    cell = ksg.layers.RGLRUCell(1)
    cell.build((None, 1))
    cell.decay.assign([-200.0])  # softplus of it is 0, so a = 1
    with tf.GradientTape() as tape:
        outputs, _ = cell(tf.ones((1, 1)), [tf.ones((1, 1)), tf.ones((1, 1))])
    assert outputs.numpy().tolist() == [[1.0]]
    gradients = tape.gradient(outputs, cell.trainable_variables)
    assert all(np.isfinite(g.numpy()).all() for g in gradients)


def test_the_positive_form_stays_positive():
    layer = ksg.layers.MinGRU(3, candidate="positive", return_sequences=True)
    assert np.all(layer(10 * INPUTS) > 0)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: ksg.layers.MinGRU(0), "Received: units=0"),
        (lambda: ksg.layers.MinGRU(2, candidate="log"), "candidate='log'"),
        (lambda: ksg.layers.QRNN(2, window=0), "Received: window=0"),
        (lambda: ksg.layers.CausalConv1D(3, 0), "Received: kernel_size=0"),
        (lambda: ksg.layers.CausalConv1D(3, 2, groups=0), "groups=0"),
        (
            lambda: ksg.layers.CausalConv1D(3, 2, groups=2),
            "must divide `filters`. Received: groups=2 with filters=3",
        ),
        (
            lambda: ksg.layers.CausalConv1D(3, 2, groups=3)(INPUTS),
            "groups=3 with 4 features",
        ),
        (lambda: ksg.layers.QRNN(2, pooling="ifo"), "pooling='ifo'"),
        (lambda: ksg.layers.RGLRU(4, heads=3), "heads=3 with units=4"),
        (lambda: ksg.layers.RGLRU(4, max_radius=1.0), "max_radius < 1"),
        (lambda: ksg.layers.LRU(4, min_radius=2), "min_radius=2"),
        (lambda: ksg.layers.LRU(4, unroll=True), "Received: unroll=True"),
        (lambda: ksg.layers.LRU(4, truncation="x"), "truncation='x'"),
        (lambda: ksg.layers.LRU(4, cells=3), "cells"),
        (
            lambda: ksg.layers.RGLRU(3)(INPUTS),
            r"Expected 3 features.*Put a keras.layers.Dense\(3\) before",
        ),
        (
            lambda: ksg.layers.LRU(4, output_size=3)(INPUTS),
            "Expected output_size=4, or use_feedthrough=False",
        ),
    ],
)
def test_refusals(make, text):
    with pytest.raises((ValueError, TypeError), match=text):
        make()


@pytest.mark.parametrize("layer", [ksg.layers.LRU, ksg.layers.RGLRU])
def test_weights_are_drawn_by_the_seed_of_all(layer):
    """Also where Keras' own generator has been drawn from before."""
    found = []
    for seed in (5, 5, 6):
        keras.utils.set_random_seed(seed)
        made = layer(4)
        made.build((2, 3, 4))
        found.append([np.array(weight) for weight in made.weights])
        keras.random.normal((2,))
    first, again, other = found
    for a, b, c in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(a, b)
        # Biases begin alike; all else is drawn.
        assert np.ptp(a) == 0 or np.all(a != c)
    assert sum(np.ptp(a) > 0 for a in first) > 1
