"""More models that must be refused by name, or be exactly right."""

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from tests import zoo
from tests.network.networks import L, lstm, signal
from tests.network.test_attacks import (
    STEPS,
    assert_right,
    behind,
    between,
    centred,
    delayed,
    in_training,
    layer,
    recurrent,
    refusal,
)

ops = keras.ops
NAME = {"name": "culprit"}


def head(hidden):
    return L.Dense(1)(lstm(2)(hidden))


def pictures(made):
    """A network on pictures (time, 4, 1), whose axis 1 is time to us."""
    inputs = keras.Input((None, 4, 1))
    return keras.Model(inputs, head(L.Reshape((-1, 4))(made(inputs))))


def noisy(function, size=1e-9):
    """A layer that draws in training, too little to show."""

    def call(self, x, training):
        made = function(x)
        draw = keras.random.normal(ops.shape(made), seed=self.draws)
        return made + size * draw if training else made

    return layer(call, draws=keras.random.SeedGenerator(1))


class Rolling(L.Dropout):
    def call(self, inputs, training=False):
        rolls = training and self.rate > 0
        return ops.roll(inputs, 1, axis=1) if rolls else inputs


class Block(L.Layer):
    """Hides a recurrent layer."""

    def __init__(self):
        super().__init__(**NAME)
        self.inside = lstm(2)

    def build(self, shape):
        self.inside.build(shape)

    def call(self, inputs):
        return self.inside(inputs)


class Cell(L.Layer):
    """A user's cell, of some layer between input and state."""

    def __init__(self, inside, state=(2,), **options):
        super().__init__(**options)
        self.state_size, self.inside = list(state), inside
        self.readout = L.Dense(2, activation="tanh")

    def build(self, shape):
        self.inside.build((None, shape[-1]))
        self.readout.build((None, shape[-1] + 2))
        self.built = True

    def get_initial_state(self, batch_size=None):
        first = 0.3 * ops.ones((batch_size, 2))
        counts = ops.zeros((batch_size, 1), dtype="int32")
        return [first, counts][: len(self.state_size)]

    def call(self, inputs, states, training=False):
        inputs = self.inside(inputs, training=training)
        new = self.readout(ops.concatenate([inputs, states[0]], axis=-1))
        if len(states) == 1:
            return new, [new]
        odd = ops.cast(states[1] % 2, new.dtype)
        return new * (1.0 + odd), [new, states[1] + 1]


