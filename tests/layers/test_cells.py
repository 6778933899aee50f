"""The backward pass sees the numbers that the forward pass drew."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.layers.cells import changing_variables, parts
from keras_seqgrad.layers.scan import uses_fast_scan
from tests.layers.problem import (
    FEATURES,
    UNITS,
    OwnCell,
    Problem,
    assert_close,
    mask_from,
    random,
    stack,
)


class ResidualCell(keras.layers.Layer):
    """Adds its input to the output of another cell, with its own dropout."""

    def __init__(self):
        super().__init__()
        self.inside = {
            "cell": keras.layers.GRUCell(
                FEATURES, recurrent_dropout=0.3, seed=1
            )
        }
        self.state_size = self.output_size = FEATURES

    def build(self, shape):
        self.inside["cell"].build(shape)

    def call(self, inputs, states, training=False):
        cell = self.inside["cell"]
        output, state = cell(inputs, states, training=training)
        return output + inputs, state


CELLS = {
    "lstm": lambda: keras.layers.LSTMCell(UNITS, dropout=0.3, seed=1),
    "gru": lambda: keras.layers.GRUCell(UNITS, dropout=0.3, seed=1),
    "simple": lambda: keras.layers.SimpleRNNCell(UNITS, dropout=0.3, seed=1),
    "lstm, recurrent": lambda: keras.layers.LSTMCell(
        UNITS, dropout=0.3, recurrent_dropout=0.3, seed=1
    ),
    "gru, one by one": lambda: keras.layers.GRUCell(
        UNITS, dropout=0.3, implementation=1, seed=1
    ),
    "simple, recurrent": lambda: keras.layers.SimpleRNNCell(
        UNITS, recurrent_dropout=0.3, seed=1
    ),
    "stack": lambda: stack(dropout=0.3, recurrent_dropout=0.3),
    "own": lambda: OwnCell(rate=0.4),
    "residual": ResidualCell,
}
FAST = {"lstm", "gru", "simple"}


@pytest.fixture(autouse=True)
def double_precision():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", CELLS)
def test_equals_finite_differences(name):
    problem = Problem(CELLS[name]())
    assert uses_fast_scan(problem.cell, True) == (name in FAST)

    def loss_and_slope():
        results, gradients = problem.gradients(
            problem.scan, training=True, mask=mask_from(1)
        )
        loss = sum(tf.reduce_sum(r * random(*r.shape, seed=4)) for r in results)
        # Of the weights; inputs and states come first.
        slopes = gradients[-len(problem.variables) :]
        drawn = [tf.identity(v) for v in problem.changing]
        return results, loss, slopes, drawn

    _, _, slopes, drawn = loss_and_slope()
    directions = [
        random(*v.shape, seed=i) for i, v in enumerate(problem.variables)
    ]
    losses = []
    for step in (1e-6, -2e-6):
        for variable, direction in zip(
            problem.variables, directions, strict=True
        ):
            variable.assign_add(step * direction)
        losses.append(loss_and_slope()[1])
    found = sum(
        tf.reduce_sum(slope * direction)
        for slope, direction in zip(slopes, directions, strict=True)
    )
    expected = (losses[0] - losses[1]) / 2e-6
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # Something was drawn, and the generators stand where it left them.
    for now, before, after in zip(
        problem.changing, problem.start, drawn, strict=True
    ):
        assert now.numpy().tolist() == after.numpy().tolist()
        if name != "stack":
            assert now.numpy()[1] > before[1]


def test_equals_keras_with_the_same_masks():
    problem = Problem(CELLS["lstm"]())
    expected = problem.gradients(problem.keras, training=True)
    found = problem.gradients(problem.scan, training=True)
    assert_close(found, expected, tolerance=1e-10)
    without = problem.gradients(problem.scan, training=False)
    assert not np.allclose(found[0][0], without[0][0])


def test_masks_do_not_outlive_the_scan():
    problem = Problem(CELLS["lstm, recurrent"]())
    first = problem.scan(training=True)[0]
    second = problem.scan(training=True)[0]
    assert not np.allclose(first, second)


class NormalizedCell(OwnCell):
    """Counts moving statistics in training."""

    def __init__(self):
        super().__init__(rate=0.4)
        self.norm = keras.layers.BatchNormalization(momentum=0.5)


def test_moving_statistics_are_counted_once():
    cell = NormalizedCell()
    problem = Problem(cell)
    problem.scan(training=True)
    forward_only = [v.numpy() for v in problem.changing]
    problem.gradients(problem.scan, training=True)
    assert_close(problem.changing, forward_only, tolerance=0)
    mean = [v is cell.norm.moving_mean for v in problem.changing].index(True)
    assert not np.allclose(forward_only[mean], problem.start[mean])


def test_changing_variables_are_not_frozen_weights():
    cell = NormalizedCell()
    cell.build((None, 2))

    def changing():
        return {id(variable) for variable in changing_variables(cell)}

    seed = {id(cell.drop.seed_generator.state)}
    moving = {id(cell.norm.moving_mean), id(cell.norm.moving_variance)}
    assert changing() == seed | moving
    cell.dense.trainable = False
    assert len(cell.non_trainable_variables) == 5
    assert changing() == seed | moving
    cell.trainable = False
    assert changing() == seed


def test_parts_lists_every_layer_once():
    inner = keras.layers.GRUCell(2)
    cells = keras.layers.StackedRNNCells([inner, OwnCell(), inner])
    own = cells.cells[1]
    found = parts(cells)
    assert found[:3] == [cells, inner, own]
    assert set(found[3:]) == {own.dense, own.norm, own.drop}
    assert len(found) == 6
