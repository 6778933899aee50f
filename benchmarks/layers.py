"""One training step of one layer: ours under XLA, Keras both ways, PyTorch.

Forward, mean squared error on all outputs, backward, plain SGD; float32. The
arms take turns in one process; medians in milliseconds. Keras with
jit_compile is left out beyond 1000 steps, where its gradient grows with the
square of the length. PyTorch takes part where it is installed.

    python benchmarks/layers.py                     # the five shapes
    python benchmarks/layers.py --kinds lstm --linear
"""

import argparse
import importlib.util
import math
import statistics
import time

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg

# (batch, steps, inputs, units)
SHAPES = [
    (32, 128, 256, 256),
    (32, 512, 128, 128),
    (32, 2048, 128, 128),
    (16, 784, 1, 100),
    (20, 100, 200, 650),
]
KINDS = {"lstm": "LSTM", "gru": "GRU", "simple_rnn": "SimpleRNN"}


def data(shape):
    batch, steps, inputs, units = shape
    generator = np.random.default_rng(0)
    x = generator.normal(size=(batch, steps, inputs)).astype("float32")
    return x, generator.normal(size=(batch, steps, units)).astype("float32")


def tensorflow_step(module, kind, shape, jit):
    """One step of a layer from `keras.layers` or `ksg.layers`."""
    x, y = (tf.constant(a) for a in data(shape))
    layer = getattr(module, KINDS[kind])(shape[-1], return_sequences=True)
    layer.build(x.shape)

    @tf.function(jit_compile=jit)
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((layer(x) - y) ** 2)
        variables = layer.trainable_variables
        gradients = tape.gradient(loss, variables)
        for variable, gradient in zip(variables, gradients, strict=True):
            variable.assign_sub(0.01 * gradient)
        return loss

    return lambda: step(x, y).numpy()


def pytorch_step(kind, shape):
    import torch

    torch.set_num_threads(2)
    x, y = (torch.from_numpy(a) for a in data(shape))
    name = {"simple_rnn": "RNN"}.get(kind, KINDS[kind])
    layer = getattr(torch.nn, name)(shape[2], shape[3], batch_first=True)
    optimizer = torch.optim.SGD(layer.parameters(), 0.01)

    def step():
        optimizer.zero_grad()
        loss = ((layer(x)[0] - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


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


def compare(kind, rounds):
    """Prints a table of all shapes; the last line has geometric means."""
    with_pytorch = importlib.util.find_spec("torch") is not None
    print(f"\n{kind}: milliseconds a step, and how much faster ours is")
    print("| shape | Keras | Keras, jit | PyTorch | ours | Keras | PyTorch |")
    print("|---|---|---|---|---|---|---|")
    against = {"keras": [], "pytorch": []}
    for shape in SHAPES:
        steps = {
            "keras": tensorflow_step(keras.layers, kind, shape, False),
            "ours": tensorflow_step(ksg.layers, kind, shape, True),
        }
        if shape[1] < 1000:
            steps["jit"] = tensorflow_step(keras.layers, kind, shape, True)
        if with_pytorch:
            steps["pytorch"] = pytorch_step(kind, shape)
        found = medians(steps, rounds)
        best = min(found["keras"], found.get("jit", math.inf))
        against["keras"].append(best / found["ours"])
        cells = [f"{found[n]:.1f}" if n in found else "" for n in
                 ("keras", "jit", "pytorch", "ours")]  # fmt: skip
        cells.append(f"{against['keras'][-1]:.2f}")
        if with_pytorch:
            against["pytorch"].append(found["pytorch"] / found["ours"])
            cells.append(f"{against['pytorch'][-1]:.2f}")
        name = ", ".join(map(str, shape))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    means = [
        f"{statistics.geometric_mean(ratios):.2f}" if ratios else ""
        for ratios in against.values()
    ]
    print(f"| geometric mean | | | | | {means[0]} | {means[1]} |", flush=True)


def linear(kind, rounds):
    """Prints how time grows from 1024 to 8192 steps."""
    found = medians(
        {
            steps: tensorflow_step(
                ksg.layers, kind, (32, steps, 128, 128), True
            )
            for steps in (1024, 8192)
        },
        rounds,
    )
    ratio = found[8192] / found[1024]
    print(f"{kind}: 8192 steps take {ratio:.2f} times as long as 1024")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--linear", action="store_true", help="growth with the length instead"
    )
    arguments = parser.parse_args()
    for kind in arguments.kinds:
        (linear if arguments.linear else compare)(kind, arguments.rounds)


if __name__ == "__main__":
    main()
