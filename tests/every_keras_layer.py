"""Every layer of Keras above and below a recurrent one: the same, or refused.

    python -m tests.every_keras_layer                  # a quarter of an hour
    python -m tests.every_keras_layer Dot MaxPooling1D

For a new version of Keras. Each layer is made with the first arguments that it
takes, on sequences whose number of steps is known and not. Where stock Keras
has a loss, a `SequenceModel` has the same or refuses the layer by its name.
Each runs in a process of its own, for some end Python.
"""

import inspect
import os
import sys

import keras
import numpy as np

import keras_seqgrad as ksg

L = keras.layers
ARGUMENTS = [(), (2,), (3,), (2, 2), (0.2,), ((2, 2),), ((-1, 4),), ([0.5],)]
ARGUMENTS += [(3, 2), (1,)]
ENOUGH = 4  # networks that run in Keras, to look at no other arguments
INPUTS = np.random.default_rng(0).normal(size=(4, 6, 4)).astype("float32")


def network(name, arguments, below, steps):
    keras.utils.set_random_seed(0)
    inputs = hidden = keras.Input((steps, 4))
    layer = getattr(L, name)(*arguments, name="it")
    if not below:
        hidden = L.LSTM(4, return_sequences=True)(hidden)
    try:
        hidden = layer(hidden)
    except Exception:
        hidden = layer([hidden, hidden])
    if below:
        hidden = L.LSTM(4, return_sequences=True)(hidden)
    return keras.Model(inputs, L.Dense(2)(hidden))


def loss_of(model, **options):
    model.compile("sgd", "mse", run_eagerly=True, **options)
    targets = np.zeros(model(INPUTS).shape, "float32")
    return f"{model.evaluate(INPUTS, targets, verbose=0):.5f}"


def in_stock(*given):
    return loss_of(network(*given))


def in_segments(*given):
    model = ksg.SequenceModel.from_model(network(*given))
    return loss_of(model, method="bptt")


def apart(function, *given):
    """What a function returns or raises in a process of its own, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            said = function(*given)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode()[:1000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return said if os.WIFEXITED(status) else "ended Python"


def compare(name):
    """Prints how a layer fared; whether that was as it must be."""
    tried, fine = 0, True
    for arguments in ARGUMENTS:
        for below in (False, True):
            for steps in (None, 6):
                given = name, arguments, below, steps
                expected = apart(in_stock, *given)
                if not expected.replace(".", "").isdigit():
                    continue
                tried += 1
                found = apart(in_segments, *given)
                refused = found.startswith("ValueError: Layer 'it'")
                if found != expected and not refused:
                    print(*given, "has", found, "for", expected, flush=True)
                    fine = False
        if tried >= ENOUGH:
            break
    print(f"{name}: {tried} networks", flush=True)
    return fine


def main(names):
    kinds = inspect.getmembers(L, inspect.isclass)
    names = names or [n for n, kind in kinds if issubclass(kind, L.Layer)]
    return all([compare(name) for name in names])


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1:]))
