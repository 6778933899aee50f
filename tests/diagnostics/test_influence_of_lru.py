"""The law of a linear recurrence, which the diagnostics must find.

Where all |λ| are r, the gradient by the state k steps before a loss is r^k of
that by the state at hand, whatever the angles.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.layers.scan import scan
from tests import zoo

STEPS, UNITS = 40, 3


def network(radius):
    keras.utils.set_random_seed(2)
    layer = ksg.layers.LRU(
        UNITS, min_radius=radius, max_radius=radius, return_sequences=True
    )
    return keras.Sequential([keras.Input((None, zoo.FEATURES)), layer])


@pytest.mark.slow
@pytest.mark.parametrize("radius", [0.6, 0.9])
def test_profile_and_suggestion_follow_the_radius(radius):
    model = ksg.SequenceModel.from_model(network(radius))
    model.compile("sgd", "mse", jit_compile=False)
    x, y = zoo.data(12)
    profile = ksg.diagnostics.influence_profile(model, x, y, 8, targets=4)
    norms = profile.norms["all"]
    powers = radius ** np.arange(8)
    np.testing.assert_allclose(norms[1:] / norms[1], powers, rtol=1e-3)
    assert profile.decay_rates["all"] == pytest.approx(radius, abs=1e-4)
    # norms[1] · r^(k-1) beyond lag k - 1, of norms[0] + norms[1] / (1 - r).
    beyond = norms[1] / (1 - radius)
    share = 0.05 * (norms[0] + beyond) / beyond
    expected = 1 + int(np.floor(np.log(share) / np.log(radius))) + 1
    found = ksg.diagnostics.suggest_truncation_length(profile, 0.05, stride=1)
    assert found == expected


def test_what_a_truncation_loses_decays_with_the_radius():
    """The gradient by what enters k steps or more before the loss."""
    radius = 0.8
    [layer] = network(radius).layers
    cell, inputs = layer.cell, tf.ones((1, STEPS, zoo.FEATURES))
    # One angle for all, 0: then the sum over older steps is geometric, too.
    cell.theta.assign([-20.0] * UNITS)
    kernel = cell.kernel.value

    def gradient(kept):
        gates = np.ones(STEPS)
        if kept:
            gates[STEPS - kept] = 0.0
        with tf.GradientTape() as tape:
            outputs, _ = scan(
                cell,
                inputs,
                layer.get_initial_state(1),
                gates=tf.constant(gates, "float32"),
            )
            loss = tf.reduce_sum(outputs[:, -1])
        return tape.gradient(loss, kernel).numpy()

    whole = gradient(None)
    lost = [np.linalg.norm(whole - gradient(kept)) for kept in (1, 2, 3, 6)]
    expected = radius ** np.array([1, 2, 3, 6])
    expected -= radius**STEPS
    np.testing.assert_allclose(
        lost / np.linalg.norm(whole), expected / (1 - radius**STEPS), rtol=1e-4
    )
