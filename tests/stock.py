"""A stock Keras model beside a SequenceModel, and how they are compared."""

import keras
import numpy as np

import keras_seqgrad as ksg
from tests import zoo

L = keras.layers
ROWS, STEPS = 6, 4


def pair(network, **options):
    """A stock model and a SequenceModel on a copy of it, compiled alike."""
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    model = ksg.SequenceModel.from_model(copy)
    compiled = {"optimizer": "sgd", "loss": "mse", **options}
    for each in network, model:
        made = {k: v() if callable(v) else v for k, v in compiled.items()}
        each.compile(**made)
    return network, model


def numbers(outputs=2, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(ROWS, STEPS, 2)).astype("float32")
    x[0, -1:] = 0
    x[5, -3:] = 0
    y = generator.normal(size=(ROWS, STEPS, outputs)).astype("float32")
    return x, y


def weights_of(*shape, seed=5):
    return np.random.default_rng(seed).random(shape).astype("float32")


def assert_same_training(stock, model, *args, tolerance=1e-5, **kwargs):
    """Fits both and compares logs and weights; they must have moved."""
    before = [np.array(w) for w in stock.get_weights()]
    kwargs = {"batch_size": 3, "epochs": 1, "shuffle": False, **kwargs}
    expected = stock.fit(*args, verbose=0, **kwargs).history
    found = model.fit(*args, verbose=0, **kwargs).history
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(
            found[name], expected[name], rtol=10 * tolerance, err_msg=name
        )
    wanted = stock.get_weights()
    zoo.assert_same(model.network.get_weights(), wanted, tolerance)
    assert zoo.differ(wanted, before)


def simple(masked=False, **readout):
    layers = [keras.Input((None, 2)), *([L.Masking()] if masked else [])]
    layers += [L.SimpleRNN(3, return_sequences=True), L.Dense(2, **readout)]
    return keras.Sequential(layers)
