"""The linear scan and the layers on it: time of one training step.

Forward, mean squared error on all outputs, backward, plain SGD; float32, ours
under XLA. The arms take turns in one process; medians in milliseconds.

    python benchmarks/linear.py                  # MinGRU beside GRU
    python benchmarks/linear.py --scan           # beside associative_scan
    python benchmarks/linear.py --growth         # to 100,000 steps

`keras.ops.associative_scan` runs without XLA, for it does not compile, and at
128 steps alone: its tracing grows with the length. PyTorch's GRU takes part
where it is installed.
"""

import argparse
import importlib.util
import resource
import statistics

import keras
import numpy as np
import tensorflow as tf
from layers import KINDS, SHAPES, medians, pytorch_step, tensorflow_step

import keras_seqgrad as ksg

LINEAR = {
    "min_gru": "MinGRU",
    "min_lstm": "MinLSTM",
    "lru": "LRU",
    "rg_lru": "RGLRU",
    "qrnn": "QRNN",
}
KINDS.update(LINEAR)
LONG = (16, 8192, 64, 64)


def row(name, values):
    cells = [f"{value:.1f}" for value in values]
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def compare(kind, rounds):
    """A linear layer beside the GRU, at the shapes of `layers.py`."""
    with_pytorch = importlib.util.find_spec("torch") is not None
    arms = [kind, "gru", *(["pytorch gru"] if with_pytorch else [])]
    print(f"\n| shape | {' | '.join(arms)} | gru / {kind} |")
    print("|---" * (len(arms) + 2) + "|")
    ratios = []
    for shape in [*SHAPES, LONG]:
        if kind == "rg_lru":
            shape = (*shape[:2], shape[3], shape[3])
        steps = {
            name: tensorflow_step(ksg.layers, name, shape, True)
            for name in (kind, "gru")
        }
        if with_pytorch:
            steps["pytorch gru"] = pytorch_step("gru", shape)
        found = medians(steps, rounds)
        ratios.append(found["gru"] / found[kind])
        row(", ".join(map(str, shape)), [*found.values(), ratios[-1]])
    print(f"geometric mean: {statistics.geometric_mean(ratios):.2f}")


def series(shape):
    """a, b and the state before, for the scan alone."""
    generator = np.random.default_rng(0)
    a = generator.uniform(0.5, 1.0, shape).astype("float32")
    b = generator.normal(size=shape).astype("float32")
    return tf.constant(a), tf.constant(b), tf.zeros((shape[0], shape[2]))


def scan_step(scan, shape, jit):
    """The gradient of a scan by all that it is given."""
    given = series(shape)

    @tf.function(jit_compile=jit)
    def step(*given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            loss = tf.reduce_mean(scan(*given) ** 2)
        return loss, tape.gradient(loss, given)

    return lambda: step(*given)[0].numpy()


def ours(method):
    return lambda a, b, h: ksg.ops.linear_scan(a, b, [h], method=method)[0]


def associative(a, b, h):
    """`keras.ops.associative_scan` of the same."""

    def join(first, second):
        return first[0] * second[0], second[0] * first[1] + second[1]

    b = tf.concat([b[:, :1] + a[:, :1] * h[:, tf.newaxis], b[:, 1:]], axis=1)
    return keras.ops.associative_scan(join, (a, b), axis=1)[1]


def compare_scans(rounds):
    """The forms of the scan, and Keras' own where it runs."""
    for shape in [(32, 128, 256), (32, 2048, 128), LONG[:3]]:
        steps = {form: scan_step(ours(form), shape, True)
                 for form in ("sequential", "chunked")}  # fmt: skip
        if shape[1] <= 128:
            steps["associative_scan"] = scan_step(associative, shape, False)
        found = medians(steps, rounds)
        print(shape, {name: round(ms, 1) for name, ms in found.items()})


def growth(rounds):
    """Time and memory a step of the sequence, up to 100,000 of them."""
    for steps in (1_000, 10_000, 100_000):
        step = tensorflow_step(ksg.layers, "min_gru", (4, steps, 16, 16), True)
        [time] = medians({steps: step}, rounds).values()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{steps} steps: {time:.1f} ms, {1e3 * time / steps:.2f} µs each, "
            f"{peak:.0f} MB at most so far",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", default="min_gru", choices=LINEAR)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--scan", action="store_true")
    parser.add_argument("--growth", action="store_true")
    arguments = parser.parse_args()
    if arguments.scan:
        compare_scans(arguments.rounds)
    elif arguments.growth:
        growth(arguments.rounds)
    else:
        compare(arguments.kind, arguments.rounds)


if __name__ == "__main__":
    main()
