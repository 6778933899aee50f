"""One training step of target propagation beside one of BPTT.

A tanh SimpleRNN of 100 units, batch 20, one target a sequence, SGD, float32,
whole training steps under XLA. Milliseconds, and how many times BPTT's.
"""

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg
from benchmarks.table import Table
from benchmarks.timing import medians, ratios, turns

FEATURES, CLASSES = 6, 4


def make_methods():
    inversion = ksg.methods.RegularizedInversion
    return {
        "BPTT": ksg.methods.BPTT(),
        "local": inversion(0.01, 10.0),
        "through time": inversion(0.01, 10.0, local=False),
        "difference": inversion(0.01, 10.0, "difference"),
        "learned inverse (TPTT)": inversion(0.01, propagation="learned"),
    }


def training_step(method, length, batch_size, units):
    """A function that trains on one batch and waits for the loss."""
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            keras.Input((length, FEATURES)),
            keras.layers.SimpleRNN(units),
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
    shape = batch_size, length, FEATURES
    x = generator.normal(size=shape).astype("float32")
    y = generator.integers(0, CLASSES, batch_size)
    batches = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
    model.make_train_function()
    return lambda: float(model.train_function(batches)["loss"])


def tables(quick):
    lengths, batch_size, units = (60, 120, 784), 20, 100
    if quick:
        lengths, batch_size, units = (5,), 2, 3
    rows = []
    for length in lengths:
        steps = {
            name: training_step(method, length, batch_size, units)
            for name, method in make_methods().items()
        }
        seconds = turns(steps, 1 if quick else 40)
        middle, over = medians(seconds), ratios(seconds, "BPTT")
        base, *others = middle
        cells = [f"{1e3 * middle[o]:.1f} ({over[o]:.2f})" for o in others]
        rows.append([f"{length}", f"{1e3 * middle[base]:.1f}", *cells])
    yield Table("inversion", ["steps", *make_methods()], rows)
