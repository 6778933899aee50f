"""What keeps displacements bounded over many steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.methods.regularized_inversion.rule import limited
from tests import zoo


def halves(steps, max_growth, **options):
    """A GRU of one unit with weights of 0: its update gate is 1/2."""
    network = keras.Sequential(
        [
            keras.Input((steps, 1)),
            keras.layers.GRU(
                1, kernel_initializer="zeros", recurrent_initializer="zeros"
            ),
        ]
    )
    model = ksg.SequenceModel.from_model(network)
    method = ksg.methods.RegularizedInversion(0.1, 1.0, max_growth=max_growth)
    model.compile("sgd", "mse", method=method, **options)
    return model, np.ones((1, steps, 1)), np.ones((1, 1))


def saturated(max_growth, on_bad_window="raise"):
    """A SimpleRNN whose step backward lengthens about 500 times."""
    network = keras.Sequential(
        [
            keras.Input((20, 1)),
            keras.layers.SimpleRNN(
                1,
                kernel_initializer=keras.initializers.Constant(9.0),
                recurrent_initializer="ones",
            ),
        ]
    )
    model = ksg.SequenceModel.from_model(network)
    method = ksg.methods.RegularizedInversion(0.1, 1e-3, max_growth=max_growth)
    model.compile("sgd", "mse", method=method, on_bad_window=on_bad_window)
    return model, np.ones((1, 20, 1)), np.zeros((1, 1))


def test_a_longer_row_is_shortened_and_keeps_its_direction():
    back = limited(lambda factor, delta: factor * delta, 1.5)
    delta = tf.constant([[3.0, 4.0], [3e-30, 4e-30], [0.0, 0.0], [3.0, 4.0]])
    factor = tf.constant([[2.0], [2.0], [2.0], [1.25]])
    expected = delta * [[1.5], [1.5], [0.0], [1.25]]
    np.testing.assert_allclose(back(factor, delta), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "max_growth, factors",
    [(None, [1, 1.6, 2.56, 4.096]), (1.0, [1, 1, 1, 1]), (2.0, None)],
)
def test_a_gru_that_forgets_lengthens_what_it_takes_back(max_growth, factors):
    """The direct way has z / (z² + a²) = 0.5 / 0.3125, whatever r is."""
    factors = factors or [1, 1.6, 2.56, 4.096]
    model, x, y = halves(4, max_growth)
    _, gradients = model.estimate_gradients(x, y)
    bias = np.asarray(gradients[2])
    # dL/dh = 2 (0 - 1); a bias of the candidate moves h by 1 - z.
    np.testing.assert_allclose(bias[0, 2], -2.0 * sum(factors) * 0.5, rtol=1e-5)


def test_the_error_of_a_bad_window_names_the_blow_up():
    model, x, y = saturated(None)
    with pytest.raises(ValueError, match=r"gradient is not.*max_growth=0\.9"):
        model.train_on_batch(x, y)
    x[0, 3] = np.nan
    with pytest.raises(ValueError, match="its input is not") as caught:
        model.train_on_batch(x, y)
    assert "max_growth" not in str(caught.value)


def test_with_a_limit_the_same_model_trains():
    model, x, y = saturated(1.0)
    model.train_on_batch(x, y)
    for weight in model.get_weights():
        assert np.isfinite(weight).all()


def test_refused_where_it_bounds_nothing():
    with pytest.raises(ValueError, match='propagation="difference"'):
        ksg.methods.RegularizedInversion(0.1, 1.0, "none", max_growth=1.0)


def test_is_saved():
    method = ksg.methods.RegularizedInversion(0.1, 1.0, max_growth=2)
    again = type(method).from_config(method.get_config())
    assert again.max_growth == 2.0


def test_by_name_a_model_that_is_not_saturated_learns_as_by_the_rule():
    x, y = zoo.data()
    found = []
    for method in ("regularized_inversion", None):
        method = method or ksg.methods.RegularizedInversion(0.01, 10.0)
        network = zoo.network("simple_rnn")
        model = ksg.SequenceModel.from_model(network)
        model.compile("sgd", "mse", method=method)
        found.append(model.estimate_gradients(x, y)[1])
    assert model.method.max_growth is None
    assert ksg.methods.get("regularized_inversion").max_growth == 0.9
    for mine, rule in zip(*found, strict=True):
        np.testing.assert_array_equal(mine, rule)
