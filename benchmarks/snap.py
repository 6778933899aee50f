"""Time a token of SnAp over that of truncation at the same length.

One recurrent layer on characters (an embedding of 64, a readout of 100), batch
32, windows of 200 steps in segments of 10 and of 50, Adam, XLA. Both arms make
an update a segment. Milliseconds a segment, and the median of the ratios within
a round; the MiB of the traces by the formula: for each row one number for every
weight of the layer.
"""

import keras

import keras_seqgrad as ksg
from benchmarks import characters
from benchmarks.table import Table
from benchmarks.timing import medians, ratios, turns

ROWS = 32
METHODS = {"TruncatedBPTT": ksg.methods.TruncatedBPTT, "SnAp": ksg.methods.SnAp}


def cost(cells, lengths, window, windows, rounds):
    tokens = characters.tokens(ROWS, window * windows)
    rows = []
    for cell, units in cells:
        for length in lengths:
            arms = {}
            for name, method in METHODS.items():
                model = characters.compiled(
                    characters.network(units, cell=cell),
                    method(length),
                    keras.optimizers.Adam(1e-3),
                )
                stream = ksg.data.stream(tokens, ROWS, window)
                arms[name] = characters.training(model, stream)
            seconds = turns(arms, rounds)
            segments = windows * window // length
            times = [
                f"{1e3 * each / segments:.2f}"
                for each in medians(seconds).values()
            ]
            over = ratios(seconds, "TruncatedBPTT")["SnAp"]
            weights = model.layers[-2].count_params()
            kept = f"{4 * ROWS * weights / 2**20:.1f}"
            name = f"{cell} of {units}"
            rows.append([name, f"{length}", *times, f"{over:.2f}", kept])
    head = ["layer", "length", *(f"{name} (ms)" for name in METHODS), "ratio"]
    return Table("snap", [*head, "traces (MiB)"], rows)


def tables(quick):
    if quick:
        yield cost([("GRU", 3), ("MinGRU", 3)], [5], 10, 1, 1)
        return
    yield cost([("GRU", 128), ("MinGRU", 64)], [10, 50], 200, 5, 7)
