"""One training step of one layer: ours under XLA, Keras both ways, others.

Forward, mean squared error on all outputs, backward, plain SGD; float32.
Milliseconds, and how many times as long as ours. Keras with jit_compile is left
out beyond 1000 steps, where its gradient grows with the square of the length.
PyTorch and JAX take part where they are installed. "Products" are the matrix
products of the step and nothing else: what is between them and ours is all that
a better layer could save, what is between them and another the most that one
could be faster.
"""

import statistics

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg
from benchmarks import rivals
from benchmarks.products import products
from benchmarks.table import Table
from benchmarks.timing import medians, turns

# (batch, steps, inputs, units)
SHAPES = [
    (32, 128, 256, 256),
    (32, 512, 128, 128),
    (32, 2048, 128, 128),
    (16, 784, 1, 100),
    (20, 100, 200, 650),
]
KINDS = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple_rnn"}
KERAS = ["Keras", "Keras, jit"]


def data(shape):
    batch, steps, inputs, units = shape
    generator = np.random.default_rng(0)
    x = generator.normal(size=(batch, steps, inputs)).astype("float32")
    return x, generator.normal(size=(batch, steps, units)).astype("float32")


def tensorflow_step(module, kind, x, y, jit):
    """One step of a layer from `keras.layers` or `ksg.layers`."""
    layer = getattr(module, kind)(y.shape[-1], return_sequences=True)
    return step_of(layer, x, y, jit)


def step_of(layer, x, y, jit):
    """One step of a layer that is not built yet."""
    x, y = tf.constant(x), tf.constant(y)
    layer.build(x.shape)

    @tf.function(jit_compile=jit)
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((layer(x) - y) ** 2)
        variables = layer.trainable_variables
        gradients = tape.gradient(loss, variables)
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.assign_sub(rivals.RATE * gradient)
        return loss

    return lambda: step(x, y).numpy()


def arms(kind, shape):
    """Steps by name: Keras, others, and ours."""
    x, y = data(shape)
    found = {"Keras": tensorflow_step(keras.layers, kind, x, y, False)}
    if shape[1] < 1000:
        found["Keras, jit"] = tensorflow_step(keras.layers, kind, x, y, True)
    for name, make in rivals.installed().items():
        found[name] = make(kind, x, y)
    found["products"] = products(kind, x, y.shape[-1])
    found["ours"] = tensorflow_step(ksg.layers, kind, x, y, True)
    return found


def comparison(kind, shapes, rounds):
    """The table of a kind; its last line has geometric means."""
    others = list(rivals.installed())
    measured = [*KERAS, *others, "products", "ours"]
    head = ["batch, steps, inputs, units", *measured]
    head += [f"over {name}" for name in ("Keras", *others)]
    rows, against = [], {name: [] for name in ("Keras", *others)}
    for shape in shapes:
        found = medians(turns(arms(kind, shape), rounds))
        for name, values in against.items():
            names = KERAS if name == "Keras" else [name]
            best = min(found[name] for name in names if name in found)
            values.append(best / found["ours"])
        times = [
            f"{1e3 * found[name]:.1f}" if name in found else ""
            for name in measured
        ]
        last = [f"{values[-1]:.2f}" for values in against.values()]
        rows.append([", ".join(map(str, shape)), *times, *last])
    means = map(statistics.geometric_mean, against.values())
    empty = [""] * len(measured)
    rows.append(["geometric mean", *empty, *(f"{m:.2f}" for m in means)])
    return Table(f"layers/{KINDS[kind]}", head, rows)


def growth(short, long, units, rounds):
    """How time grows from one length to eight times as many steps."""
    rows = []
    for kind in KINDS:
        steps = {}
        for length in (short, long):
            x, y = data((32, length, units, units))
            steps[length] = tensorflow_step(ksg.layers, kind, x, y, True)
        found = medians(turns(steps, rounds))
        rows.append(
            [
                kind,
                *(f"{1e3 * seconds:.1f}" for seconds in found.values()),
                f"{found[long] / found[short]:.2f}",
            ]
        )
    head = ["layer", f"{short} steps (ms)", f"{long} steps (ms)", "ratio"]
    return Table("layers/growth", head, rows)


def tables(quick):
    shapes = [(2, 5, 3, 4), (2, 6, 3, 4)] if quick else SHAPES
    rounds = 1 if quick else 9
    for kind in KINDS:
        yield comparison(kind, shapes, rounds)
    yield growth(*((2, 16, 3) if quick else (1024, 8192, 128)), rounds)
