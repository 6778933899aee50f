"""Characters a second: this package against stock Keras on the same segments.

Two LSTM layers of 256 units on characters, batch 32, windows of 400 steps in
segments of 50, Adam. Every arm sees the same characters.

* Keras: a stateful model fitted on segments of 50, one update a segment, with
  and without jit_compile.
* TruncatedBPTT(50): windows of 400, one update a segment inside one compiled
  step.
* BPTT, ARTBP and TruncatedBPTT with one update a window (the gradients of
  TruncatedBPTT(50) summed over the window), for the cost of ARTBP's draws.

    python benchmarks/training.py

Prints characters a second, medians of the rounds; the arms take turns.
"""

import argparse
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.methods.base import WindowMethod
from keras_seqgrad.window.pullback import pull_window

VOCABULARY, SEGMENT = 100, 50


class CutWindow(WindowMethod):
    """The gradient of TruncatedBPTT, with one update a window."""

    def pull(self, window, seed=None):
        gates = ksg.truncation.Fixed(SEGMENT).gates(window.steps)
        return pull_window(window, gates)


def network(units, batch_size=None, steps=None):
    """The model of every arm; with a batch size, stateful as Keras' own."""
    stateful = batch_size is not None
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(batch_shape=(batch_size, steps), dtype="int32"),
            layers.Embedding(VOCABULARY, 64),
            layers.LSTM(units, return_sequences=True, stateful=stateful),
            layers.LSTM(units, return_sequences=True, stateful=stateful),
            layers.Dense(VOCABULARY),
        ]
    )


def arms(arguments):
    """Name -> a function that trains on some windows."""
    batch_size, window = arguments.batch_size, arguments.window
    tokens = np.random.default_rng(0).integers(
        VOCABULARY, size=batch_size * (window * arguments.windows + 1)
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    found = {}

    def add(name, model, steps, **options):
        model.compile(keras.optimizers.Adam(1e-3), loss, **options)
        dataset = ksg.data.stream(tokens, batch_size, steps).cache()
        dataset = dataset.prefetch(tf.data.AUTOTUNE)
        found[name] = lambda: model.fit(dataset, verbose=0)

    for jit in (False, True):
        stock = network(arguments.units, batch_size, SEGMENT)
        name = f"Keras, stateful fit, jit {'on' if jit else 'off'}"
        add(name, stock, SEGMENT, jit_compile=jit)
    methods = {
        "TruncatedBPTT(50), update a segment": ksg.methods.TruncatedBPTT(50),
        "TruncatedBPTT(50), update a window": CutWindow(),
        "ARTBP(50), update a window": ksg.methods.ARTBP(50),
        "BPTT, update a window": ksg.methods.BPTT(),
    }
    for name, method in methods.items():
        model = ksg.SequenceModel.from_model(
            network(arguments.units), stateful=True
        )
        add(name, model, window, method=method, jit_compile=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--window", type=int, default=400)
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    trained = arms(arguments)
    for train in trained.values():
        train()
    seconds = {name: [] for name in trained}
    for _ in range(arguments.rounds):
        for name, train in trained.items():
            began = time.perf_counter()
            train()
            seconds[name].append(time.perf_counter() - began)
    characters = arguments.batch_size * arguments.window * arguments.windows
    rates = {
        name: characters / statistics.median(times)
        for name, times in seconds.items()
    }
    stock = max(rate for name, rate in rates.items() if "Keras" in name)
    cut = rates["TruncatedBPTT(50), update a window"]
    print("| arm | characters a second | over Keras | over cut window |")
    print("|---|---|---|---|")
    for name, rate in rates.items():
        ratios = f"{rate / stock:.2f} | {rate / cut:.2f}"
        print(f"| {name} | {rate:,.0f} | {ratios} |")


if __name__ == "__main__":
    main()
