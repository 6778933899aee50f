"""Memory and time of gradients through very long sequences.

One LSTM layer of 128 units, batch 8, a readout at every step, or one of the
mean by learned shares of all steps, or below it a convolution. Each arm runs in
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
AUTO = 'BPTT(checkpoint_every="auto")'
METHODS = {
    "BPTT()": lambda: ksg.methods.BPTT(),
    AUTO: lambda: ksg.methods.BPTT("auto"),
    "ARTBP(50)": lambda: ksg.methods.ARTBP(50),
    'ARTBP(50, checkpoint_every="auto")': lambda: ksg.methods.ARTBP(
        50, checkpoint_every="auto"
    ),
    "TruncatedBPTT(100)": lambda: ksg.methods.TruncatedBPTT(100),
}
KERAS = "Keras, no jit"
HEAD = ["steps", "arm", "peak (MiB)", "seconds a step"]
HEAD += ["first step, compiling (s)"]


def make(arm, units, pooled, convolved):
    layers = keras.layers
    inputs = keras.Input((None, FEATURES))
    hidden = inputs
    if convolved:
        kind = {"padding": "same", "activation": "relu"}
        hidden = layers.Conv1D(units // 4, 5, **kind)(inputs)
    hidden = layers.LSTM(units, return_sequences=True)(hidden)
    if pooled:
        shares = layers.Softmax(axis=1)(layers.Dense(1)(hidden))
        hidden = keras.ops.sum(shares * hidden, axis=1)
    model = keras.Model(inputs, layers.Dense(1)(hidden))
    options = {"jit_compile": False}
    if arm != KERAS:
        model = ksg.SequenceModel.from_model(model)
        options = {"jit_compile": True, "method": METHODS[arm]()}
    model.compile("adam", "mse", **options)
    return model


def memory_steps(arm, units, batch_size, steps, pooled=False, convolved=False):
    """A step that loads what all need, and the step to measure."""
    generator = np.random.default_rng(0)
    shape = (batch_size, steps, FEATURES)
    x = generator.normal(size=shape).astype("float32")
    y = x.sum(axis=2, keepdims=True)
    y = y.mean(axis=1) if pooled else y
    first, model = (make(arm, units, pooled, convolved) for _ in range(2))
    return (
        lambda: first.train_on_batch(x[:, :60], y if pooled else y[:, :60]),
        lambda: model.train_on_batch(x, y),
    )


def tables(quick):
    batch_size, units = 8, 128
    # Keras takes minutes for the longest; truncation stores what it says.
    *whole, _ = METHODS
    # Hardly a sequence: what the programs themselves take.
    arms = [(400, arm) for arm in (KERAS, "BPTT()", AUTO)]
    arms += [(20_000, arm) for arm in (KERAS, *whole)]
    arms += [(100_000, arm) for arm in whole]
    if quick:
        batch_size, units, arms = 2, 3, [(100, AUTO)]
    rows = measured(arms, units=units, batch_size=batch_size)
    yield Table("checkpointing", HEAD, rows)


def measured(arms, **size):
    """A row of the table for each (steps, arm)."""
    rows = []
    for steps, arm in arms:
        found = in_fresh_process("checkpointing", arm=arm, steps=steps, **size)
        rows.append(
            [
                f"{steps:,}",
                arm,
                f"{found['mib']:.0f}",
                f"{found['seconds']:.2f}",
                f"{found['first']:.2f}",
            ]
        )
    return rows
