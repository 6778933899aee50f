"""Models that a careless check would let through: refused, or exactly right.

None of them is among the layers that the package knows by type.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo
from tests.network.networks import L, lstm, signal

ops = keras.ops
STEPS = 5


def layer(function, **kept):
    """A layer of the user's that runs `function(self, x, training)`."""

    class Own(L.Layer):
        def call(self, inputs, training=False):
            return function(self, inputs, training)

    own = Own(name="culprit")
    for name, value in kept.items():
        setattr(own, name, value)
    return own


def between(made, steps=None):
    """A network with `made` (Keras tensor to Keras tensor) in its midst."""
    inputs = signal(steps)
    return keras.Model(inputs, L.Dense(1)(lstm(2)(made(inputs))))


def behind(made):
    """The same behind the recurrent layer."""
    inputs = signal()
    return keras.Model(inputs, L.Dense(1)(made(lstm(2)(inputs))))


def centred(x):
    return x - ops.mean(x, axis=1, keepdims=True)


def in_training(function):
    return layer(lambda self, x, training: function(x) if training else x)


def counted(self, x, training):
    """Positions that a variable goes on counting."""
    steps = ops.shape(x)[1]
    self.count.assign_add(1.0)
    return x + 0.1 * self.count * ops.ones((1, steps, 1))


def counted_in_python(self, x, training):
    self.calls += 1
    return x * self.calls


def shuffled(self, x, training):
    if not training:
        return x
    return ops.roll(x, keras.random.randint((), 1, 3, seed=self.draws), axis=1)


def positions(self, x, training):
    return x + ops.cast(ops.arange(ops.shape(x)[1]), x.dtype)[:, None]


def delayed(steps):
    def delay(x):
        late = ops.pad(x, [[0, 0], [steps, 0], [0, 0]])
        return late[:, : ops.shape(x)[1]]

    return lambda x: L.Lambda(delay, name="culprit")(x)


def attention(x):
    scores = ops.softmax(ops.matmul(x, ops.swapaxes(x, 1, 2)), axis=-1)
    return ops.matmul(scores, x)


class Positions(L.Layer):
    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], initializer="normal")

    def call(self, inputs):
        return inputs + self.table


class FlippedMask(L.Layer):
    def __init__(self):
        super().__init__(name="culprit")
        self.supports_masking = True

    def call(self, inputs):
        return inputs + 0.0

    def compute_mask(self, inputs, mask):
        return None if mask is None else ops.flip(mask, axis=1)


class Reading(L.LSTM):
    """An LSTM whose `call` does more than the scan."""

    def call(self, sequences, initial_state=None, mask=None, training=False):
        sequences = 2.0 * sequences
        return super().call(sequences, initial_state, mask, training)


class Looping(L.GRU):
    def inner_loop(self, sequences, *args, **kwargs):
        return super().inner_loop(ops.tanh(sequences), *args, **kwargs)


class Doubling(keras.Model):
    def call(self, inputs, training=None):
        return 2.0 * super().call(inputs, training=training)


class LossyCell(zoo.PlainCell):
    def call(self, inputs, states, training=False):
        self.add_loss(ops.mean(inputs**2))
        return super().call(inputs, states)


class ClockCell(zoo.PlainCell):
    """A cell that counts its steps beside its state."""

    def build(self, shape):
        super().build(shape)
        self.clock = self.add_weight(shape=(), trainable=False, name="clock")

    def call(self, inputs, states, training=False):
        self.clock.assign_add(1.0)
        output, state = super().call(inputs, states)
        return output * self.clock, state


def patched_layer(name):
    def network():
        made = L.LSTM(2, return_sequences=True, name="culprit")
        method = getattr(made, name)
        setattr(made, name, lambda *args, **kwargs: method(*args, **kwargs))
        return keras.Sequential([signal(), made, L.Dense(1)])

    return network


