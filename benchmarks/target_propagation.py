"""Time of one parameter step of target propagation over a window.

One recurrent layer of 100 units on characters, windows of 320 steps in blocks
of 10, plain SGD, batches of 1 and 20. The arms:

    TruncatedBPTT(10)   32 updates, one a block
    BPTT                one update, a scan of 320 steps
    parallel            TargetPropagation, one update from zero states: two
                        passes, both in scans of 10 steps
    forward             the same from the states of a pass in order
    zero                the same from zeros: one pass, the least there is
    penalty             five updates, from zeros
    admm                10 steps of the targets and 5 updates, twice, from zeros

    python benchmarks/target_propagation.py

Prints milliseconds a window, medians of the rounds, and ratios to
TruncatedBPTT(10) of the same round, medians again; the arms take turns.
"""

import argparse
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg

VOCABULARY, BLOCK = 50, 10
LAYERS = {
    "simple_rnn": keras.layers.SimpleRNN,
    "gru": keras.layers.GRU,
    "lstm": keras.layers.LSTM,
}


def make_methods():
    target = ksg.methods.TargetPropagation
    once = {"parameter_steps": 1}
    return {
        "TruncatedBPTT(10)": ksg.methods.TruncatedBPTT(BLOCK),
        "BPTT": ksg.methods.BPTT(),
        "zero": target(BLOCK, start="zero", **once),
        "parallel": target(BLOCK, start="parallel", **once),
        "forward": target(BLOCK, start="forward", **once),
        "penalty": target(BLOCK, start="zero"),
        "admm": target(BLOCK, "admm", start="zero"),
    }


def arms(arguments, rows):
    """Name -> a function that trains on some windows."""
    tokens = np.random.default_rng(0).integers(
        VOCABULARY, size=rows * (arguments.window * arguments.windows + 1)
    )
    found = {}
    for name, method in make_methods().items():
        network = keras.Sequential(
            [
                keras.Input((None,), dtype="int32"),
                keras.layers.Embedding(VOCABULARY, arguments.units),
                LAYERS[arguments.cell](arguments.units, return_sequences=True),
                keras.layers.Dense(VOCABULARY),
            ]
        )
        model = ksg.SequenceModel.from_model(network, stateful=True)
        model.compile(
            keras.optimizers.SGD(0.01),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            method=method,
            jit_compile=True,
        )
        dataset = ksg.data.stream(tokens, rows, arguments.window)
        dataset = dataset.cache().prefetch(tf.data.AUTOTUNE)
        found[name] = lambda model=model, dataset=dataset: model.fit(
            dataset, verbose=0, shuffle=False
        )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cell", choices=LAYERS, default="gru")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 20])
    parser.add_argument("--window", type=int, default=320)
    parser.add_argument("--windows", type=int, default=10)
    parser.add_argument("--units", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    print("| batch | arm | ms a window | over TruncatedBPTT(10) |")
    print("|---|---|---|---|")
    for rows in arguments.rows:
        trained = arms(arguments, rows)
        for train in trained.values():
            train()
        seconds = {name: [] for name in trained}
        for _ in range(arguments.rounds):
            for name, train in trained.items():
                began = time.perf_counter()
                train()
                seconds[name].append(time.perf_counter() - began)
        base = seconds["TruncatedBPTT(10)"]
        for name, times in seconds.items():
            ratio = statistics.median(
                time / other for time, other in zip(times, base, strict=True)
            )
            each = 1000 * statistics.median(times) / arguments.windows
            print(f"| {rows} | {name} | {each:.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
