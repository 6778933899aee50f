"""What FPTT costs beside truncated BPTT on the same parts.

One LSTM layer of 128, batch 64, 500 steps with a target at each, Adam; both
arms make the same updates on the same parts, FPTT with its regulariser.
Milliseconds a sequence, with a tenth of the sequence a part and with a part
every step. Then the peak of FPTT's memory for 10,000 steps in 1, 10 and 100
parts, one process each.
"""

import keras
import numpy as np

import keras_seqgrad as ksg
from benchmarks.memory import in_fresh_process
from benchmarks.table import Table
from benchmarks.timing import medians, ratios, turns

FEATURES = 8
NAMES = ["TruncatedBPTT", "FPTT"]


def make(parts, units, steps, regularize=True):
    network = keras.Sequential(
        [
            keras.Input((steps, FEATURES)),
            keras.layers.LSTM(units, return_sequences=True),
            keras.layers.Dense(1),
        ]
    )
    model = ksg.SequenceModel.from_model(network)
    method = ksg.methods.TruncatedBPTT(-(-steps // parts))
    if regularize:
        method = ksg.methods.FPTT(parts)
    model.compile("adam", "mse", method=method, jit_compile=True)
    return model


def numbers(batch_size, steps):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(batch_size, steps, FEATURES)).astype("float32")
    return x, x.sum(axis=2, keepdims=True)


def memory_steps(parts, units, batch_size, steps):
    """A step that loads what all need, and the step to measure."""
    small, batch = numbers(batch_size, 20), numbers(batch_size, steps)
    first, model = make(1, units, 20), make(parts, units, steps)
    return (
        lambda: first.train_on_batch(*small),
        lambda: model.train_on_batch(*batch),
    )


def tables(quick):
    batch_size, units, steps, long = 64, 128, 500, 10_000
    if quick:
        batch_size, units, steps, long = 2, 3, 20, 100
    batch, rows = numbers(batch_size, steps), []
    for parts in (10, steps):
        models = {
            name: make(parts, units, steps, name == "FPTT") for name in NAMES
        }
        arms = {
            name: lambda model=model: model.train_on_batch(*batch)
            for name, model in models.items()
        }
        seconds = turns(arms, 1 if quick else 21)
        middle = [f"{1e3 * t:.1f}" for t in medians(seconds).values()]
        over = ratios(seconds, NAMES[0])
        rows.append([f"{parts}", *middle, f"{over['FPTT']:.2f}"])
    head = ["parts", "TruncatedBPTT (ms a sequence)", "FPTT (ms)", "ratio"]
    yield Table("fptt/time", head, rows)
    rows = []
    for parts in (1,) if quick else (1, 10, 100):
        found = in_fresh_process(
            "fptt", parts=parts, units=units, batch_size=batch_size, steps=long
        )
        rows.append([f"{parts}", f"{found['mib']:.0f}"])
    yield Table("fptt/memory", ["parts", "peak (MiB)"], rows)
