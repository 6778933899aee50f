"""The linear cells, and what each computes, in NumPy alone."""

import keras
import numpy as np

import keras_seqgrad as ksg

UNITS = 4

# Name: (class of the layer, its arguments).
LAYERS = {
    "lru": ("LRU", {}),
    "lru, narrow": ("LRU", {"output_size": 3, "use_feedthrough": False}),
    "min_gru": ("MinGRU", {}),
    "min_gru, positive": ("MinGRU", {"candidate": "positive"}),
    "min_lstm": ("MinLSTM", {"use_bias": False}),
    "min_lstm, positive": ("MinLSTM", {"candidate": "positive"}),
    "rg_lru": ("RGLRU", {"heads": 2}),
    "qrnn": ("QRNN", {}),
    "qrnn, f": ("QRNN", {"pooling": "f"}),
    "qrnn, one step": ("QRNN", {"window": 1}),
    "qrnn, one step, f": ("QRNN", {"window": 1, "pooling": "f"}),
    "qrnn, three steps": ("QRNN", {"window": 3}),
    "convolution": (
        "CausalConv1D",
        {"kernel_size": 3, "activation": "tanh", "bias_initializer": "ones"},
    ),
    "convolution, groups": ("CausalConv1D", {"kernel_size": 4, "groups": 2}),
    "convolution, depthwise": (
        "CausalConv1D",
        {"kernel_size": 2, "groups": UNITS, "use_bias": False},
    ),
    "convolution, one step": ("CausalConv1D", {"kernel_size": 1}),
}


def layer(name, **options):
    kind, given = LAYERS[name]
    return getattr(ksg.layers, kind)(UNITS, **given, **options)


def cell(name, **options):
    kind, given = LAYERS[name]
    return getattr(ksg.layers, f"{kind}Cell")(UNITS, **given, **options)


def σ(x):
    return 1.0 / (1.0 + np.exp(-x))


def positive(x):
    return np.where(x >= 0, x + 0.5, σ(x))


def outputs_of(cell, inputs):
    """What a built cell gives from zeros, one step after the other."""
    step = STEPS[type(cell).__name__]
    weights = {
        w.path.split("/")[-1]: w.numpy().astype("float64") for w in cell.weights
    }
    state, found = None, []
    for x in np.swapaxes(inputs, 0, 1):
        output, state = step(cell, weights, x, state)
        found.append(output)
    return np.stack(found, axis=1)


def lru(cell, w, x, s):
    units = cell.units
    s = np.zeros((len(x), units), complex) if s is None else s
    λ = np.exp(-np.exp(w["nu"]) + 1j * np.exp(w["theta"]))
    b = w["kernel"][:, :units] + 1j * w["kernel"][:, units:]
    c = w["output_kernel"][:units] + 1j * w["output_kernel"][units:]
    s = λ * s + np.exp(w["gamma"]) * (x @ b)
    y = (s @ c).real
    return (y + w["feedthrough"] * x if "feedthrough" in w else y), s


def min_gru(cell, w, x, h):
    z, row = np.split(x @ w["kernel"] + w.get("bias", 0.0), 2, axis=1)
    row = positive(row) if cell.candidate == "positive" else row
    h = (1 - σ(z)) * (0.0 if h is None else h) + σ(z) * row
    return h, h


def min_lstm(cell, w, x, h):
    f, i, row = np.split(x @ w["kernel"] + w.get("bias", 0.0), 3, axis=1)
    row = positive(row) if cell.candidate == "positive" else row
    f, i = σ(f), σ(i)
    h = f / (f + i) * (0.0 if h is None else h) + i / (f + i) * row
    return h, h


def rg_lru(cell, w, x, h):
    width = cell.units // cell.heads
    halves = [[], []]
    for place in range(cell.heads):
        part = x[:, place * width : (place + 1) * width]
        rows = part @ w["kernel"][place] + w["bias"][place]
        halves[0].append(rows[:, :width])
        halves[1].append(rows[:, width:])
    r, i = (σ(np.concatenate(half, axis=1)) for half in halves)
    a = np.exp(-8.0 * np.log1p(np.exp(w["decay"])) * r)
    h = i * x if h is None else a * h + np.sqrt(1 - a**2) * i * x
    return h, h


def qrnn(cell, w, x, state):
    c, seen = (0.0, []) if state is None else state
    seen = [x, *seen][: cell.window]
    rows = w["bias"] + sum(x @ w["kernel"][-1 - j] for j, x in enumerate(seen))
    z, f, *o = np.split(rows, rows.shape[1] // cell.units, axis=1)
    c = σ(f) * c + (1 - σ(f)) * np.tanh(z)
    return (σ(o[0]) * c if o else c), (c, seen)


def convolution(cell, w, x, seen):
    seen = [x, *(seen or [])][: cell.kernel_size]
    _, width, filters = w["kernel"].shape
    rows = np.zeros((len(x), filters)) + w.get("bias", 0.0)
    for j, x in enumerate(seen):
        for filter in range(filters):
            group = filter * cell.groups // filters
            part = x[:, group * width : (group + 1) * width]
            rows[:, filter] += part @ w["kernel"][-1 - j, :, filter]
    return np.tanh(
        rows
    ) if cell.activation is keras.activations.tanh else rows, seen


STEPS = {
    "LRUCell": lru,
    "MinGRUCell": min_gru,
    "MinLSTMCell": min_lstm,
    "RGLRUCell": rg_lru,
    "QRNNCell": qrnn,
    "CausalConv1DCell": convolution,
}
