"""The true boundary gradient, by finite differences and beside guesses."""

import numpy as np
import pytest

import keras_seqgrad as ksg
from keras_seqgrad.methods import SyntheticGradients
from tests import zoo
from tests.methods.synthetic_gradients.synthesizing import Constant, Zero, make


def summed_loss(network, x, y, start, state):
    """Loss of every row, summed over the steps from `start` on."""
    gru, readout = network.layers
    made = gru(x[:, start:], initial_state=state)
    return np.mean((readout(made) - y[:, start:]) ** 2, axis=2).sum(axis=1)


def test_truth_against_finite_differences():
    x, y = zoo.data(8)
    network = zoo.network("gru")
    model = make(SyntheticGradients(3, Zero()), network)
    found = ksg.diagnostics.boundary_gradients(model, x, y)
    assert found.steps == [3, 6]
    for start, true in zip(found.steps, found.true, strict=True):
        state = network.layers[0](x[:, :start])[:, -1].numpy()
        for unit in range(3):
            shift = 1e-2 * np.eye(3, dtype="float32")[unit]
            above, below = (
                summed_loss(network, x, y, start, state + sign * shift)
                for sign in (1, -1)
            )
            expected = (above - below) / 2e-2
            np.testing.assert_allclose(true[:, unit], expected, atol=2e-3)


def test_measures():
    x, y = zoo.data()
    model = make(SyntheticGradients(3, Constant(2.0)), zoo.network("gru"))
    found = ksg.diagnostics.boundary_gradients(model, x, y)
    np.testing.assert_array_equal(found.guessed, np.full((2, 3, 3), 2.0))
    error = np.linalg.norm(found.true - 2.0) / np.linalg.norm(found.true)
    assert found.relative_error == pytest.approx(error)
    ones = np.ones(found.true.size)
    cosine = found.true.sum() / np.linalg.norm(found.true)
    assert found.cosine == pytest.approx(cosine / np.linalg.norm(ones))
    model = make(SyntheticGradients(3, Zero()), zoo.network("gru"))
    found = ksg.diagnostics.boundary_gradients(model, x, y)
    assert (found.cosine, found.relative_error) == (0.0, 1.0)


def test_changes_nothing():
    x, y = zoo.data()
    model = make(
        SyntheticGradients(3), zoo.network("gru", dropout=0.5), stateful=True
    )
    model.fit(x, y, 3, shuffle=False, verbose=0)
    before = [v.numpy() for v in zoo.everything(model)]
    ksg.diagnostics.boundary_gradients(model, x, y)
    for variable, value in zip(zoo.everything(model), before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_refusals():
    x, y = zoo.data()
    model = make("bptt", zoo.network("gru"))
    with pytest.raises(ValueError, match=r"Received: method=BPTT\("):
        ksg.diagnostics.boundary_gradients(model, x, y)
    model = make(SyntheticGradients(7), zoo.network("gru"))
    with pytest.raises(ValueError, match="more than length=7 steps, received"):
        ksg.diagnostics.boundary_gradients(model, x, y)
