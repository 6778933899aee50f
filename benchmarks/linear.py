"""The linear scan and the layers on it: time of one training step.

Forward, mean squared error on all outputs, backward, plain SGD; float32, ours
under XLA. The arms take turns; milliseconds. MinGRU stands beside the GRU of
this package, and PyTorch's on one thread and on two where it is installed; a
ratio is the median of those within a round.

The convolution is by the time of the processor, beside that of Keras.

`keras.ops.associative_scan` runs without XLA, for it does not compile, and at
128 steps alone: its tracing grows with the length.
"""

import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg
from benchmarks import rivals
from benchmarks.layers import SHAPES, data, step_of, tensorflow_step
from benchmarks.memory import in_fresh_process
from benchmarks.table import Table
from benchmarks.timing import medians, ratios, turns

LONG = (16, 8192, 64, 64)
FORMS = ("sequential", "chunked")


def others(x, y):
    """PyTorch's GRU on one thread and on two, where it is installed."""
    if "PyTorch" not in rivals.installed():
        return {}
    return {
        f"PyTorch GRU, {threads}": rivals.pytorch_step("GRU", x, y, threads)
        for threads in (1, 2)
    }


def comparison(name, shapes, rounds, clock=time.perf_counter):
    """MinGRU beside GRU, and how many times as long each of these takes."""
    rows, over = [], {}
    for shape in shapes:
        x, y = data(shape)
        arms = {
            kind: tensorflow_step(ksg.layers, kind, x, y, True)
            for kind in ("MinGRU", "GRU")
        }
        seconds = turns(arms | others(x, y), rounds, clock=clock)
        times = [f"{1e3 * each:.1f}" for each in medians(seconds).values()]
        found = ratios(seconds, "MinGRU")
        del found["MinGRU"]
        for arm, ratio in found.items():
            over.setdefault(arm, []).append(ratio)
        last = [f"{ratio:.2f}" for ratio in found.values()]
        rows.append([", ".join(map(str, shape)), *times, *last])
    means = map(statistics.geometric_mean, over.values())
    empty = [""] * (len(over) + 1)
    rows.append(["geometric mean", *empty, *(f"{each:.2f}" for each in means)])
    head = ["batch, steps, inputs, units", "MinGRU", *over]
    head += [f"{arm} / MinGRU" for arm in over]
    return Table(name, head, rows)


def scan_step(scan, shape, jit):
    """The gradient of a scan by all that it is given."""
    generator = np.random.default_rng(0)
    a = generator.uniform(0.5, 1.0, shape).astype("float32")
    b = generator.normal(size=shape).astype("float32")
    given = tf.constant(a), tf.constant(b), tf.zeros((shape[0], shape[2]))

    @tf.function(jit_compile=jit)
    def step(*given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            loss = tf.reduce_mean(scan(*given) ** 2)
        return loss, tape.gradient(loss, given)

    return lambda: step(*given)[0].numpy()


def ours(form):
    return lambda a, b, h: ksg.ops.linear_scan(a, b, [h], method=form)[0]


def associative(a, b, h):
    """`keras.ops.associative_scan` of the same."""

    def join(first, second):
        return first[0] * second[0], second[0] * first[1] + second[1]

    b = tf.concat([b[:, :1] + a[:, :1] * h[:, tf.newaxis], b[:, 1:]], axis=1)
    return keras.ops.associative_scan(join, (a, b), axis=1)[1]


def scans(shapes, rounds):
    """The forms of the scan, and Keras' own where it runs."""
    rows = []
    for shape in shapes:
        arms = {form: scan_step(ours(form), shape, True) for form in FORMS}
        if shape[1] <= 128:
            arms["Keras"] = scan_step(associative, shape, False)
        found = medians(turns(arms, rounds))
        times = [
            f"{1e3 * found[arm]:.1f}" if arm in found else ""
            for arm in (*FORMS, "Keras")
        ]
        rows.append([", ".join(map(str, shape)), *times])
    head = ["batch, steps, units", *FORMS, "`keras.ops.associative_scan`"]
    return Table("linear/scans", head, rows)


def convolutions(shapes, rounds):
    """A causal convolution over four steps beside that of Keras."""
    classes = {"Keras": keras.layers.Conv1D, "ours": ksg.layers.CausalConv1D}
    options = {"Keras": {"padding": "causal"}, "ours": {}}
    rows = []
    for shape in shapes:
        x, y = data(shape)
        units = shape[-1]
        for kind, groups in {"dense": 1, "depthwise": units}.items():
            arms = {
                name + ", jit" * jit: step_of(
                    layer(units, 4, groups=groups, **options[name]), x, y, jit
                )
                for name, layer in classes.items()
                for jit in (True, False)
            }
            seconds = turns(arms, rounds, clock=time.process_time)
            times = [f"{1e3 * each:.1f}" for each in medians(seconds).values()]
            over = ratios(seconds, "Keras, jit")["ours, jit"]
            shown = ", ".join(map(str, [*shape[:2], units]))
            rows.append([shown, kind, *times, f"{over:.2f}"])
    head = ["batch, steps, features", "kernel", *arms]
    head += ["ours, jit / Keras, jit"]
    return Table("linear/convolution", head, rows)


def memory_steps(steps, units):
    """A step that loads what all need, and the step to measure."""
    x, y = data((4, steps, units, units))
    return [
        tensorflow_step(ksg.layers, "MinGRU", x[:, :some], y[:, :some], True)
        for some in (60, steps)
    ]


def growth(lengths, units):
    """Time and memory by the number of steps."""
    rows = []
    for steps in lengths:
        found = in_fresh_process("linear", steps=steps, units=units)
        times = 1e3 * found["seconds"], 1e6 * found["seconds"] / steps
        shown = [f"{each:.1f}" for each in (*times, found["mib"])]
        rows.append([f"{steps:,}", *shown])
    head = ["steps", "ms", "µs each", "peak (MiB)"]
    return Table("linear/growth", head, rows)


def tables(quick):
    rounds = 1 if quick else 9
    shapes = [(2, 5, 3, 4)] if quick else [*SHAPES, LONG]
    yield comparison("linear/layers", shapes, rounds)
    yield comparison("linear/work", shapes, rounds, time.process_time)
    long = [(32, 128, 256), (32, 2048, 128), LONG[:3]]
    yield scans([(2, 6, 3)] if quick else long, rounds)
    same = (
        [(2, 5, 4, 4)] if quick else [SHAPES[0], SHAPES[1], (32, 200, 64, 64)]
    )
    yield convolutions(same, rounds)
    yield growth([100] if quick else [1_000, 10_000, 100_000], 16)
