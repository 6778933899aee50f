"""Targets and weights with and without a time axis."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.tensors import masks
from keras_seqgrad.window import targets
from keras_seqgrad.window.by_output import of_leaves
from tests import zoo

L = keras.layers
STEPS, BATCH = zoo.STEPS, zoo.BATCH
NAMES = ["late", "each"]
BOTH = types.SimpleNamespace(
    temporal_outputs=[False, True], output_names=NAMES, nested_outputs=[0, 0]
)


def mixed():
    """One output for each sequence, one at each step, over one layer."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, 2))
    hidden = zoo.recurrent("lstm")(inputs)
    last = L.GRU(2)(hidden)
    outputs = [L.Dense(1, name="late")(last), L.Dense(2, name="each")(hidden)]
    return keras.Model(inputs, outputs)


def data():
    x, each = zoo.data()
    return x, [each[:, 0, :1], each]


def reference(network, x, y, length, rate, weights=(None, None)):
    """Truncated training in plain Keras, the state handed on by hand.

    The target of the sequence counts in the last segment alone.
    """
    lstm, gru = network.layers[1], network.layers[2]
    states = lstm.get_initial_state(BATCH), gru.get_initial_state(BATCH)
    loss_of = keras.losses.MeanSquaredError()
    said = []
    for start in range(0, STEPS, length):
        part = slice(start, start + length)
        with tf.GradientTape() as tape:
            first, second = list(states[0]), list(states[1])
            outputs = []
            for step in range(start, min(start + length, STEPS)):
                output, first = lstm.cell(x[:, step], first)
                last, second = gru.cell(output, second)
                outputs.append(network.get_layer("each")(output))
            weight = None if weights[1] is None else weights[1][:, part]
            loss = loss_of(y[1][:, part], tf.stack(outputs, 1), weight)
            if start + length >= STEPS:
                late = network.get_layer("late")(last)
                loss += loss_of(y[0], late, weights[0])
        states = first, second
        variables = network.trainable_variables
        for v, g in zip(variables, tape.gradient(loss, variables), strict=True):
            if g is not None:
                v.assign_sub(rate * g)
        said += outputs
    loss = loss_of(y[1], tf.stack(said, 1), weights[1])
    return float(loss + loss_of(y[0], late, weights[0]))


@pytest.mark.parametrize("weighted", [False, True])
def test_a_target_of_the_sequence_counts_in_the_last_segment(weighted):
    """Segments of 3, 3 and 1 steps; loss and weights after one window."""
    weights = [None, None]
    if weighted:
        generator = np.random.default_rng(3)
        weights = [
            generator.random(shape).astype("float32")
            for shape in [(BATCH,), (BATCH, STEPS)]
        ]
    x, y = data()
    network = mixed()
    expected = reference(network, x, y, 3, 0.1, weights)
    wanted = network.get_weights()
    network.set_weights(mixed().get_weights())
    model = ksg.SequenceModel.from_model(network)
    model.compile(
        keras.optimizers.SGD(0.1),
        ["mse", "mse"],
        method=ksg.methods.TruncatedBPTT(3),
        metrics=[["mae"], ["mae"]],
        jit_compile=False,
    )
    fit = {"verbose": 0, "sample_weight": weights if weighted else None}
    found = model.fit(x, y, **fit).history
    assert found["loss"][0] == pytest.approx(expected, rel=1e-5)
    zoo.assert_same(network.get_weights(), wanted)


def test_metrics_of_mixed_outputs_see_the_whole_window():
    x, y = data()
    network = mixed()
    model = ksg.SequenceModel.from_model(network)
    found = []
    for method in "bptt", ksg.methods.TruncatedBPTT(3):
        model.compile(
            keras.optimizers.SGD(0.0),
            {"late": "mse", "each": "mae"},
            method=method,
            metrics={"late": "mae", "each": ["mse"]},
            jit_compile=False,
        )
        logs = model.train_on_batch(
            x, dict(zip(NAMES, y, strict=True)), return_dict=True
        )
        logs = zoo.numbers(logs)
        found.append({name: logs[name] for name in ("late_mae", "each_mse")})
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_estimate_of_mixed_outputs_in_the_limit():
    x, y = data()
    network = mixed()
    model = ksg.SequenceModel.from_model(network)
    with tf.GradientTape() as tape:
        loss = sum(
            keras.losses.MeanSquaredError()(a, b)
            for a, b in zip(y, network(x), strict=True)
        )
    expected = tape.gradient(loss, network.trainable_variables)
    for length in STEPS, 3:
        method = ksg.methods.TruncatedBPTT(length)
        model.compile("sgd", ["mse", "mse"], method=method, jit_compile=False)
        found, gradients = model.estimate_gradients(x, y)
        assert float(found) == pytest.approx(float(loss), rel=1e-5)
        if length == STEPS:
            zoo.assert_same(gradients, expected)
    assert zoo.differ(gradients, expected)


