"""The rule of a GRU's step, against numeric inverses of each of its ways."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.methods.regularized_inversion import gru, simple_rnn
from keras_seqgrad.methods.regularized_inversion.inverse import Steps
from tests.methods.regularized_inversion import reference

MARGIN = 1e-3
UNITS, FEATURES, ROWS = 3, 2, 4


def step_of(reset_after, seed=0, **biases):
    """A cell in float64 and a step of it; biases are set by gate."""
    keras.utils.set_random_seed(seed)
    cell = keras.layers.GRUCell(
        UNITS,
        reset_after=reset_after,
        dtype="float64",
        bias_initializer="normal",
    )
    cell.build((None, FEATURES))
    bias = cell.bias.numpy()
    for place, gate in enumerate("zrg"):
        if gate in biases:
            where = slice(place * UNITS, (place + 1) * UNITS)
            bias[..., where] = biases[gate] / (2 if reset_after else 1)
    cell.bias.assign(bias)
    inputs = keras.random.normal((1, ROWS, FEATURES), dtype="float64")
    before = keras.random.uniform((1, ROWS, UNITS), -0.6, 0.6, dtype="float64")
    outputs = cell(inputs[0], [before[0]])[0][tf.newaxis]
    return Steps(cell, inputs, before, outputs, UNITS)


def go_back(steps, moved, regularization):
    series, back = gru.linearized(
        steps, "tanh", regularization, MARGIN, tf.constant(1.0, "float64")
    )
    return back(*[s[0] for s in series], moved).numpy()


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


class Ways:
    """A GRU step in NumPy in which each way has an h of its own."""

    def __init__(self, steps):
        self.reset_after = steps.cell.reset_after
        kernel, self.recurrent, self.bias = steps.cell.get_weights()
        self.matrices = np.split(self.recurrent, 3, axis=1)
        self.rows = np.split(steps.inputs[0].numpy() @ kernel, 3, axis=1)
        self.h = steps.before[0].numpy()

    def bias_of(self, place):
        bias = np.atleast_2d(self.bias)
        return [row[place * UNITS : (place + 1) * UNITS] for row in bias]

    def pre(self, place, h):
        """Pre-activation of a gate, h·U_m and its biases included."""
        total = self.rows[place] + h @ self.matrices[place]
        return total + sum(self.bias_of(place))

    def step(self, u_0=0.0, u_z=0.0, u_r=0.0, u_g=0.0):
        """h_t with displacements of h and of the gates' h·U_m."""
        z = sigmoid(self.pre(0, self.h) + u_z)
        r = sigmoid(self.pre(1, self.h) + u_r)
        if self.reset_after:
            outer, inner = self.bias_of(2)
            k = self.h @ self.matrices[2] + inner + u_g
            g = np.tanh(self.rows[2] + outer + r * k)
        else:
            product = (r * self.h) @ self.matrices[2] + u_g
            g = np.tanh(self.rows[2] + self.bias_of(2)[0] + product)
        return z * (self.h + u_0) + (1 - z) * g

    def factor(self, way):
        """Numeric derivative of h_t by a displacement, unit by unit."""
        small = 1e-6
        up, down = (self.step(**{way: s * small}) for s in (1, -1))
        return (up - down) / (2 * small)


@pytest.mark.parametrize("reset_after", [True, False])
def test_gates_are_those_of_the_cell(reset_after):
    steps = step_of(reset_after)
    z, _, g, _ = (gate[0].numpy() for gate in gru.gates(steps))
    expected = steps.outputs[0].numpy()
    np.testing.assert_allclose(
        z * steps.before[0] + (1 - z) * g, expected, rtol=1e-9
    )
    np.testing.assert_allclose(Ways(steps).step(), expected, rtol=1e-6)


def least_shares(factors, moved):
    """The u of least norm with Σ a·u = d, by a pseudo-inverse a unit."""
    stacked = np.stack(factors, axis=-1)
    inverse = np.linalg.pinv(stacked[..., np.newaxis, :])[..., 0]
    return np.moveaxis(inverse * moved[..., np.newaxis], -1, 0)


@pytest.mark.parametrize("regularization", [0.01, 1.0])
@pytest.mark.parametrize("reset_after", [True, False])
def test_each_way_takes_its_share_through_its_own_inverse(
    reset_after, regularization
):
    """Numeric derivatives, pseudo-inverses and least squares, no formula."""
    steps = step_of(reset_after)
    ways = Ways(steps)
    moved = np.random.default_rng(1).normal(size=(ROWS, UNITS))
    names = ["u_0", "u_z", "u_r", "u_g"]
    to_z, to_r, to_g = ways.matrices
    if reset_after:
        factors = [ways.factor(name) for name in names]
        u_0, u_z, u_r, u_g = least_shares(factors, moved)
        expected = u_0 + reference.solve(to_g, u_g, regularization)
    else:
        factors = [ways.factor(name) for name in names if name != "u_r"]
        u_0, u_z, u_g = least_shares(factors, moved)
        product = reference.solve(to_g, u_g, regularization)
        r = sigmoid(ways.pre(1, ways.h))
        u_h, u_r = least_shares([r, ways.h * r * (1 - r)], product)
        expected = u_0 + u_h
    expected = expected + reference.solve(to_z, u_z, regularization)
    expected = expected + reference.solve(to_r, u_r, regularization)
    found = go_back(steps, moved, regularization)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    other = go_back(steps, moved, 1.5 * regularization)
    assert np.abs(other - expected).max() > 1e-3


@pytest.mark.parametrize("reset_after", [True, False])
def test_a_gate_that_keeps_the_state_hands_all_back(reset_after):
    steps = step_of(reset_after, z=40.0)
    moved = np.random.default_rng(1).normal(size=(ROWS, UNITS))
    np.testing.assert_allclose(go_back(steps, moved, 1.0), moved, rtol=1e-6)
    open_steps = step_of(reset_after, z=0.0)
    assert np.abs(go_back(open_steps, moved, 1.0) - moved).max() > 0.1


@pytest.mark.parametrize("reset_after", [True, False])
def test_without_gates_it_is_the_rule_of_a_simple_rnn(reset_after):
    """z = 0 and r = 1 leave h_t = tanh(x·W_g + h·U_g + b)."""
    steps = step_of(reset_after, z=-40.0, r=40.0)
    simple = keras.layers.SimpleRNNCell(UNITS, dtype="float64")
    simple.build((None, FEATURES))
    kernel, recurrent, bias = steps.cell.get_weights()
    bias = np.atleast_2d(bias).sum(axis=0)
    last = slice(2 * UNITS, None)
    simple.set_weights([kernel[:, last], recurrent[:, last], bias[last]])
    twin = Steps(simple, steps.inputs, steps.before, steps.outputs, UNITS)
    after = simple(steps.inputs[0], [steps.before[0]])[0]
    np.testing.assert_allclose(after, steps.outputs[0], rtol=1e-9)
    moved = np.random.default_rng(1).normal(size=(ROWS, UNITS))
    series, back = simple_rnn.linearized(twin, "tanh", 0.5, MARGIN, None)
    expected = back(*[s[0] for s in series], moved)
    found = go_back(steps, moved, 0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    opened = step_of(reset_after, z=-1.0, r=40.0)
    assert np.abs(go_back(opened, moved, 0.5) - expected).max() > 1e-2


def test_a_unit_that_nothing_moves_gets_no_infinite_share():
    found = gru.shares([tf.zeros(2), tf.constant([0.0, 1e-9])], MARGIN)
    np.testing.assert_allclose(found, [[0, 0], [0, 1e-3]], rtol=1e-5)
