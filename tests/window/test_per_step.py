import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.window import per_step

losses = keras.losses


def spec(*shape, dtype="float32"):
    return tf.TensorSpec((None, *shape), dtype)


OUTPUT = spec(None, 3)


def squared(y, outputs):
    return (y - outputs) ** 2


def masked_mean(axis):
    def loss(y, outputs):
        terms = losses.sparse_categorical_crossentropy(y, outputs)
        valid = tf.cast(y != 0, terms.dtype)
        total = tf.reduce_sum(terms * valid, axis)
        return total / tf.reduce_sum(valid, axis)

    return loss


PER_STEP = {
    "mse": "mse",
    "elementwise": squared,
    "mean": lambda y, p: tf.reduce_mean(squared(y, p)),
    "mean_of_rows": lambda y, p: tf.reduce_mean(squared(y, p), axis=[1, 2]),
    "cross_entropy": losses.CategoricalCrossentropy(from_logits=True),
    "focal": losses.BinaryFocalCrossentropy(),
    "cosine": losses.CosineSimilarity(),
    "summed": losses.MeanSquaredError(reduction="sum"),
    # Where nothing can be computed or twice be the same, the shape decides.
    "noisy": lambda y, p: squared(y, p + tf.random.normal(tf.shape(p))),
    "no_number": lambda y, p: tf.math.log(-p),
}
WHOLE = {
    "dice": losses.Dice(),
    "tversky": losses.Tversky(),
    "cosine_over_time": losses.CosineSimilarity(axis=1),
    "sum": lambda y, p: tf.reduce_sum(squared(y, p)),
    "cumulative": lambda y, p: squared(y, tf.cumsum(p, axis=1)),
    "last": lambda y, p: squared(y[:, -1], p[:, -1]),
    "differences": lambda y, p: squared(y[:, 1:], p[:, :-1]),
}


@pytest.mark.parametrize("name", PER_STEP)
def test_what_judges_steps(name):
    assert per_step.is_per_step([PER_STEP[name]], spec(9, 3), OUTPUT) is True


@pytest.mark.parametrize("name", WHOLE)
def test_what_judges_the_sequence(name):
    assert per_step.is_per_step([WHOLE[name]], spec(9, 3), OUTPUT) is False
    both = ["mse", WHOLE[name]]
    assert per_step.is_per_step(both, spec(9, 3), OUTPUT) is False


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("axis", [None, 1])
def test_a_mean_over_labels_that_count_is_one_over_steps(axis, classes):
    y, output = spec(9, dtype="int64"), spec(None, classes)
    assert per_step.is_per_step([masked_mean(axis)], y, output)


@pytest.mark.parametrize("labels", [9, 3, 1])
@pytest.mark.parametrize("dtype", ["int32", "float32"])
@pytest.mark.parametrize("loss", [losses.CTC(), losses.ctc, "ctc"])
def test_ctc_judges_the_sequence(loss, dtype, labels):
    y = spec(labels, dtype=dtype)
    assert per_step.is_per_step([loss], y, OUTPUT) is False


def test_what_does_not_run_on_an_example_is_not_known():
    for given in (
        (["categorical_crossentropy"], spec(9, dtype="int32")),
        (["no such loss"], spec(9, 3)),
        ([], spec(9, 3)),
    ):
        assert per_step.is_per_step(*given, OUTPUT) is None


def test_open_sizes_are_those_of_the_other():
    output = spec(None, None, None, 2)
    for loss in ("mse", "binary_crossentropy"):
        assert per_step.is_per_step([loss], spec(9, 5, 6, 2), output)
        assert per_step.is_per_step([loss], output, spec(9, 5, 6, 2))


def test_an_example_is_run_once_for_its_shapes_and_draws_nothing():
    calls = []

    def loss(y, outputs):
        calls.append(tf.executing_eagerly())
        return squared(y, outputs)

    state = np.random.get_state()[1].copy()
    per_step.is_per_step([loss], spec(9, 3), OUTPUT)
    count = len(calls)

    @tf.function
    def traced(y):
        assert per_step.is_per_step([loss], y, OUTPUT)
        assert per_step.is_per_step([loss], spec(9, 3, dtype="int32"), OUTPUT)
        return y

    traced(tf.ones((2, 5, 3)))
    assert 0 < count < len(calls) <= 2 * count and all(calls)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_rows_that_a_broadcast_mixes():
    y, output = spec(), spec(None, 1)
    assert per_step.mixes_rows(["mse"], y, output)
    apart = [lambda y, p: squared(y[:, None], p[..., 0])]
    assert not per_step.mixes_rows(apart, y, output)
