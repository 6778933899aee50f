"""On a GPU: kernels of cuDNN beside scans under XLA, for every method.

Needs TensorFlow with a GPU; without one there is nothing to measure. Two LSTM
layers on characters, batch 32, windows of 400 steps in segments of 50, Adam,
`fit` on windows that lie in memory. Milliseconds a window; TF32 as TensorFlow
has it by default, on.

* Keras: the stateful model, one update a window, by its cuDNN kernel.
* kernels: `jit_compile=False`, where the method's segments can be run by cuDNN.
* scans: `jit_compile=True`.

The linear table has the gradient of `ksg.ops.linear_scan` in both forms by the
number of steps, whole training steps of one MinGRU and of GRU both ways.
"""

import keras
import tensorflow as tf

import keras_seqgrad as ksg
from benchmarks import characters
from benchmarks.layers import data, tensorflow_step
from benchmarks.linear import FORMS, ours, scan_step
from benchmarks.table import Table
from benchmarks.timing import medians, turns

SEGMENT = 50
METHODS = {
    "BPTT": lambda: ksg.methods.BPTT(),
    "TruncatedBPTT(50)": lambda: ksg.methods.TruncatedBPTT(SEGMENT),
    "BPTT(50), checkpoints": lambda: ksg.methods.BPTT(SEGMENT),
    "SyntheticGradients(50)": lambda: ksg.methods.SyntheticGradients(SEGMENT),
    "ARTBP(50)": lambda: ksg.methods.ARTBP(SEGMENT, seed=1),
    "FPTT(length=50)": lambda: ksg.methods.FPTT(length=SEGMENT),
    "TargetPropagation(50)": lambda: ksg.methods.TargetPropagation(SEGMENT),
    "SnAp(50)": lambda: ksg.methods.SnAp(SEGMENT),
}


def measured(name, arm, rounds):
    """Seconds of an arm that has the machine to itself; told at once."""
    seconds = medians(turns({name: arm}, rounds))[name]
    print(f"{name}: {1e3 * seconds:.2f} ms", flush=True)
    return seconds


def training(units, layers, batch_size, window, windows, names, rounds):
    """Methods both ways beside Keras' stateful model."""
    tokens = characters.tokens(batch_size, window * windows)
    dataset = ksg.data.stream(tokens, batch_size, window)

    def time(name, model):
        arm = characters.training(model, dataset)
        return 1e3 * measured(name, arm, rounds) / windows

    stock = characters.network(
        units, layers, batch_size=batch_size, steps=window
    )
    stock.compile(
        keras.optimizers.Adam(1e-3), characters.loss(), jit_compile=False
    )
    base = time("Keras, cuDNN", stock)
    rows = [["Keras", f"{base:.1f}", "", "1.00"]]
    for name in names:
        found = {}
        for jit in (False, True):
            if not jit and METHODS[name]().gates_inside:
                continue
            model = ksg.SequenceModel.from_model(
                characters.network(units, layers), stateful=True
            )
            model.compile(
                keras.optimizers.Adam(1e-3),
                characters.loss(),
                method=METHODS[name](),
                jit_compile=jit,
            )
            scans = {choice.scan for choice in model.scans.values()}
            assert scans == {"fast" if jit else "cudnn"}, model.scans
            found[jit] = time(f"{name}, jit {jit}", model)
        best = min(found.values())
        cells = [f"{found[j]:.1f}" if j in found else "" for j in (False, True)]
        rows.append([name, *cells, f"{best / base:.2f}"])
    return Table(
        f"gpu/training_{units}",
        ["method", "kernels (ms)", "scans (ms)", "better over Keras"],
        rows,
    )


def forms(lengths, rows, units, rounds):
    """Both forms of the linear scan by length."""
    found = []
    for steps in lengths:
        arms = {
            form: scan_step(ours(form), (rows, steps, units), True)
            for form in FORMS
        }
        times = {
            f: measured(f"{f} {steps}", s, rounds) for f, s in arms.items()
        }
        found.append([str(steps), *(f"{1e3 * s:.2f}" for s in times.values())])
    return Table("gpu/linear_forms", ["steps", *FORMS], found)


def linear(shapes, rounds):
    """A training step of MinGRU beside GRU."""
    rows = []
    for shape in shapes:
        x, y = data(shape)
        arms = {
            "Keras' GRU, cuDNN": (keras.layers, "GRU", False),
            "GRU, scan": (ksg.layers, "GRU", True),
            "MinGRU": (ksg.layers, "MinGRU", True),
        }
        times = [
            measured(
                f"{name} {shape}",
                tensorflow_step(module, kind, x, y, jit),
                rounds,
            )
            for name, (module, kind, jit) in arms.items()
        ]
        rows.append(
            [", ".join(map(str, shape)), *(f"{1e3 * s:.2f}" for s in times)]
        )
    return Table("gpu/linear", ["batch, steps, inputs, units", *arms], rows)


def tables(quick):
    if not tf.config.list_physical_devices("GPU"):
        return
    rounds = 1 if quick else 7
    if quick:
        yield training(3, 1, 2, 100, 1, ["BPTT", "ARTBP(50)"], rounds)
        yield forms([8], 2, 2, rounds)
        yield linear([(2, 8, 2, 2)], rounds)
        return
    yield training(256, 2, 32, 400, 20, list(METHODS), rounds)
    yield forms([16, 32, 64, 128, 256, 1024, 8192], 32, 256, rounds)
    yield linear(
        [(32, 128, 256, 256), (16, 784, 1, 100), (16, 8192, 64, 64)], rounds
    )
    yield training(1024, 2, 64, 400, 5, ["BPTT", "TruncatedBPTT(50)"], rounds)
