"""The inverse of a SimpleRNN's step, against numbers found in other ways."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.methods.regularized_inversion import simple_rnn
from keras_seqgrad.methods.regularized_inversion.inverse import (
    Steps,
    regularized_inverse,
)
from tests.methods.regularized_inversion import reference

MARGIN = 1e-3
ACTIVATIONS = ["tanh", "sigmoid", "relu", "linear"]
UNITS, FEATURES, ROWS = 4, 2, 5


def step_of(activation, seed=0):
    """A cell in float64 and one step through it, as the rules are given."""
    keras.utils.set_random_seed(seed)
    cell = keras.layers.SimpleRNNCell(
        UNITS, activation=activation, dtype="float64", bias_initializer="normal"
    )
    cell.build((None, FEATURES))
    inputs = keras.random.normal((1, ROWS, FEATURES), dtype="float64")
    before = keras.random.uniform((1, ROWS, UNITS), 0.1, 0.5, dtype="float64")
    outputs = cell(inputs[0], [before[0]])[0][tf.newaxis]
    return Steps(cell, inputs, before, outputs, UNITS)


def displacement(name, steps, activation, regularization, moved, rate=0.1):
    """d_{t-1} by a rule, from a displacement d_t."""
    rate = tf.constant(rate, "float64")
    series, back = simple_rnn.RULES[name](
        steps, activation, regularization, MARGIN, rate
    )
    return -rate * back(*[s[0] for s in series], -moved / rate)


@pytest.mark.parametrize("regularization", [0.1, 1.0, 10.0])
def test_regularized_inverse_is_the_least_squares_solution(regularization):
    generator = np.random.default_rng(0)
    matrix, rows = generator.normal(size=(2, 6, 6))
    found = rows @ regularized_inverse(matrix, regularization).numpy()
    expected = reference.solve(matrix, rows, regularization)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    other = reference.solve(matrix, rows, 1.2 * regularization)
    assert np.abs(found - other).max() > 1e-3


def test_regularized_inverse_of_a_singular_matrix():
    matrix = np.outer([1.0, 2.0], [1.0, 1.0])
    found = regularized_inverse(matrix, 1e-6).numpy()
    np.testing.assert_allclose(found, np.linalg.pinv(matrix), atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_small_regularization_inverts_the_step(activation):
    """f⁻¹(f(h)) = h, and f⁻¹(f(h + d)) − h = d, however large d."""
    steps = step_of(activation)
    if activation == "relu":
        # Every unit has to be active for the step to have an inverse.
        steps.cell.bias.assign(10.0 * np.ones(UNITS))
        after = steps.cell(steps.inputs[0], [steps.before[0]])[0]
        steps.outputs = after[tf.newaxis]
    moved = 0.2 * keras.random.normal((ROWS, UNITS), dtype="float64")
    after = steps.cell(steps.inputs[0], [steps.before[0] + moved])[0]
    given = after - steps.outputs[0]
    for name in ("difference", "none"):
        found = displacement(name, steps, activation, 1e-12, given)
        np.testing.assert_allclose(found, moved, atol=1e-6)
        found = displacement(name, steps, activation, 1.0, given)
        assert np.abs(found - moved).max() > 1e-2


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linearized_is_the_derivative_of_the_difference(activation):
    steps = step_of(activation)
    direction = keras.random.normal((ROWS, UNITS), dtype="float64")
    if activation == "relu":
        # An inactive unit has a one-sided derivative only.
        direction *= tf.cast(steps.outputs[0] > 0, "float64")
    small = 1e-6
    up, down = (
        displacement("difference", steps, activation, 0.3, sign * direction)
        for sign in (small, -small)
    )
    slope = displacement("linearized", steps, activation, 0.3, direction)
    expected = (up - down) / (2 * small)
    np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-8)
    large = displacement("difference", steps, activation, 0.3, 0.4 * direction)
    differs = np.abs(large - 0.4 * slope).max() > 1e-3
    assert differs == (activation != "linear")


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_values_at_the_limits_are_kept_away_from_them(activation):
    low = -1.0 if activation == "tanh" else 0.0
    value = tf.constant([low, 1.0, 7.0])
    found = simple_rnn.inverse_activation(value, activation, MARGIN)
    inside = simple_rnn.INVERSES[activation].value(
        tf.constant([low + MARGIN, 1 - MARGIN, 1 - MARGIN])
    )
    np.testing.assert_array_equal(found, inside)
    slope = simple_rnn.inverse_slope(value, activation, MARGIN)
    assert (slope.numpy() < 1.01 / MARGIN).all() and (slope > 100).numpy().all()


def test_relu_hands_nothing_back_through_inactive_units():
    value = tf.constant([0.0, 0.3])
    slope = simple_rnn.inverse_slope(value, "relu", MARGIN)
    np.testing.assert_array_equal(slope, [0.0, 1.0])
    found = simple_rnn.inverse_activation(
        tf.constant([-2.0, 0.3]), "relu", MARGIN
    )
    np.testing.assert_array_equal(found, np.float32([0.0, 0.3]))
