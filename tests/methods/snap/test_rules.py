"""Cells that say their rule, rules that are none, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import BPTT, SnAp
from tests import zoo
from tests.methods import wide

L = keras.layers


class GatedCell(L.Layer):
    """A cell without cross-talk: h = z·h + (1 − z)·g; twice h comes out.

    A second state is a moving average of the first, with a weight of its own.
    """

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = self.output_size = units
        self.state_size = [units, units]

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 2 * self.units))
        self.own = self.add_weight(
            shape=(self.units,), initializer="random_normal"
        )
        self.rate = self.add_weight(shape=(self.units,), initializer="zeros")

    def call(self, inputs, states, training=False):
        row = keras.ops.matmul(inputs, self.kernel)
        rate = keras.ops.sigmoid(self.rate)
        new = self.move(row, self.own, rate, states)
        return 2.0 * new[0] + new[1], new

    @staticmethod
    def move(row, own, rate, states):
        z, g = keras.ops.split(row, 2, axis=-1)
        z = keras.ops.sigmoid(z + own * states[0])
        h = z * states[0] + (1.0 - z) * keras.ops.tanh(g)
        return [h, rate * states[1] + (1.0 - rate) * h]

    def trace_rule(self):
        rate = keras.ops.sigmoid(self.rate)  # a trace of what is made of it
        rows = [[("inputs", self.kernel)], [(None, self.own)], [(None, rate)]]
        return rows, lambda inputs, rows, states: self.move(*rows, states)


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("masked", [False, True])
def test_a_cell_of_ones_own(masked):
    keras.utils.set_random_seed(1)
    layer = L.RNN(GatedCell(), return_sequences=True)
    network = keras.Sequential([keras.Input((None, 2)), layer, L.Dense(2)])
    x, y = wide.data(5)
    if masked:
        mask = np.random.default_rng(1).random(x.shape[:2]) < 0.7
        reset = np.random.default_rng(2).random(x.shape[:2]) < 0.2
        x = {"inputs": x, "mask": mask, "reset": reset}
    exact = wide.estimate(network, BPTT(), x, y)
    found = wide.estimate(network, SnAp(2), x, y)
    assert wide.error(found, exact) < 1e-12


class OtherCell(GatedCell):
    """Its rule is that of another cell, or not element-wise, or too short."""

    def __init__(self, wrong, **kwargs):
        super().__init__(**kwargs)
        self.wrong = wrong

    def trace_rule(self):
        rows, step = super().trace_rule()

        def other(inputs, rows, states):
            h, m = step(inputs, rows, states)
            if self.wrong == "numbers":
                return [h + 0.1, m]
            if self.wrong == "states":
                return [h]
            return [h, m + 0.0 * h[..., ::-1] + (h - h[..., ::-1]) * 0.0]

        if self.wrong == "blocks":
            kernel = keras.ops.zeros((2, 1, 3))
            rows = [[("inputs", kernel)], *rows[1:]]
        if self.wrong == "width":
            rows = [[("inputs", self.kernel[:, :4])], *rows[1:]]
        return rows, other


class BlockCell(L.Layer):
    """Block-diagonal weights, of the input before and of the units.

    The input before is a state that no weight moves.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.state_size, self.output_size = [4, 6], 4

    def build(self, shape):
        first, second = (2, 3, 2), (2, 2, 2)
        self.kernel = self.add_weight(shape=first)
        self.recurrent = self.add_weight(shape=second)

    @staticmethod
    def matrix(kernel):
        kernel = keras.ops.convert_to_tensor(kernel)
        top, low = kernel[0], kernel[1]
        width = top.shape[-1]
        return keras.ops.concatenate(
            [
                keras.ops.pad(top, [(0, 0), (0, width)]),
                keras.ops.pad(low, [(0, 0), (width, 0)]),
            ]
        )

    def call(self, inputs, states, training=False):
        row = states[1] @ self.matrix(self.kernel)
        row += states[0] @ self.matrix(self.recurrent)
        h = keras.ops.tanh(row)
        return h, [h, inputs]

    def trace_rule(self):
        def step(inputs, rows, states):
            return [keras.ops.tanh(rows[0]), inputs]

        return [[(1, self.kernel), (0, self.recurrent)]], step


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_block_diagonal_weights_of_states():
    keras.utils.set_random_seed(1)
    layer = L.RNN(BlockCell(), return_sequences=True)
    network = keras.Sequential([keras.Input((None, 6)), layer, L.Dense(2)])
    recurrent = layer.cell.recurrent
    recurrent.assign(2.0 * recurrent * np.eye(2))
    x, y = np.random.default_rng(0).normal(size=(3, 5, 6)), wide.data(5)[1]
    exact = wide.estimate(network, BPTT(), x, y)
    found = wide.estimate(network, SnAp(2), x, y)
    assert wide.error(found, exact) < 1e-12
    e_prop = wide.estimate(network, SnAp(2, self_recurrence=False), x, y)
    assert wide.error(e_prop, exact) > 0.01


