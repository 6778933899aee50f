"""The general scan runs its steps again with the same random numbers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.ops.rnn import rnn
from tests.ops.loop import finite_difference, random


class Drawing:
    """A step that multiplies its state by numbers drawn at every step."""

    def __init__(self):
        self.generator = keras.random.SeedGenerator(5)
        self.start = self.generator.state.numpy()
        self.weight = tf.Variable(0.9, dtype="float64")

    def step(self, x, state):
        drawn = keras.random.uniform(
            (2, 3), dtype="float64", seed=self.generator
        )
        new = tf.tanh(drawn * self.weight * state[0] + x)
        return new, [new]

    def run(self, random_state, weight=None):
        """(loss, gradient, counter after the forward and backward pass)."""
        self.generator.state.assign(self.start)
        if weight is not None:
            self.weight.assign(weight)
        with tf.GradientTape() as tape:
            outputs, _ = rnn(
                self.step,
                random(2, 4, 3, seed=1),
                [random(2, 3, seed=2)],
                random_state=random_state,
            )
            loss = tf.reduce_sum(outputs**2)
        # As any other user of the generator may, between the passes.
        self.generator.next()
        before = tf.identity(self.generator.state)
        gradient = tape.gradient(loss, self.weight)
        return loss, gradient, before, tf.identity(self.generator.state)

    def slope(self, random_state):
        value = tf.constant(0.9, "float64")
        slope = finite_difference(
            lambda weight: self.run(random_state, weight)[0], value, 1.0
        )
        self.weight.assign(value)
        return slope


@pytest.mark.compiled
@pytest.mark.parametrize("mode", ["eager", "graph", "jit"])
def test_random_numbers_are_drawn_again(mode):
    drawing = Drawing()
    kept = [drawing.generator.state]

    def run():
        return drawing.run(kept)

    if mode != "eager":
        run = tf.function(run, jit_compile=mode == "jit")
        drawing_slope = tf.function(
            lambda weight: drawing.run(kept, weight)[0],
            jit_compile=mode == "jit",
        )
        slope = finite_difference(
            drawing_slope, tf.constant(0.9, "float64"), 1.0
        )
        drawing.weight.assign(0.9)
    else:
        slope = drawing.slope(kept)
    _, gradient, before, after = run()
    np.testing.assert_allclose(gradient, slope, rtol=1e-7)
    assert before.numpy().tolist() == after.numpy().tolist() == [5, 5]


def test_without_random_state_the_gradient_is_wrong():
    drawing = Drawing()
    gradient = drawing.run([])[1]
    assert abs(float(gradient / drawing.slope([])) - 1) > 1e-3


def test_around_is_entered_for_each_loop():
    entered = []

    class Around:
        def __init__(self, x, state):
            self.shapes = x.shape.as_list(), state[0].shape.as_list()

        def __enter__(self):
            entered.append(self.shapes)

        def __exit__(self, *_):
            entered.append("left")

    x = tf.ones((2, 3, 4))
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs, _ = rnn(
            lambda x, state: (x, state), x, [tf.zeros((2, 5))], around=Around
        )
    assert entered == [([2, 4], [2, 5]), "left"]
    tape.gradient(outputs, x)
    assert entered == [([2, 4], [2, 5]), "left"] * 2
