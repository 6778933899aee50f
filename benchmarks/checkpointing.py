"""Memory and time of gradients through very long sequences.

One LSTM layer of 128 units, batch 8, a readout at every step. Each arm runs in
a process of its own (`benchmarks/memory.py` says what is measured). Keras is
its stock model without jit, as its own gradient under XLA grows with the square
of the length.
"""

import keras
import numpy as np

import keras_seqgrad as ksg
from benchmarks.memory import in_fresh_process
from benchmarks.table import Table

FEATURES = 8
METHODS = {
    "BPTT()": lambda: ksg.methods.BPTT(),
    'BPTT(checkpoint_every="auto")': lambda: ksg.methods.BPTT("auto"),
    "ARTBP(50)": lambda: ksg.methods.ARTBP(50),
    'ARTBP(50, checkpoint_every="auto")': lambda: ksg.methods.ARTBP(
        50, checkpoint_every="auto"
    ),
}
KERAS = "Keras, no jit"


def make(arm, units):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((None, FEATURES)),
            layers.LSTM(units, return_sequences=True),
            layers.Dense(1),
        ]
    )
    options = {"jit_compile": False}
    if arm != KERAS:
        model = ksg.SequenceModel.from_model(model)
        options = {"jit_compile": True, "method": METHODS[arm]()}
    model.compile("adam", "mse", **options)
    return model


def memory_steps(arm, units, batch_size, steps):
    """A step that loads what all need, and the step to measure."""
    generator = np.random.default_rng(0)
    shape = (batch_size, steps, FEATURES)
    x = generator.normal(size=shape).astype("float32")
    y = x.sum(axis=2, keepdims=True)
    first, model = make(arm, units), make(arm, units)
    return (
        lambda: first.train_on_batch(x[:, :60], y[:, :60]),
        lambda: model.train_on_batch(x, y),
    )


def tables(quick):
    batch_size, units = 8, 128
    # Keras takes minutes for the longest.
    arms = [(20_000, arm) for arm in (KERAS, *METHODS)]
    arms += [(100_000, arm) for arm in METHODS]
    if quick:
        batch_size, units, arms = 2, 3, [(100, 'BPTT(checkpoint_every="auto")')]
    rows = []
    for steps, arm in arms:
        found = in_fresh_process(
            "checkpointing",
            arm=arm,
            units=units,
            batch_size=batch_size,
            steps=steps,
        )
        rows.append(
            [
                f"{steps:,}",
                arm,
                f"{found['mib']:.0f}",
                f"{found['seconds']:.2f}",
                f"{found['first']:.2f}",
            ]
        )
    head = ["steps", "arm", "peak (MiB)", "seconds a step"]
    yield Table("checkpointing", [*head, "first step, compiling (s)"], rows)
