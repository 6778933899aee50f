"""Calls of layers, cells, scans, optimizers, synthesisers and laws."""

import keras
import numpy as np

import keras_seqgrad as ksg
from tests.calls.kinds import Call

OF_CELL = {
    "units": "count",
    "dropout": "share or 0",
    "seed": "seed?",
}
MINIMAL = OF_CELL | {"candidate": "name", "use_bias": "flag"}
LRU = OF_CELL | {
    "output_size": "count?",
    "use_feedthrough": "flag",
    "min_radius": "share or 0",
    "max_radius": "share or 0",
    "max_phase": "0 or above",
}
RGLRU = OF_CELL | {
    "heads": "count",
    "min_radius": "share",
    "max_radius": "share",
}
QRNN = OF_CELL | {"window": "count", "pooling": "name", "use_bias": "flag"}
CONVOLUTION = {
    **{name: kind for name, kind in OF_CELL.items() if name != "units"},
    "filters": "count",
    "kernel_size": "count",
    "groups": "count",
    "activation": "function?",
    "use_bias": "flag",
}
UNITS = {"units": 2}


def cell_and_layer(name, kinds, given=UNITS):
    layers = ksg.layers
    layer, cell = getattr(layers, name), getattr(layers, f"{name}Cell")
    of_layer = kinds | {"truncation": "count?"}
    return {
        f"layers.{name}Cell": Call(cell, given, kinds),
        f"layers.{name}": Call(layer, given, of_layer),
    }


LAYERS = {
    **cell_and_layer("MinGRU", MINIMAL),
    **cell_and_layer("MinLSTM", MINIMAL),
    **cell_and_layer("LRU", LRU),
    **cell_and_layer("RGLRU", RGLRU),
    **cell_and_layer("QRNN", QRNN),
    **cell_and_layer(
        "CausalConv1D", CONVOLUTION, {"filters": 2, "kernel_size": 2}
    ),
    "layers.SimpleRNN": Call(
        ksg.layers.SimpleRNN,
        UNITS,
        {"units": "count", "truncation": "count?"},
    ),
    "layers.GRU": Call(
        ksg.layers.GRU,
        UNITS,
        {"units": "count", "truncation": "count?", "use_cudnn": "name"},
    ),
    "layers.LSTM": Call(
        ksg.layers.LSTM,
        UNITS,
        {"units": "count", "truncation": "count?", "use_cudnn": "name"},
    ),
    "layers.RNN": Call(
        ksg.layers.RNN,
        {"cell": keras.layers.SimpleRNNCell(2)},
        {"cell": "other", "truncation": "count?"},
    ),
}


def scan(function, blocks, states, **more):
    """A scan of one input and one unit."""
    row = np.zeros((2, 1), "float32")
    good = {
        "inputs": np.ones((2, 3, 1), "float32"),
        "state": [row] * states,
        "kernel": np.ones((1, blocks), "float32"),
        "recurrent_kernel": np.ones((1, blocks), "float32"),
        "bias": None,
        "reset": np.zeros((2, 3), bool),
    }
    kinds = dict.fromkeys(good, "other") | {
        "bias": "other?",
        "reset": "other?",
        "mask": "other?",
        "gates": "other?",
        "reset_state": "other?",
        "twin": "other?",
    }
    return Call(function, good, kinds | more)


OPS = {
    "ops.gru": scan(ksg.ops.gru, 3, 1, reset_after="flag"),
    "ops.lstm": scan(ksg.ops.lstm, 4, 2),
    "ops.simple_rnn": scan(ksg.ops.simple_rnn, 1, 1, activation="name"),
    "ops.linear_scan": Call(
        ksg.ops.linear_scan,
        {
            "coefficients": np.ones(1, "float32"),
            "inputs": np.ones((2, 3, 1), "float32"),
            "state": [np.zeros((2, 1), "float32")],
            "reset": np.zeros((2, 3), bool),
        },
        {
            "coefficients": "other",
            "inputs": "other",
            "state": "other",
            "mask": "other?",
            "gates": "other?",
            "reset": "other?",
            "reset_state": "other?",
            "method": "name",
        },
    ),
    "ops.rnn": Call(
        ksg.ops.rnn,
        {
            "step": lambda x, state: (x, state),
            "inputs": np.ones((2, 3, 1), "float32"),
            "state": [np.zeros((2, 1), "float32")],
            "mask": np.ones((2, 3), bool),
            "reset": np.zeros((2, 3), bool),
        },
        {
            "step": "step",
            "inputs": "other",
            "state": "state",
            "reset_state": "state?",
            "previous_output": "state?",
            "reset_output": "state?",
            "mask": "other?",
            "gates": "other?",
            "reset": "other?",
            "random_state": "list",
            "around": "step?",
        },
    ),
}

OTHERS = {
    "optimizers.FPTT": Call(
        ksg.optimizers.FPTT,
        {"inner": "sgd"},
        {
            "inner": "other",
            "alpha": "above 0",
            "beta": "share",
            "form": "name",
            "weight": "0 or above",
            "rho": "share or 0",
            "name": "path?",
        },
    ),
    "optimizers.FPTT.average": Call(
        lambda **given: ksg.optimizers.FPTT("sgd").average(**given),
        {},
        {"reset_multipliers": "flag"},
    ),
    "synthesizers.linear": Call(
        ksg.synthesizers.linear, {"size": 2}, {"size": "count"}
    ),
    "synthesizers.dense": Call(
        ksg.synthesizers.dense,
        {"size": 2},
        {"size": "count", "hidden": "count?"},
    ),
    "synthesizers.elementwise": Call(
        ksg.synthesizers.elementwise,
        {"size": 2},
        {"size": "count", "hidden": "count", "noise": "0 or above"},
    ),
    "synthesizers.get": Call(
        ksg.synthesizers.get,
        {"identifier": "linear", "size": 2},
        {"identifier": "name?", "size": "count"},
        {"identifier": "synthesizer"},
    ),
    "truncation.Fixed": Call(
        ksg.truncation.Fixed, {"length": 2}, {"length": "count"}
    ),
    "truncation.Fixed.gates": Call(
        lambda **given: ksg.truncation.Fixed(2).gates(**given),
        {"steps": 4},
        {"steps": "count", "batch_size": "count?"},
    ),
    "truncation.Random": Call(
        ksg.truncation.Random,
        {"mean_length": 4},
        {"mean_length": "above 2", "alpha": "above 2?", "hazard": "share?"},
    ),
    "truncation.Random.gates": Call(
        lambda **given: ksg.truncation.Random(4).gates(**given),
        {"steps": 4, "seed": (1, 2)},
        {"steps": "count", "batch_size": "count?", "seed": "other"},
    ),
    "truncation.Random.cut_probability": Call(
        lambda **given: ksg.truncation.Random(4).cut_probability(**given),
        {"age": [1, 2]},
        {"age": "age"},
    ),
    "truncation.Random.link_weights": Call(
        lambda **given: ksg.truncation.Random(4).link_weights(**given),
        {"steps": 4},
        {"steps": "count"},
    ),
    "truncation.Random.draw_lengths": Call(
        lambda **given: ksg.truncation.Random(4).draw_lengths(**given),
        {"count": 4, "generator": np.random.default_rng(0)},
        {"count": "count", "generator": "other", "longest": "count"},
    ),
}