class MaskSoFar(L.Layer):
    """A mask that depends on the steps before."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True

    def call(self, inputs):
        return 1.0 * inputs

    def compute_mask(self, inputs, mask=None):
        out = ops.cumsum(ops.cast(ops.logical_not(mask), "int32"), axis=1)
        return ops.equal(out, 0)


def tokens(made, dtype="int32"):
    inputs = keras.Input((None,), dtype=dtype)
    return keras.Model(inputs, head(made(inputs)))


def two_rates():
    first, second = signal(), signal()
    joined = L.Concatenate()([first, L.UpSampling1D(2, **NAME)(second)])
    return keras.Model([first, second], head(joined))


def hidden_in_half():
    inputs = signal()
    small = L.Lambda(lambda x: x + 0.01 * centred(x), dtype="float16", **NAME)
    return keras.Model(inputs, L.Dense(1)(lstm(2)(small(inputs))))


def frozen_by_step():
    norm = L.BatchNormalization(axis=1, **NAME)
    norm.trainable = False
    return between(norm, STEPS)


REFUSED = {
    "group normalisation": lambda: between(L.GroupNormalization(2, **NAME)),
    "layer normalisation": lambda: behind(L.UnitNormalization(1, **NAME)),
    "frozen statistics by step": frozen_by_step,
    "statistics of all steps": lambda: between(
        L.TimeDistributed(L.BatchNormalization(), **NAME)
    ),
    "causal convolution": lambda: between(
        L.Conv1D(2, 2, padding="causal", **NAME)
    ),
    "strides": lambda: between(L.Conv1D(2, 1, strides=2, **NAME)),
    "pooling": lambda: between(
        L.MaxPooling1D(3, strides=1, padding="same", **NAME)
    ),
    "padding": lambda: between(L.ZeroPadding1D((1, 0), **NAME)),
    "cropping": lambda: between(L.Cropping1D((1, 0), **NAME)),
    "softmax over time": lambda: behind(L.Softmax(1, **NAME)),
    "products of steps": lambda: behind(
        lambda hidden: L.Dot((1, 1), **NAME)([hidden, hidden])
    ),
    "weights by step": lambda: between(
        L.EinsumDense("abc,bd->adc", output_shape=(STEPS, 2), **NAME), STEPS
    ),
    "a hidden layer": lambda: behind(Block()),
    "two rates": two_rates,
    "a delay of a year": lambda: between(delayed(365)),
    "steps by their number": lambda: between(
        L.Lambda(lambda x: x / ops.cast(ops.shape(x)[1], x.dtype), **NAME)
    ),
    "largest step": lambda: between(
        L.Lambda(lambda x: x - ops.take(x, ops.argmax(x[0, :, 0]), 1)[:, None])
    ),
    "a mask of those before": lambda: tokens(
        lambda x: MaskSoFar()(L.Embedding(5, 2, mask_zero=True)(x))
    ),
    "a little in training": lambda: between(
        in_training(lambda x: x + 0.01 * centred(x))
    ),
    "noise, then smoothed": lambda: behind(
        noisy(lambda x: x + ops.roll(x, 1, axis=1), 0.1)
    ),
    "a noise of the user's": lambda: behind(Rolling(0.5, **NAME)),
    "turned at random": lambda: pictures(L.RandomFlip("vertical", **NAME)),
    "contrast at random": lambda: pictures(
        L.RandomContrast(0.5, value_range=(0, 1), **NAME)
    ),
    "a mean below half precision": hidden_in_half,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name):
    assert "found no answer" not in refusal(REFUSED[name]())


def test_refused_with_what_to_write_instead():
    fixed = between(lambda x: L.Reshape((STEPS, 2))(x + 0.0), STEPS)
    first, second = signal(STEPS, name="a"), signal(4, name="b")
    two = keras.Model([first, second], L.GRU(2)(first) + L.GRU(2)(second))
    for network, text in {
        fixed: r"Reshape\(\(-1, 2\)\) makes any",
        behind(lambda x: x[:, 1]): "layer with return_sequences=False",
        two: r"of steps: \{'a': 5, 'b': 4\}",
        behind(L.Softmax(1)): "a mean by learned shares is two sums",
        behind(lambda x: ops.softmax(x, -2)): "a mean by learned shares",
    }.items():
        with pytest.raises(ValueError, match=text):
            ksg.SequenceModel.from_model(network).compile(
                "sgd", "mse", method=ksg.methods.FPTT(2)
            )


def integers(*shape):
    return np.random.default_rng(4).integers(0, 5, shape).astype("int32")


X = zoo.data(STEPS)[0]
IDS = integers(zoo.BATCH, STEPS)
WORDS = np.array(["a", "b", "c", "", "e"])[IDS]


def conditioned():
    """Noise on what is scaled by numbers of the sequence."""
    inputs, context = signal(), keras.Input((2,))
    noise = noisy(lambda pair: pair[0] * pair[1][:, None])
    return keras.Model([inputs, context], head(noise([inputs, context])))


def words():
    lookup = L.StringLookup(vocabulary=["a", "b"], mask_token="")
    embed = L.Embedding(4, 2, mask_zero=True)
    return tokens(lambda x: embed(lookup(x)), dtype="string")


def bands():
    """Convolution and pooling along the second axis of pictures."""
    inputs = keras.Input((None, 4, 1))
    hidden = L.Conv2D(2, (1, 3), padding="same")(inputs)
    hidden = L.Reshape((-1, 4))(L.MaxPooling2D((1, 2))(hidden))
    return keras.Model(inputs, head(hidden))


def inner_attention():
    inputs, inner = keras.Input((None, 2, 2)), keras.Input((2, 2))
    attended = L.MultiHeadAttention(1, 2)(inner, inner)
    inner = keras.Model(inner, L.GlobalAveragePooling1D()(attended))
    return keras.Model(inputs, head(L.TimeDistributed(inner)(inputs)))


def both_ways_in_a_step():
    inputs = keras.Input((None, 2, 2))
    within = L.TimeDistributed(L.Bidirectional(L.SimpleRNN(1)))
    return keras.Model(inputs, head(within(inputs)))


PICTURES = np.repeat(X[..., None], 2, axis=2)
PAIRS = X[..., None] + np.zeros(2, "float32")
RIGHT = {
    "words": (words, WORDS),
    "hashed words": (
        lambda: tokens(
            lambda x: L.Embedding(5, 2)(L.Hashing(5)(x)), dtype="string"
        ),
        WORDS,
    ),
    "days of the week": (
        lambda: tokens(lambda x: L.Embedding(7, 2)(ops.mod(x // 24, 7))),
        1000 * IDS,
    ),
    "bands": (bands, PICTURES),
    "attention within a step": (inner_attention, PAIRS),
    "both ways within a step": (both_ways_in_a_step, PAIRS),
    "a normed and counting cell": (
        recurrent(
            lambda: L.RNN(
                Cell(L.LayerNormalization(), (2, 1)), return_sequences=True
            )
        ),
        X,
    ),
    "statistics in a cell": (
        recurrent(
            lambda: L.RNN(Cell(L.BatchNormalization()), return_sequences=True)
        ),
        X,
    ),
    "a root beside noise": (
        lambda: between(noisy(lambda x: ops.sqrt(ops.relu(x) + 1e-9))),
        X,
    ),
    "noise on conditions": (conditioned, [X, X[:, 0]]),
    "masked inside": (
        lambda: between(lambda x: L.Masking()(ops.relu(L.Dense(2)(x)))),
        X,
    ),
    "double precision": (
        recurrent(lambda: lstm(2, dtype="float64")),
        X,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
def test_accepted_and_exactly_right(name):
    made, x = RIGHT[name]
    assert_right(made(), x, np.zeros((zoo.BATCH, STEPS, 1), "float32") + 0.5)


def test_a_cell_that_draws_and_gives_its_last_output():
    cell = Cell(noisy(lambda x: x))
    network = keras.Sequential([signal(), L.RNN(cell), L.Dense(1)])
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse")
    y = np.zeros((zoo.BATCH, 1), "float32")
    mse = keras.losses.MeanSquaredError()
    zoo.assert_same(
        model.estimate_gradients(X, y)[1],
        zoo.keras_gradients(network, X, y, mse)[1],
    )
