"""Models that are trained here and served where this package is not."""

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo

L = keras.layers
ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text()

# What a client does, by the signatures alone.
CLIENT = """
import numpy as np
import tensorflow as tf

for folder in sys.argv[1:]:
    call = tf.saved_model.load(folder).signatures
    with np.load(folder + ".npz") as file:
        inputs = {name: tf.constant(file[name]) for name in file.files}
    found = {}
    for rows in (1, 3):
        given = {name: x[:rows] for name, x in inputs.items()}
        whole = call["serving_default"](**given)
        pieces, state = [], None
        for t in range(7):
            now = {
                name: x[:, t : t + 1] if x.shape[1:2] == [7] else x
                for name, x in given.items()
            }
            state = state or call["initial_state"](**now)
            result = call["step"](**now, **state)
            state = {n: v for n, v in result.items() if n.startswith("state")}
            pieces.append([result[n] for n in sorted(result.keys() - state)])
        for place, name in enumerate(sorted(whole)):
            steps = tf.concat([piece[place] for piece in pieces], axis=1)
            found[f"whole {rows} {place}"] = whole[name]
            found[f"steps {rows} {place}"] = steps
    np.savez(folder + ".found.npz", **found)
"""


def run_without_the_package(code, folder, *arguments):
    """Runs code in a process that cannot import keras_seqgrad."""
    # Nor Keras: TensorFlow is enough.
    block = """import sys
sys.modules["keras_seqgrad"] = sys.modules["keras"] = None
"""
    hidden = {"PYTHONPATH", "PYTHONSTARTUP"}
    done = subprocess.run(
        [sys.executable, "-c", block + code, *map(str, arguments)],
        env={k: v for k, v in os.environ.items() if k not in hidden},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def tokens(mask_zero=False):
    """Several layers, two states in one of them, and an embedding."""
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="tokens"),
            L.Embedding(5, 3, mask_zero=mask_zero),
            L.LSTM(3, return_sequences=True, name="second"),
            L.GRU(2, return_sequences=True, name="first"),
            L.Dense(4, name="scores"),
        ]
    )


def several_outputs():
    """Two inputs and two outputs, by name."""
    x = keras.Input((None, 2), name="x")
    y = keras.Input((None, 2), name="y")
    hidden = L.GRU(3, return_sequences=True)(L.Concatenate()([x, y]))
    outputs = {"wide": L.Dense(3)(hidden), "narrow": L.Dense(1)(hidden)}
    return keras.Model({"x": x, "y": y}, outputs)


@contextlib.contextmanager
def eagerly():
    """For few steps, of which tracing would be all: exports are compiled."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture
def fits_eagerly(monkeypatch):
    plain = ksg.SequenceModel.fit

    def fit(self, *arguments, **options):
        with eagerly():
            return plain(self, *arguments, **options)

    monkeypatch.setattr(ksg.SequenceModel, "fit", fit)


def trained(network, x, **options):
    """A model after `fit` to the outputs that it starts with, plus one."""
    jit = options.pop("jit_compile", False)
    model = ksg.SequenceModel.from_model(network, **options)
    y = keras.tree.map_structure(lambda t: t.numpy() + 1.0, network(x))
    losses = dict.fromkeys(y, "mse") if isinstance(y, dict) else "mse"
    method = ksg.methods.TruncatedBPTT(zoo.STEPS)
    model.compile("adam", losses, method=method, jit_compile=jit)
    model.fit(x, y, shuffle=False, verbose=0)
    return model


def exported(folder):
    """Models in the folder, with inputs: (model, inputs) by name."""
    ids = np.random.default_rng(5).integers(1, 5, (3, zoo.STEPS))
    padded = np.where(np.arange(zoo.STEPS) < [[7], [4], [2]], ids, 0)
    padded = padded.astype("int32")
    x = {name: zoo.data(seed=s)[0] for s, name in enumerate("xy")}
    several = trained(several_outputs(), x, stateful=True, jit_compile=True)
    masked = trained(tokens(True), padded, learn_initial_state=True)
    models = {"several": (several, x), "masked": (masked, {"tokens": padded})}
    for name, (model, inputs) in models.items():
        model.export(folder / name, verbose=False)
        np.savez(folder / f"{name}.npz", **inputs)
    return models


def assert_served_as_predicted(model, inputs, found):
    given = inputs if len(inputs) > 1 else inputs["tokens"]
    with eagerly():
        expected = keras.tree.flatten(model.predict(given, verbose=0))
    assert len(found.files) == 4 * len(expected)
    for key in found.files:
        _, rows, place = key.split()
        right = expected[int(place)][: int(rows)]
        np.testing.assert_allclose(found[key], right, atol=1e-6)


@pytest.mark.compiled
@pytest.mark.slow
def test_served_where_the_package_is_not(tmp_path, monkeypatch, fits_eagerly):
    """Whole sequences, and step by step, of one row and of three; the page.

    One process loads them all, since it starts for seconds.
    """
    monkeypatch.chdir(tmp_path)
    train, client, litert, onnx = re.findall(
        r"^```python\n(.*?)^```", PAGE, re.M | re.S
    )
    names = {}
    exec(train, names)
    models = exported(tmp_path)
    folders = map(tmp_path.joinpath, models)
    printed = run_without_the_package(CLIENT + client, tmp_path, *folders)
    for name, (model, inputs) in models.items():
        with np.load(tmp_path / f"{name}.found.npz") as found:
            assert_served_as_predicted(model, inputs, found)
    model, x = names["model"], names["x"]
    with eagerly():
        expected = model.predict(x[:1], verbose=0)[0, :, 0]
    printed = [*map(float, printed.split())]
    np.testing.assert_allclose(printed, expected, atol=1e-6)
    exec(litert, names)
    [found] = names["outputs"][0]
    np.testing.assert_allclose(found, model(x[:1, :1])[0, 0], atol=1e-6)
    if all(map(importlib.util.find_spec, ["tf2onnx", "onnx", "onnxruntime"])):
        exec(onnx, names)
        run = importlib.import_module("onnxruntime").InferenceSession
        zeros = np.zeros((1, 4), "float32")
        given = {"x": x[:1, :1], "state_0": zeros, "state_1": zeros}
        [found] = run("step.onnx").run(["new_outputs"], given)
        np.testing.assert_allclose(found[0], names["outputs"][0], atol=1e-6)
