"""One training step of target propagation beside one of BPTT.

A tanh SimpleRNN of 100 units, batch 20, one target a sequence, SGD, float32,
whole training steps under XLA. The arms take turns in one process; medians in
milliseconds, and how many times BPTT's.

    python benchmarks/inversion.py
    python benchmarks/inversion.py --lengths 60 --rounds 100
"""

import argparse
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg

UNITS, BATCH, FEATURES, CLASSES = 100, 20, 6, 4
METHODS = {
    "BPTT": lambda: ksg.methods.BPTT(),
    "TP-RI local": lambda: ksg.methods.RegularizedInversion(0.01, 10.0),
    "TP-RI through time": lambda: ksg.methods.RegularizedInversion(
        0.01, 10.0, local=False
    ),
    "TP-RI difference": lambda: ksg.methods.RegularizedInversion(
        0.01, 10.0, "difference"
    ),
    "TPTT": lambda: ksg.methods.RegularizedInversion(
        0.01, propagation="learned"
    ),
}


def training_step(method, length):
    """A function that trains on one batch and waits for the loss."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((length, FEATURES)),
            keras.layers.SimpleRNN(UNITS),
            keras.layers.Dense(CLASSES),
        ]
    )
    model = ksg.SequenceModel.from_model(network)
    model.compile(
        keras.optimizers.SGD(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        method=method,
        jit_compile=True,
    )
    generator = np.random.default_rng(0)
    x = generator.normal(size=(BATCH, length, FEATURES)).astype("float32")
    y = generator.integers(0, CLASSES, BATCH)
    batches = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
    model.make_train_function()
    return lambda: float(model.train_function(batches)["loss"])


def medians(steps, rounds):
    """Name -> milliseconds; the arms take turns."""
    for step in steps.values():
        step()
        step()
    times = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            began = time.perf_counter()
            step()
            times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(found) for name, found in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=[60, 120, 784]
    )
    parser.add_argument("--rounds", type=int, default=40)
    arguments = parser.parse_args()
    print("| steps | " + " | ".join(METHODS) + " |")
    print("|---" * (len(METHODS) + 1) + "|")
    for length in arguments.lengths:
        steps = {
            name: training_step(method(), length)
            for name, method in METHODS.items()
        }
        found = medians(steps, arguments.rounds)
        cells = [
            f"{value:.1f} ({value / found['BPTT']:.2f})"
            for value in found.values()
        ]
        print(f"| {length} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