class TiedCell(GatedCell):
    """A cell with the kernel of another."""

    def __init__(self, other, **kwargs):
        super().__init__(**kwargs)
        self.other = other

    def build(self, shape):
        super().build(shape)
        self.kernel = self.other.kernel


class MixingCell(zoo.PlainCell):
    """A dense cell that is said to be none."""

    def trace_rule(self):
        def step(inputs, rows, states):
            back = tf.matmul(states[0], tf.convert_to_tensor(self.recurrent))
            return [0.7 * states[0] + tf.tanh(rows[0] + back)]

        return [[("inputs", self.kernel)]], step


@pytest.mark.parametrize(
    "cell, text",
    [
        (lambda: OtherCell("numbers"), "the cell's own new state, received an"),
        (lambda: OtherCell("states"), "Expected 2 new states"),
        (lambda: OtherCell("width"), "rows of a multiple of 3 units, received"),
        (lambda: OtherCell("blocks"), "3 units in a row of a block-diagonal"),
        (MixingCell, "units that depend on themselves"),
        (zoo.PlainCell, r"\(PlainCell\) has no trace rule.*a method `trace_ru"),
        (lambda: L.GRUCell(3, reset_after=False), "reset_after=False: a weig"),
        (
            lambda: L.LSTMCell(3, recurrent_dropout=0.5),
            "has recurrent_dropout=0.5",
        ),
        (
            lambda: L.SimpleRNNCell(3, activation="silu", dropout=0.5),
            "Put a keras.layers.Dropout before",
        ),
        (lambda: [L.GRUCell(3), L.GRUCell(2)], "is a stack of cells"),
    ],
)
def test_refused_cells(cell, text):
    layer = L.RNN(cell(), return_sequences=True, name="memory")
    model = SequenceModel.from_model(
        keras.Sequential([keras.Input((None, 2)), layer])
    )
    with pytest.raises(ValueError, match=f"'memory'.*{text}"):
        model.compile("sgd", "mse", method=SnAp(2))


def test_refused_models():
    x, layer = keras.Input((None, 3)), L.GRU(3, return_sequences=True)
    twice = SequenceModel(x, layer(layer(x)))
    with pytest.raises(ValueError, match="is called more than once"):
        twice.compile("sgd", "mse", method=SnAp(2))
    first = GatedCell()
    cells = first, TiedCell(first)
    first, second = (L.RNN(cell, return_sequences=True) for cell in cells)
    shared = SequenceModel(x, second(first(x)))
    with pytest.raises(ValueError, match="shared by the layers"):
        shared.compile("sgd", "mse", method=SnAp(2))
    with pytest.raises(ValueError, match="`length` must be an integer of 1"):
        SnAp(0)


def test_any_activation():
    keras.utils.set_random_seed(1)
    layer = L.SimpleRNN(3, activation="softsign", return_sequences=True)
    network = keras.Sequential([keras.Input((None, 2)), layer])
    wide.diagonal(layer)
    x, y = zoo.data()
    y = np.repeat(y[..., :1], 3, axis=-1)
    exact = wide.estimate(network, BPTT(), x, y)
    assert wide.error(wide.estimate(network, SnAp(2), x, y), exact) < 1e-5
