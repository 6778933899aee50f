"""Small networks in float64, and what methods estimate on them."""

import keras
import numpy as np

from keras_seqgrad import SequenceModel

UNITS, STEPS, ROWS, FEATURES = 3, 7, 3, 2
LAYERS = {
    "simple_rnn": keras.layers.SimpleRNN,
    "gru": keras.layers.GRU,
    "lstm": keras.layers.LSTM,
}


def diagonal(layer):
    """Takes what units feed each other out of a recurrent kernel."""
    kernel = layer.cell.recurrent_kernel
    blocks = kernel.shape[1] // kernel.shape[0]
    kernel.assign(2.0 * kernel * np.tile(np.eye(kernel.shape[0]), blocks))


def network(*kinds, dense=False, per_sequence=False, below=(), units=UNITS):
    """Recurrent layers, diagonal unless `dense`, and a readout."""
    keras.utils.set_random_seed(1)
    recurrent = [
        LAYERS[kind](
            units,
            return_sequences=not (per_sequence and place == len(kinds) - 1),
            bias_initializer="random_normal",
        )
        for place, kind in enumerate(kinds)
    ]
    first = below or [keras.Input((None, FEATURES))]
    made = keras.Sequential([*first, *recurrent, keras.layers.Dense(2)])
    for layer in () if dense else recurrent:
        diagonal(layer)
    return made


def data(steps=STEPS, per_sequence=False):
    draw = np.random.default_rng(0).normal
    shape = (ROWS, 2) if per_sequence else (ROWS, steps, 2)
    return draw(size=(ROWS, steps, FEATURES)), draw(size=shape)


def compiled(network, method, **options):
    """A `SequenceModel` of it whose weights stand still."""
    model = SequenceModel.from_model(network, **options)
    optimizer = keras.optimizers.SGD(0.0)
    model.compile(optimizer, "mse", method=method, run_eagerly=True)
    return model


def estimate(network, method, x, y, weight=None):
    """The gradient of a window by a method."""
    return compiled(network, method).estimate_gradients(x, y, weight)[1]


def error(found, expected):
    """Largest difference of two gradients, over the larger's scale."""
    return max(
        np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(b).max()
        for a, b in zip(found, expected, strict=True)
    )
