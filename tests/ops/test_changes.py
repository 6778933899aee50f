"""What a scan keeps of variables: those alone that its step may change."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.ops import changes, rnn
from tests import zoo

STEPS = 6
pytestmark = pytest.mark.compiled


def seen(step, *variables):
    """Which of the variables a traced step is seen to move, by name."""
    found = []

    @tf.function(autograph=False)
    def run():
        place = changes.mark()
        step()
        moving, _ = changes.moving(place, variables, range(len(variables)))
        found.extend(v.name for v in moving)

    run()
    return found


def test_what_is_assigned_by_dtype_and_shape():
    count = keras.Variable(0, dtype="int64", name="count")
    mean = keras.Variable([0.0, 0.0], name="mean")
    fixed = keras.Variable(np.ones((2, 2), "float32"), name="fixed")
    alike = keras.Variable([1.0, 1.0], name="alike")
    given = count, mean, fixed, alike
    assert seen(lambda: fixed + mean, *given) == []
    assert seen(lambda: count.assign(count + 1), *given) == ["count"]
    assert seen(lambda: count.value.assign_add(1), *given) == ["count"]
    # Of two of one shape it is not known which.
    moved = seen(lambda: mean.assign(mean * 0.5), *given)
    assert moved == ["mean", "alike"]


def test_behind_what_hides_its_operations_nothing_is_known():
    count = keras.Variable(0, dtype="int64", name="count")
    fixed = keras.Variable(np.ones((2, 2), "float32"), name="fixed")
    hidden = tf.function(lambda: count.assign(count + 1), autograph=False)
    assert seen(hidden, count, fixed) == ["count", "fixed"]
    row = tf.constant([0])

    def scatter():
        fixed.value.scatter_nd_update(row[:, None], tf.zeros((1, 2)))

    assert seen(scatter, count, fixed) == ["count", "fixed"]
    assert changes.moving(changes.mark(), [count], [3]) == [[count], [3]]


def kept(*random_state, moves):
    """(shapes of what a traced scan keeps for each step, what it gives)."""
    kernel = tf.Variable(tf.ones((1, 1)))

    def step(x, state):
        if moves:
            random_state[0].assign(random_state[0] + 1)
        new = tf.tanh(x @ kernel + state[0] + tf.reduce_mean(random_state[1]))
        return new, [new]

    @tf.function(autograph=False)
    def run(x):
        with tf.GradientTape() as tape:
            outputs, _ = rnn(
                step, x, [tf.zeros((1, 1))], random_state=random_state
            )
        return outputs, tape.gradient(outputs, kernel)

    x = tf.ones((1, STEPS, 1))
    graph = run.get_concrete_function(x).graph
    stacks = [o for o in graph.get_operations() if o.type == "TensorListStack"]
    return [tuple(stack.outputs[0].shape[1:]) for stack in stacks], run(x)


def test_fixed_weights_are_not_kept_for_each_step():
    count = tf.Variable(0, dtype="int64", trainable=False)
    fixed = tf.Variable(tf.ones((50, 50)), trainable=False)
    shapes, still = kept(count, fixed, moves=False)
    assert shapes and (50, 50) not in shapes and () not in shapes
    shapes, moving = kept(count, fixed, moves=True)
    assert () in shapes and (50, 50) not in shapes
    assert count.numpy() == STEPS
    zoo.assert_same([*still], [*moving], tolerance=0)
