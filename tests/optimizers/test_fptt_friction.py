"""What the regulariser comes to where parameters move slowly."""

import keras
import pytest
import tensorflow as tf

from keras_seqgrad.optimizers import FPTT

FORMS = [("code", 1.0), ("paper", 0.5)]


@pytest.mark.parametrize("weight, rho", [(1.0, 0.0), (2.0, 0.5)])
@pytest.mark.parametrize("form, linear", FORMS)
def test_what_is_left_where_the_parameter_moves_steadily(
    form, linear, weight, rho
):
    """g' = g + alpha (c (1 - rho) / beta - weight) d, d the update."""
    rate, alpha, beta, gradient = 0.5, 0.4, 0.8, 1.0
    variable = keras.Variable(0.0, name="w")
    optimizer = FPTT(keras.optimizers.SGD(rate), alpha, beta, form, weight, rho)
    before = 0.0
    for _ in range(60):
        before = float(variable) if optimizer.built else 0.0
        optimizer.apply([tf.constant(gradient)], [variable])
    update = float(variable) - before
    friction = alpha * (linear * (1 - rho) / beta - weight)
    assert update == pytest.approx(-rate * (gradient + friction * update), 1e-4)


@pytest.mark.compiled
@pytest.mark.parametrize("form, alpha", [("code", 0.5), ("paper", 0.01)])
def test_a_friction_undoes_the_steps_of_adam(form, alpha):
    """Of the authors' setting, where gradients are small; not the default's."""
    variable = keras.Variable(0.0, name="w")
    optimizer = FPTT(keras.optimizers.Adam(1e-3), alpha, form=form)
    optimizer.build([variable])

    @tf.function
    def train():
        for _ in tf.range(300):
            optimizer.apply([tf.constant(1e-4)], [variable])

    train()
    # Adam alone goes as far as 300 times its rate.
    if form == "paper":
        assert optimizer.settings == FPTT("sgd").settings
        assert float(variable) == pytest.approx(-0.3, rel=0.02)
    else:
        assert float(variable) == pytest.approx(-300 * 1e-4 / alpha, rel=0.15)