def recurrent(made):
    return lambda: keras.Sequential([signal(), made(), L.Dense(1)])


def overriding():
    inputs = signal()
    return Doubling(inputs, L.Dense(1)(lstm(2)(inputs)), name="culprit")


def nested_overriding():
    inner = signal()
    inner = Doubling(inner, L.Dense(2)(inner), name="culprit")
    return between(inner)


def flipped_tokens():
    inputs = keras.Input((None,), dtype="int32")
    words = L.Embedding(3, 2)(ops.flip(inputs, axis=1))
    return keras.Model(inputs, L.Dense(1)(lstm(2)(words)))


def flipped_mask():
    inputs = keras.Input((None,), dtype="int32")
    words = FlippedMask()(L.Embedding(9, 2, mask_zero=True)(inputs))
    return keras.Model(inputs, L.Dense(1)(lstm(2)(words)))


REFUSED = {
    "cumulative layer": lambda: between(
        layer(lambda self, x, training: ops.cumsum(x, axis=1))
    ),
    "centring Lambda": lambda: behind(L.Lambda(centred, name="culprit")),
    "cumsum": lambda: between(lambda x: ops.cumsum(x, axis=1)),
    "flip": lambda: behind(lambda x: ops.flip(x, axis=1)),
    "roll": lambda: behind(lambda x: ops.roll(x, 1, axis=1)),
    "mean over time": lambda: between(centred),
    "maximum over time": lambda: between(
        lambda x: x / (1.0 + ops.max(ops.abs(x), axis=1, keepdims=True))
    ),
    "softmax over time": lambda: behind(lambda x: ops.softmax(x, axis=1)),
    "sort": lambda: between(lambda x: ops.sort(x, axis=1)),
    "last step": lambda: between(lambda x: x - x[:, -1:]),
    "first step": lambda: between(lambda x: x - x[:, :1]),
    "attention": lambda: behind(attention),
    "logarithm, mean": lambda: between(lambda x: centred(ops.log(x))),
    "root, flip": lambda: between(lambda x: ops.flip(ops.sqrt(x), axis=1)),
    "power, cumsum": lambda: between(lambda x: ops.cumsum(x**1.5, axis=1)),
    "log of 1 - x, roll": lambda: between(
        lambda x: ops.roll(ops.log(1.0 - x), 1, axis=1)
    ),
    "threshold, flip": lambda: between(
        lambda x: ops.flip(ops.relu(x - 9.0), axis=1)
    ),
    "values far away, flip": lambda: between(
        lambda x: ops.flip(ops.clip(x, -100.0, -99.0), axis=1)
    ),
    "tokens, flip": flipped_tokens,
    "mask, flip": flipped_mask,
    "a delay of a day": lambda: between(delayed(24)),
    "positions": lambda: between(layer(positions)),
    "positions learned": lambda: between(Positions(name="culprit"), STEPS),
    "centred in training": lambda: between(in_training(centred)),
    "delayed in training": lambda: behind(
        in_training(lambda x: ops.roll(x, 1, axis=1))
    ),
    "centred in inference": lambda: between(
        layer(lambda self, x, training: x if training else centred(x))
    ),
    "shuffled in training": lambda: between(
        layer(shuffled, draws=keras.random.SeedGenerator(1))
    ),
    "counter": lambda: between(
        layer(counted, count=keras.Variable(0.0, trainable=False))
    ),
    "counter in Python": lambda: between(layer(counted_in_python, calls=0)),
    "LSTM with a call": recurrent(
        lambda: Reading(2, return_sequences=True, name="culprit")
    ),
    "GRU with a loop": recurrent(
        lambda: Looping(2, return_sequences=True, name="culprit")
    ),
    "LSTM whose call is replaced": patched_layer("call"),
    "LSTM whose loop is replaced": patched_layer("inner_loop"),
    "model with a call": overriding,
    "nested model with a call": nested_overriding,
    "cell with losses": recurrent(
        lambda: L.RNN(LossyCell(2), return_sequences=True, name="culprit")
    ),
    "cell with a clock": recurrent(
        lambda: L.RNN(ClockCell(2), return_sequences=True, name="culprit")
    ),
}


