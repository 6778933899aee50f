"""Characters a second: this package against stock Keras on the same segments.

Two LSTM layers of 256 units on characters, batch 32, windows of 400 steps in
segments of 50, Adam. Every arm sees the same characters.

* Keras: a stateful model fitted on segments of 50, one update a segment, with
  and without jit_compile.
* TruncatedBPTT(50): windows of 400, one update a segment inside one compiled
  step.
* BPTT, ARTBP and TruncatedBPTT with one update a window (the gradients of
  TruncatedBPTT(50) summed over the window), for the cost of ARTBP's draws.
"""

import keras

import keras_seqgrad as ksg
from benchmarks import characters
from benchmarks.table import Table
from benchmarks.timing import medians, turns
from keras_seqgrad.methods.base import WindowMethod
from keras_seqgrad.window.pullback import pull_window

SEGMENT = 50
CUT = "TruncatedBPTT(50), update a window"


class CutWindow(WindowMethod):
    """The gradient of TruncatedBPTT, with one update a window."""

    def pull(self, window, seed=None):
        gates = ksg.truncation.Fixed(SEGMENT).gates(window.steps)
        return pull_window(window, gates)


def arms(batch_size, window, windows, units):
    """Name -> a function that trains on some windows."""
    tokens = characters.tokens(batch_size, window * windows)
    found = {}
    for jit in (False, True):
        stock = characters.network(
            units, 2, batch_size=batch_size, steps=SEGMENT
        )
        stock.compile(
            keras.optimizers.Adam(1e-3), characters.loss(), jit_compile=jit
        )
        segments = ksg.data.stream(tokens, batch_size, SEGMENT)
        name = f"Keras, stateful fit, jit {'on' if jit else 'off'}"
        found[name] = characters.training(stock, segments)
    methods = {
        "TruncatedBPTT(50), update a segment": ksg.methods.TruncatedBPTT(50),
        CUT: CutWindow(),
        "ARTBP(50), update a window": ksg.methods.ARTBP(50),
        "BPTT, update a window": ksg.methods.BPTT(),
    }
    for name, method in methods.items():
        model = characters.compiled(
            characters.network(units, 2), method, keras.optimizers.Adam(1e-3)
        )
        dataset = ksg.data.stream(tokens, batch_size, window)
        found[name] = characters.training(model, dataset)
    return found


def tables(quick):
    batch_size, window, windows, units = 32, 400, 3, 256
    if quick:
        batch_size, window, windows, units = 2, 100, 1, 3
    trained = arms(batch_size, window, windows, units)
    found = medians(turns(trained, 1 if quick else 5))
    count = batch_size * window * windows
    rates = {name: count / seconds for name, seconds in found.items()}
    stock = max(rate for name, rate in rates.items() if "Keras" in name)
    rows = [
        [
            name,
            f"{rate:,.0f}",
            f"{rate / stock:.2f}",
            f"{rate / rates[CUT]:.2f}",
        ]
        for name, rate in rates.items()
    ]
    head = ["arm", "characters a second", "over Keras"]
    yield Table("training", [*head, "over truncation by window"], rows)
