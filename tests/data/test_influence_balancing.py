"""Influence balancing: its system, its figures, and SnAp on it by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad import SequenceModel, methods
from keras_seqgrad.data import tasks
from tests.data.test_tasks import draw


def run_cell(task, theta):
    """Loss and gradient of Keras' RNN over the cell, in double precision."""
    cell = tasks.InfluenceBalancingCell(dtype="float64")
    layer = keras.layers.RNN(cell, return_sequences=True, dtype="float64")
    x, y = draw(task, 1)
    layer.build(x.shape)
    cell.theta.assign(theta)
    with tf.GradientTape() as tape:
        loss = 0.5 * tf.reduce_mean((layer(x.astype("float64")) - y) ** 2)
    return loss, tape.gradient(loss, cell.theta.value)


def test_influence_balancing_matches_the_system_and_finite_differences():
    task = tasks.InfluenceBalancing(40)
    loss, gradient = task.gradient(0.5, 40)
    np.testing.assert_allclose(run_cell(task, 0.5), [loss, gradient], rtol=1e-6)
    above, below = (task.gradient(0.5 + e, 40)[0] for e in (1e-5, -1e-5))
    np.testing.assert_allclose((above - below) / 2e-5, gradient, rtol=1e-6)


@pytest.mark.slow
def test_influence_balancing_known_figures():
    task = tasks.InfluenceBalancing(10)
    assert task.sensitivity == -6 and task.optimum == -1 / 6
    assert task.reference_error == 8
    inverse = np.linalg.inv(np.eye(23) - task.matrix)
    np.testing.assert_allclose((inverse @ task.direction)[0], -6)
    np.testing.assert_allclose(task.truncated_sensitivity(10**5), -6, rtol=2e-3)
    signs = [task.truncated_sensitivity(k) > 0 for k in range(1, 300)]
    assert signs == [True] * 109 + [False] * (299 - 109)
    loss, gradient = task.gradient(task.optimum, 3000)
    late = task.gradient(task.optimum, 6000)
    assert late[0] < loss and abs(late[1]) < abs(gradient)


def test_truncated_sensitivity_is_the_gradient_of_a_window():
    task = tasks.InfluenceBalancing(60)
    cell = tasks.InfluenceBalancingCell(dtype="float64")
    layer = keras.layers.RNN(cell, return_sequences=True, dtype="float64")
    x = draw(task, 1)[0].astype("float64")
    layer.build(x.shape)
    with tf.GradientTape() as tape:
        mean = tf.reduce_mean(layer(x))
    slope = tape.gradient(mean, cell.theta.value)
    np.testing.assert_allclose(slope, task.truncated_sensitivity(60), rtol=1e-9)


def test_snap_follows_each_unit_of_influence_balancing_by_itself():
    layer = keras.layers.RNN(
        tasks.InfluenceBalancingCell(), return_sequences=True
    )
    network = keras.Sequential([keras.Input((3, 1)), layer])
    model = SequenceModel.from_model(network)
    model.compile("sgd", "mse", method=methods.SnAp(1))
    task = tasks.InfluenceBalancing(3)
    _, (found,) = model.estimate_gradients(*draw(task, 1))
    matrix, push = task.matrix, task.direction
    state, trace, expected = np.ones(23), np.zeros(23), 0.0
    for _ in range(3):
        state = matrix @ state + 0.5 * push
        # A step brings back both units it reads; of a unit's trace its own
        # half goes on, and not the half that goes to its neighbour.
        seen = push[0] + matrix[0] @ trace
        trace = 0.5 * trace + push
        expected += 2 * (state[0] - 1.0) * seen / 3
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_influence_balancing_cell_round_trips():
    layer = keras.layers.RNN(tasks.InfluenceBalancingCell(units=7, positive=2))
    copy = keras.layers.RNN.from_config(layer.get_config())
    assert (copy.cell.units, copy.cell.positive) == (7, 2)
    model = keras.Sequential([keras.Input((5, 1)), copy])
    assert [v.shape for v in model.trainable_variables] == [()]
