"""The general scan: one training step of layers that no fast scan serves.

`keras.Model` beside a `SequenceModel` of the same layers with BPTT() under XLA:
mean squared error on all outputs, plain SGD, one update by `train_on_batch`;
float32. Keras is measured both ways, with jit_compile up to 1000 steps, beyond
which its gradient grows with the square of the length. Milliseconds, and how
many times as long as ours the better of Keras' modes takes.
"""

import statistics

import keras

import keras_seqgrad as ksg
from benchmarks.layers import KERAS, SHAPES, data
from benchmarks.table import Table
from benchmarks.timing import medians, turns

layers = keras.layers


@keras.saving.register_keras_serializable("benchmarks")
class Leaky(layers.Layer):
    """A user's own cell: a state that leaks towards a tanh."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, input_shape):
        shapes = (input_shape[-1], self.units), (self.units, self.units)
        self.kernel, self.recurrent_kernel = map(self.add_weight, shapes)

    def call(self, inputs, states):
        ops = keras.ops
        new = ops.matmul(inputs, self.kernel)
        new = new + ops.matmul(states[0], self.recurrent_kernel)
        state = 0.9 * states[0] + 0.1 * ops.tanh(new)
        return state, [state]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def stacked(units):
    cells = [layers.LSTMCell(units), layers.LSTMCell(units)]
    return layers.RNN(cells, return_sequences=True)


KINDS = {
    "lstm_elu": lambda units: layers.LSTM(
        units, activation="elu", return_sequences=True
    ),
    "recurrent_dropout": lambda units: layers.LSTM(
        units, recurrent_dropout=0.1, return_sequences=True
    ),
    "stacked_cells": stacked,
    "own_cell": lambda units: layers.RNN(Leaky(units), return_sequences=True),
}


def arms(kind, shape):
    """Steps by name: Keras both ways, and ours."""
    x, y = data(shape)

    def step(jit):
        inputs = keras.Input(x.shape[1:])
        model = keras.Model(inputs, KINDS[kind](y.shape[-1])(inputs))
        options = {}
        if jit is None:
            model = ksg.SequenceModel.from_model(model)
            options = {"method": ksg.methods.BPTT()}
        optimizer = keras.optimizers.SGD(0.01)
        model.compile(optimizer, "mse", jit_compile=jit is not False, **options)
        return lambda: model.train_on_batch(x, y)

    found = {"Keras": step(False)}
    if shape[1] < 1000:
        found["Keras, jit"] = step(True)
    return {**found, "ours": step(None)}


def comparison(kind, shapes, rounds):
    """The table of a kind; its last line has the geometric mean."""
    rows, over = [], []
    for shape in shapes:
        found = medians(turns(arms(kind, shape), rounds))
        best = min(found[name] for name in KERAS if name in found)
        over.append(best / found["ours"])
        times = [
            f"{1e3 * found[name]:.1f}" if name in found else ""
            for name in (*KERAS, "ours")
        ]
        rows.append([", ".join(map(str, shape)), *times, f"{over[-1]:.2f}"])
    mean = f"{statistics.geometric_mean(over):.2f}"
    rows.append(["geometric mean", "", "", "", mean])
    head = ["batch, steps, inputs, units", *KERAS, "ours", "over Keras"]
    return Table(f"general/{kind}", head, rows)


def tables(quick):
    shapes = [(2, 5, 3, 4)] if quick else SHAPES
    for kind in KINDS:
        yield comparison(kind, shapes, 1 if quick else 5)
