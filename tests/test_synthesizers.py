"""Networks that start at zero, and how they are asked for."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad import synthesizers


@pytest.mark.parametrize("name", synthesizers.BY_NAME)
def test_untrained_they_guess_nothing(name):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = synthesizers.get(name, 6)
        guess = network(np.ones((4, 6), "float32"))
    finally:
        keras.config.set_dtype_policy("float32")
    assert guess.shape == (4, 6) and guess.dtype == "float32"
    assert not np.any(guess)


def test_counts_of_weights():
    assert synthesizers.linear(6).count_params() == 6 * 6 + 6
    assert synthesizers.dense(6, 4).count_params() == 6 * 4 + 4 + 4 * 6 + 6
    assert synthesizers.dense(6).count_params() == 2 * (6 * 6 + 6)
    shared = 2 * 5 + 3 * (5 * 5 + 5) + 6
    assert synthesizers.elementwise(6, 5).count_params() == shared


def test_elementwise_by_hand():
    network = synthesizers.elementwise(3, hidden=1, noise=0.0)
    numbers = {"spread": 2.0, "forget": 0.3, "candidate": 0.7, "output": 1.5}
    for name, number in numbers.items():
        network.get_layer(name).set_weights(
            [np.float32([[number]]), np.float32([0.1])]
        )
    network.layers[-2].set_weights([np.float32([[4.0]]), np.float32([0.1])])
    value = np.float32([[0.5, -1.0, 2.0]])
    u = 2.0 * value + 0.1

    def sigmoid(z):
        return 1 / (1 + np.exp(-z))

    forget, made = sigmoid(0.3 * u + 0.1), np.tanh(0.7 * u + 0.1)
    shown = sigmoid(1.5 * u + 0.1)
    expected = 4.0 * shown * (1 - forget) * made + 0.1
    np.testing.assert_allclose(network(value), expected, rtol=1e-5)


def test_noise_has_the_deviation_asked_for():
    network = synthesizers.elementwise(4000, noise=0.5)
    noise = next(
        layer
        for layer in network.layers
        if isinstance(layer, keras.layers.GaussianDropout)
    )
    drawn = noise(tf.ones((1, 4000, 1)), training=True).numpy()
    assert drawn.mean() == pytest.approx(1, abs=0.03)
    assert drawn.std() == pytest.approx(0.5, abs=0.03)


@pytest.mark.compiled
@pytest.mark.parametrize("noise, alike", [(0.0, True), (0.5, False)])
def test_xla_draws_other_noise_from_the_same_seed(noise, alike):
    """All else of the network is the same under XLA and without."""
    found = []
    for jit in (False, True):
        keras.utils.set_random_seed(0)
        network = synthesizers.elementwise(5, hidden=4, noise=noise)
        network.layers[-2].set_weights([np.ones((4, 1)), np.zeros(1)])
        run = tf.function(network, jit_compile=jit)
        found.append(run(tf.ones((3, 5)), training=True).numpy())
    assert np.ptp(found[0]) > 0 or not noise
    assert np.allclose(*found, rtol=1e-5) is alike


def test_what_is_taken_for_a_synthesiser():
    given = keras.layers.Dense(3)
    assert synthesizers.get(given, 3) is given
    made = synthesizers.get(lambda size: keras.layers.Dense(size), 3)
    assert made.units == 3
    assert synthesizers.get(None, 3).name == "dense"
    for wrong in ("deep", 3, lambda size: size):
        with pytest.raises(ValueError, match="'dense', 'elementwise', 'linea"):
            synthesizers.get(wrong, 3)
    with pytest.raises(ValueError, match="`noise` must be 0 or above"):
        synthesizers.elementwise(3, noise=-1.0)