def refusal(network):
    """The text by which `compile` refuses it: names the culprit, if any."""
    named = {network.name, *(layer.name for layer in network.layers)}
    model = ksg.SequenceModel.from_model(network)
    with pytest.raises(ValueError, match="(L|l)ayer '") as found:
        model.compile("sgd", "mse", method=ksg.methods.FPTT(2))
    text = str(found.value)
    assert ("'culprit'" in text) == ("culprit" in named)
    return text


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name):
    assert "report" not in refusal(REFUSED[name]())


class LeakyCell(L.LSTMCell):
    """A subclass of a cell that has a fast scan."""

    def call(self, inputs, states, training=False):
        output, state = super().call(inputs, states, training=training)
        return 0.5 * output, state


def patched_cell(made):
    """A network whose cell had its `call` replaced."""
    network = keras.Sequential([signal(), made, L.Dense(1)])
    cell = made.cell
    plain = cell.call

    def call(inputs, states, training=False):
        output, state = plain(inputs, states, training=training)
        return output + 1.0, state

    cell.call = call
    return network


class AddsLoss(L.Layer):
    def call(self, inputs):
        self.add_loss(ops.mean(ops.square(inputs)))
        return inputs


RIGHT = {
    "LSTM cell of one's own": recurrent(
        lambda: L.RNN(LeakyCell(2), return_sequences=True)
    ),
    "LSTM whose cell is replaced": lambda: patched_cell(lstm(2)),
    "GRU whose cell is replaced": lambda: patched_cell(
        L.GRU(2, return_sequences=True)
    ),
    "scaled in training": lambda: between(in_training(lambda x: 3.0 * x)),
    "layer with a loss": lambda: behind(AddsLoss()),
    "normalised features": lambda: behind(lambda x: ops.softmax(x, axis=-1)),
    "flipped features": lambda: between(lambda x: ops.flip(x, axis=-1)),
    "root of a step": lambda: between(lambda x: ops.sqrt(x + 9.0)),
}


def assert_right(network, x, y):
    """BPTT's gradient is that of Keras' tape, and segments give its outputs."""
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse")
    loss, found = model.estimate_gradients(x, y)
    mse = keras.losses.MeanSquaredError()
    expected_loss, expected = zoo.keras_gradients(network, x, y, mse)
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
    zoo.assert_same(found, expected)
    x = keras.tree.map_structure(tf.constant, x)
    state, outputs = model.start_state(x, zoo.BATCH), []
    for start, length in [(0, 2), (2, 2), (4, 1)]:
        piece = model.cut_inputs(x, start, length)
        made, state = model.run_segment(piece, state, training=True)
        outputs.append(made)
    wanted = network(x, training=True)
    np.testing.assert_allclose(tf.concat(outputs, 1), wanted, atol=1e-6)


@pytest.mark.parametrize("name", RIGHT)
def test_accepted_and_exactly_right(name):
    x, _ = zoo.data(STEPS)
    y = np.random.default_rng(1).normal(size=(zoo.BATCH, STEPS, 1))
    assert_right(RIGHT[name](), x, y.astype("float32"))


def test_a_class_whose_call_was_replaced_runs_its_own(monkeypatch):
    plain = L.LSTMCell.call

    def call(self, inputs, states, training=False):
        output, (h, c) = plain(self, inputs, states, training=training)
        return 2.0 * output, [h + 0.5, c]

    monkeypatch.setattr(L.LSTMCell, "call", call)
    x, _ = zoo.data(STEPS)
    y = np.zeros((zoo.BATCH, STEPS, 1), "float32")
    assert_right(recurrent(lambda: lstm(2))(), x, y)
