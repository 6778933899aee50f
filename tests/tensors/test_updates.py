import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.tensors import updates
from tests import update_order


def steps(apply):
    """Updates in a loop: each variable's gradient is the other's value."""
    first = keras.Variable([1.0, 2.0])
    second = keras.Variable([5.0, 3.0])
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build([first, second])

    @tf.function(autograph=False)
    def run():
        def body(index):
            a, b = tf.identity(first), tf.identity(second)
            apply(optimizer, [b * tf.norm(b), a * tf.norm(a)], [first, second])
            return (index + 1,)

        return tf.while_loop(lambda i: i < 2, body, (tf.constant(0),))

    return run, first, second


@pytest.mark.compiled
@pytest.mark.parametrize(
    "apply, ordered",
    [
        (updates.apply, True),
        # If this one fails, `updates` is not needed any more.
        (lambda optimizer, *given: optimizer.apply(*given), False),
    ],
    ids=["ours", "keras"],
)
def test_an_update_waits_for_reads_by_other_gradients(apply, ordered, tmp_path):
    run, *_ = steps(apply)
    unordered, pairs = update_order.of(run, tmp_path)
    assert pairs == 3  # those of two variables and of a counter
    assert (not unordered) is ordered, unordered


def test_each_gradient_is_taken_before_any_variable_moves():
    run, first, second = steps(updates.apply)
    run()
    a, b = np.array([1.0, 2.0]), np.array([5.0, 3.0])
    for _ in range(2):
        a, b = (
            a - 0.5 * b * np.linalg.norm(b),
            b - 0.5 * a * np.linalg.norm(a),
        )
    np.testing.assert_allclose(first, a, rtol=1e-6)
    np.testing.assert_allclose(second, b, rtol=1e-6)


@pytest.mark.compiled
def test_gradients_may_be_missing_or_slices():
    table, other = keras.Variable(np.ones((3, 2))), keras.Variable([1.0])
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.build([table, other])

    @tf.function(autograph=False)
    def run():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table.value, [1]))
        gradients = tape.gradient(loss, [table.value, other.value])
        assert isinstance(gradients[0], tf.IndexedSlices)
        updates.apply(optimizer, gradients, [table, other])

    with pytest.warns(UserWarning, match="Gradients do not exist"):
        run()
    np.testing.assert_array_equal(table, [[1, 1], [0, 0], [1, 1]])
    np.testing.assert_array_equal(other, [1.0])