def cut(structure, model=BOTH):
    flags = of_leaves(model.temporal_outputs, structure, model)
    return targets.cut(structure, 2, 3, flags)


def test_cut():
    late, each = tf.zeros((3, 2)), tf.range(21.0)[None] + tf.zeros((3, 1))
    assert cut(None) is None
    found = cut([late, each])
    assert found[0] is late
    np.testing.assert_array_equal(found[1][0], [2, 3, 4])
    found = cut({"each": each, "late": late})
    assert found["late"] is late
    assert found["each"].shape == (3, 3)
    assert cut({"each": each})["each"].shape == (3, 3)
    assert cut((None, each))[0] is None
    one = types.SimpleNamespace(
        temporal_outputs=[True], output_names=None, nested_outputs=0
    )
    for weight in tf.zeros((3,)), tf.zeros((3, 1)):
        assert cut(weight, one) is weight
    assert cut(each, one).shape == (3, 3)


def test_spread():
    rows = tf.ones((3,))
    late, each = targets.spread([rows, rows], BOTH)
    assert (late.shape, each.shape) == ((3,), (3, 1))
    assert targets.spread({"late": rows}, BOTH)["late"] is rows
    assert targets.spread(None, BOTH) is None


@pytest.mark.parametrize(
    "given, each",
    [
        (None, np.ones((3, 1))),
        ({"each": 2 * tf.ones((3, 4))}, 2 * np.ones((3, 4))),
        ([None, 2 * tf.ones((3,))], 2 * np.ones((3, 1))),
        (2 * tf.ones((3, 1)), 2 * np.ones((3, 1))),
    ],
    ids=["none", "dict", "list", "one"],
)
def test_weigh_rows(given, each):
    outputs = [tf.zeros((3, 2)), tf.zeros((3, 4, 2))]
    factors = tf.constant([0.0, 0.5, 1.0])
    late, found = targets.weigh_rows(given, None, outputs, factors, BOTH)
    np.testing.assert_array_equal(found, each)
    times = 2.0 if isinstance(given, tf.Tensor) else 1.0
    np.testing.assert_array_equal(np.ravel(late), times * factors)


def test_reduction_of():
    mse = keras.losses.MeanSquaredError
    mean = "sum_over_batch_size"
    for loss, expected in [
        ("mse", mean),
        (keras.losses.mean_squared_error, mean),
        (mse(reduction="sum"), "sum"),
        (mse(reduction=None), "none"),
        ({"a": mse(reduction="sum"), "b": None}, "sum"),
        ([mse(reduction="sum"), "mae"], mean),
        (mse(reduction="mean_with_sample_weight"), "mean_with_sample_weight"),
    ]:
        assert targets.reduction_of(loss) == expected


def test_terms():
    """What Keras' own losses divide a sum by."""
    generator = np.random.default_rng(0)
    y, said = tf.zeros((3, 4, 2)), tf.constant(generator.normal(size=(3, 4, 2)))
    mask = tf.constant(generator.random((3, 4)) > 0.4)
    for reduction in "sum_over_batch_size", "mean_with_sample_weight":
        for weight in None, generator.random((3, 4)), generator.random((3, 1)):
            for output in said, masks.attach(said, mask):
                if weight is not None:
                    weight = tf.constant(weight, "float32")
                value, total = (
                    keras.losses.MeanSquaredError(reduction=kind)(
                        y, output, weight
                    )
                    for kind in (reduction, "sum")
                )
                found, _ = targets.terms(reduction, [3, 4], output, weight)
                assert float(value * found) == pytest.approx(float(total))


def test_class_weights():
    table = {0: 0.5, 2: 3.0}
    labels = np.array([[0, 1, 2], [2, 2, 5]])
    expected = [[0.5, 1, 3], [3, 3, 1]]
    one_hot = tf.one_hot(labels, 6)
    for y in tf.constant(labels), tf.constant(labels[..., None]), one_hot:
        found = targets.class_weights(y, None, table, [True])
        np.testing.assert_array_equal(found, expected)
    y = tf.constant(labels[:, 0], "float32")
    for given in y, y[:, None], one_hot[:, 0]:
        found = targets.class_weights(given, None, table, [False])
        np.testing.assert_array_equal(found, [0.5, 3])
