"""Models that cannot be cut in time, and numbers for them."""

import functools

import keras
import numpy as np

from tests.network.networks import L, signal

ROWS, STEPS, LATER = 6, 8, 5


def rnn(units=3, **options):
    return L.SimpleRNN(units, return_sequences=True, **options)


def convolved(steps=None):
    """Half as many steps as it is given, and normed."""
    return keras.Sequential(
        [
            signal(steps),
            L.Conv1D(4, 3, padding="same", activation="relu"),
            L.BatchNormalization(momentum=0.5),
            L.MaxPooling1D(2),
            L.LSTM(3, activity_regularizer="l2", return_sequences=True),
            L.Dense(2),
        ]
    )


def both_ways():
    return keras.Sequential(
        [signal(), L.Bidirectional(rnn(2)), L.GRU(3), L.Dense(2)]
    )


def read():
    """Words of padded rows, read from both ends."""
    layers = [L.Bidirectional(rnn(2)), L.Dense(3), L.GRU(3), L.Dense(2)]
    words = keras.Input((None,), dtype="int32")
    return keras.Sequential([words, L.Embedding(7, 3, mask_zero=True), *layers])


def from_its_end():
    """The end before the start, and an encoder that begins with the end."""
    inputs = signal()
    backwards = {"go_backwards": True, "return_state": True}
    hidden, state = L.GRU(3, return_sequences=True, **backwards)(
        L.Masking()(inputs)
    )
    hidden = L.Concatenate()([inputs, keras.ops.flip(hidden, axis=1)])
    hidden = L.GRU(3, return_sequences=True)(hidden, initial_state=state)
    return keras.Model(inputs, L.Dense(2)(hidden))


def in_between():
    """A convolution between two, and a head."""
    return keras.Sequential(
        [signal(STEPS), rnn(), L.Conv1D(2, 3), rnn(), L.Flatten(), L.Dense(2)]
    )


def translated():
    """A decoder that starts where the encoder ends, and looks back at it."""
    past = keras.Input((None,), dtype="int32")
    future = keras.Input((None,), dtype="int32")
    words = L.Embedding(7, 3, mask_zero=True)
    read, state = L.GRU(3, return_sequences=True, return_state=True)(
        words(past)
    )
    written = L.GRU(3, return_sequences=True)(
        words(future), initial_state=state
    )
    seen = L.MultiHeadAttention(1, 2)(written, read)
    joined = L.Concatenate()([written, seen])
    return keras.Model([past, future], L.Dense(2)(joined))


def encoded():
    """An autoencoder."""
    layers = [L.LSTM(3), L.RepeatVector(STEPS), rnn(), L.Dense(2)]
    return keras.Sequential([signal(STEPS), *layers])


def started():
    """From a state that is computed of a context."""
    inputs, context = signal(), keras.Input((2,))
    hidden = L.Conv1D(3, 3, padding="same")(inputs)
    hidden = rnn()(hidden, initial_state=L.Dense(3)(context))
    return keras.Model([inputs, context], L.Dense(2)(hidden))


NETWORKS = {
    "convolved": (convolved, [True]),
    "convolved, of a length": (
        functools.partial(convolved, STEPS),
        [True],
    ),
    "both ways": (both_ways, [True]),
    "read": (read, [True]),
    "from its end": (from_its_end, [True]),
    "in between": (in_between, [True]),
    "translated": (translated, [True, True]),
    "encoded": (encoded, [True]),
    "started": (started, [True, False]),
}


def data(network):
    draw = np.random.default_rng(0)
    x = []
    for place, each in enumerate(network.inputs):
        steps = LATER if place else STEPS
        if each.dtype == "int32":
            found = draw.integers(1, 7, (ROWS, steps))
            found[1, 3:] = 0
        elif len(each.shape) == 2:
            found = draw.normal(size=(ROWS, 2)).astype("float32")
        else:
            found = draw.normal(size=(ROWS, steps, 2)).astype("float32")
        x.append(found)
    x = x if len(x) > 1 else x[0]
    return x, draw.normal(size=network(x).shape).astype("float32")
