"""Targets and weights that are not there, where they count for nothing."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.tensors import masks
from keras_seqgrad.window import missing
from keras_seqgrad.window.window import Segment
from tests import zoo

VALID = np.ones((zoo.BATCH, zoo.STEPS), bool)
VALID[0, 3:] = VALID[1, 1:3] = VALID[2] = False
SPARSE = keras.losses.SparseCategoricalCrossentropy

LEFT_OUT = missing.metrics_leave_out_masked()


def metrics_of_steps(*metrics):
    """For compile; none where this Keras counts masked steps, before 3.12."""
    return metrics if LEFT_OUT else ()


def filled(array, value):
    """`array` with `value` at all masked steps."""
    flags = VALID.reshape(VALID.shape + (1,) * (array.ndim - 2))
    return np.where(flags, array, np.asarray(value, array.dtype))


def compiled(loss="mse", **options):
    model = ksg.SequenceModel.from_model(zoo.network("gru"))
    model.compile(keras.optimizers.SGD(0.0), loss, **options)
    return model


def told(model, x, y, weight=None):
    """Logs of training and of an evaluation, and the gradient."""
    _, gradients = model.estimate_gradients(x, y, weight)
    model.reset_metrics()
    logs = model.train_on_batch(x, y, weight, return_dict=True)
    model.reset_metrics()
    later = model.test_on_batch(x, y, weight, return_dict=True)
    return logs | {f"later_{key}": later[key] for key in later}, gradients


def assert_told_the_same(found, expected):
    assert found[0] == expected[0]
    zoo.assert_same(found[1], expected[1], tolerance=0)
    assert np.isfinite([*expected[0].values()]).all()


@pytest.mark.parametrize("value", [np.nan, 1e30])
def test_targets_of_masked_steps(value):
    x, y = zoo.data()
    given = {"inputs": x, "mask": VALID}
    metrics = metrics_of_steps("mae", keras.metrics.RootMeanSquaredError())
    model = compiled(metrics=[*metrics])
    weight = np.random.default_rng(1).random(VALID.shape).astype("float32")
    expected = told(model, given, filled(y, 0), weight)
    y, weight = filled(y, value), filled(weight, value)
    assert_told_the_same(told(model, given, y, weight), expected)
    # The control: without the mask they count.
    assert not np.isfinite(told(model, x, y, weight)[0]["loss"])


@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize("masked", [True, False])
def test_classes_of_steps_that_do_not_count(dtype, masked):
    """By a mask, or by a weight of 0."""
    x, _ = zoo.data()
    weight = None if masked else VALID.astype("float32")
    x = {"inputs": x, "mask": VALID} if masked else x
    y = np.random.default_rng(2).integers(0, 2, VALID.shape).astype(dtype)
    accuracy = [*metrics_of_steps("sparse_categorical_accuracy")]
    model = compiled(SPARSE(from_logits=True), weighted_metrics=accuracy)
    expected = told(model, x, filled(y, 0), weight)
    assert_told_the_same(told(model, x, filled(y, -1), weight), expected)


@pytest.mark.skipif(not LEFT_OUT, reason="Keras counts them, before 3.12")
def test_a_missing_target_of_weight_zero():
    x, y = zoo.data()
    weight = VALID.astype("float32")
    model = compiled(metrics=["mae"], weighted_metrics=["mae"])
    logs, gradients = told(model, x, filled(y, 0), weight)
    # A metric without weights has no target to count there.
    assert logs["mae"] != logs["weighted_mae"]
    for name in "mae", "later_mae":
        logs[name] = logs[name.replace("mae", "weighted_mae")]
    found = told(model, x, filled(y, np.nan), weight)
    assert_told_the_same(found, (logs, gradients))


@pytest.mark.parametrize("weight_of_rows", [(3,), (3, 1)])
def test_a_row_of_weight_zero_and_one_target(weight_of_rows):
    x, y = zoo.data(per_sequence=True)
    model = ksg.SequenceModel.from_model(zoo.network(per_sequence=True))
    model.compile("sgd", "mse")
    weight = np.reshape([1, 0, 2], weight_of_rows).astype("float32")
    expected = model.estimate_gradients(x, y, weight)
    y[1] = np.nan
    found = model.estimate_gradients(x, y, weight)
    assert float(found[0]) == float(expected[0])
    zoo.assert_same(found[1], expected[1], tolerance=0)


def cleared(loss, y, weight=None, mask=VALID, names=None, outputs=None):
    """Targets of the segment that `clear_for_loss` returns."""
    if outputs is None:
        outputs = masks.attach(tf.zeros((*VALID.shape, 2)), tf.constant(mask))
    count = len(keras.tree.flatten(outputs))
    model = types.SimpleNamespace(
        loss=loss,
        output_names=names,
        nested_outputs=outputs,
        temporal_outputs=[True] * count,
    )
    segment = Segment(0, zoo.STEPS, None, y, weight)
    return missing.clear_for_loss(segment, outputs, model).y


def test_nothing_is_done_without_masks_and_weights():
    y = tf.fill((*VALID.shape, 2), np.nan)
    plain = tf.zeros((*VALID.shape, 2))
    assert cleared("mse", y, outputs=plain) is y


def test_numbers_stay():
    """A loss or a layer may know padding by them."""
    y = tf.constant(filled(np.zeros((*VALID.shape, 2)), -9.0))
    np.testing.assert_array_equal(cleared("mse", y), y)
    once = tf.constant([[np.nan]] * zoo.BATCH)  # for all steps of a row
    assert cleared("mse", once) is once


def by_itself(y, prediction):
    there = ~tf.math.is_nan(y)
    error = tf.where(there, tf.where(there, y, 0.0) - prediction, 0.0)
    return tf.reduce_sum(error**2) / tf.reduce_sum(tf.cast(there, "float32"))


class ByItself(keras.losses.Loss):
    def call(self, y, prediction):
        return by_itself(y, prediction)


def each_step(y, prediction):
    return tf.reduce_mean((y - prediction) ** 2, axis=-1)


def test_a_loss_that_looks_itself_sees_what_was_given():
    y = tf.constant(filled(np.ones((*VALID.shape, 2), "float32"), np.nan))
    for loss in by_itself, ByItself():
        assert cleared(loss, y) is y
    assert not np.isnan(cleared(each_step, y)).any()
    labels = tf.constant(filled(np.ones(VALID.shape, "int32"), -1))
    assert cleared(keras.losses.CTC(), labels) is labels
    assert cleared(SPARSE(ignore_class=-1), labels) is labels
    assert not np.any(cleared(SPARSE(), labels) < 0)


def test_a_metric_function_may_give_one_number():
    def largest(y, prediction):
        return tf.reduce_max(prediction - y)

    x, y = zoo.data()
    model = compiled(metrics=[largest])
    logs, _ = told(model, x, y, VALID.astype("float32"))
    error = np.max(model.predict_on_batch(x) - y)
    assert logs["largest"] == pytest.approx(error, rel=1e-5)


def test_a_metric_class_of_the_users_own_sees_what_was_given():
    class Missing(keras.metrics.Sum):
        def update_state(self, y, prediction, sample_weight=None):
            super().update_state(tf.cast(tf.math.is_nan(y), "float32"))

    Missing.__module__ = "users"
    x, y = zoo.data()
    given = {"inputs": x, "mask": VALID}
    model = compiled(metrics=[Missing(name="missing")])
    logs, _ = told(model, given, filled(y, np.nan))
    assert logs["missing"] == 2 * np.sum(~VALID)
    assert np.isfinite(logs["loss"])


@pytest.mark.parametrize("form", ["list", "dict"])
def test_each_target_by_the_mask_and_loss_of_its_output(form):
    valid = tf.constant(VALID)
    shape = (*VALID.shape, 2)
    outputs = [masks.attach(tf.zeros(shape), m) for m in (valid, ~valid)]
    outputs.append(tf.zeros(shape))
    y, loss = [tf.fill(shape, np.nan)] * 3, ["mse", "mae", by_itself]
    names = ["one", "two", "three"]
    if form == "dict":
        y, loss = (dict(zip(names, each, strict=True)) for each in (y, loss))
    found = cleared(loss, y, names=names, outputs=outputs)
    if form == "dict":
        found = [found[name] for name in names]
    for target, expected in zip(found, (VALID, ~VALID, True), strict=True):
        expected = np.broadcast_to(expected, VALID.shape)
        np.testing.assert_array_equal(np.isnan(target[..., 0]), expected)
