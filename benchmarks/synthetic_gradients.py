"""Time a token of synthetic gradients over that of truncation.

One LSTM of 256 units on characters, batch 32, windows of 200 steps in segments
of 20, Adam; the synthesiser of the default: 512 to 512 to 512 units, with an
Adam of its own. Both arms make one update a segment.

    python benchmarks/synthetic_gradients.py

Prints milliseconds a segment, medians of the rounds, and ratios to
TruncatedBPTT(20): the median of those within a round, and that of the fastest
rounds, which a busy machine disturbs least. The arms take turns.
"""

import argparse
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg

VOCABULARY, LENGTH = 100, 20


def arms(arguments):
    """Name -> a function that trains on some windows."""
    tokens = np.random.default_rng(0).integers(
        VOCABULARY,
        size=arguments.batch_size * (arguments.window * arguments.windows + 1),
    )
    synthetic = ksg.methods.SyntheticGradients
    methods = {
        "TruncatedBPTT(20)": ksg.methods.TruncatedBPTT(LENGTH),
        "SyntheticGradients(20)": synthetic(LENGTH),
        "scale = bootstrap": synthetic(LENGTH, scale=1.0),
        "linear synthesiser": synthetic(LENGTH, "linear"),
        "condition next_input": synthetic(LENGTH, condition="next_input"),
        "auxiliary task": synthetic(LENGTH, auxiliary=0.1),
        "lambda-returns": synthetic(LENGTH, lambda_=0.9),
        "elementwise synthesiser": synthetic(LENGTH, "elementwise"),
    }
    found = {}
    for name, method in methods.items():
        layers = keras.layers
        network = keras.Sequential(
            [
                keras.Input((None,), dtype="int32"),
                layers.Embedding(VOCABULARY, 64),
                layers.LSTM(arguments.units, return_sequences=True),
                layers.Dense(VOCABULARY),
            ]
        )
        model = ksg.SequenceModel.from_model(network, stateful=True)
        model.compile(
            keras.optimizers.Adam(1e-3, clipnorm=1.0),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            method=method,
            jit_compile=True,
        )
        dataset = ksg.data.stream(
            tokens, arguments.batch_size, arguments.window
        )
        # Without the thread that tunes tf.data: the end of a short `fit` may
        # wait for it, by up to the time `fit` itself took.
        options = tf.data.Options()
        options.autotune.enabled = False
        dataset = dataset.cache().with_options(options)
        found[name] = lambda model=model, dataset=dataset: model.fit(
            dataset, verbose=0, shuffle=False
        )
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--window", type=int, default=200)
    parser.add_argument("--windows", type=int, default=5)
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
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
    segments = arguments.windows * -(-arguments.window // LENGTH)
    base = seconds["TruncatedBPTT(20)"]
    print("| arm | ms a segment | over TruncatedBPTT(20) | fastest rounds |")
    print("|---|---|---|---|")
    for name, times in seconds.items():
        ratio = statistics.median(
            time / other for time, other in zip(times, base, strict=True)
        )
        each = 1000 * statistics.median(times) / segments
        fastest = min(times) / min(base)
        print(f"| {name} | {each:.1f} | {ratio:.2f} | {fastest:.2f} |")


if __name__ == "__main__":
    main()
