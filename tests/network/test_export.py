"""Models written for serving, loaded where this package is not."""

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
from keras_seqgrad.network import export
from tests import zoo
from tests.network import networks
from tests.network.test_handles import compiled, sequential
from tests.network.test_segmented import Own, built

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
    block = 'import sys\nsys.modules["keras_seqgrad"] = None\n'
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


def trained(network, x, **options):
    """A model after `fit` to the outputs that it starts with, plus one."""
    jit = options.pop("jit_compile", False)
    model = ksg.SequenceModel.from_model(network, **options)
    y = keras.tree.map_structure(lambda t: t.numpy() + 1.0, network(x))
    losses = dict.fromkeys(y, "mse") if isinstance(y, dict) else "mse"
    method = ksg.methods.TruncatedBPTT(4)
    model.compile("adam", losses, method=method, jit_compile=jit)
    model.fit(x, y, shuffle=False, verbose=0)
    return model


@pytest.mark.compiled
@pytest.mark.slow
def test_served_where_the_package_is_not(tmp_path):
    """Whole sequences, and step by step, of one row and of three."""
    g = np.random.default_rng(5)
    ids = g.integers(1, 5, (3, zoo.STEPS)).astype("int32")
    padded = np.where(np.arange(zoo.STEPS) < [[7], [4], [2]], ids, 0)
    x = {name: zoo.data(seed=s)[0] for s, name in enumerate("xy")}
    models = {
        "jit": (trained(tokens(), ids, jit_compile=True), {"tokens": ids}),
        "masked": (
            trained(tokens(True), padded, learn_initial_state=True),
            {"tokens": padded},
        ),
        "stateful": (trained(several_outputs(), x, stateful=True), x),
    }
    for name, (model, inputs) in models.items():
        model.export(tmp_path / name, verbose=False)
        np.savez(tmp_path / f"{name}.npz", **inputs)
    run_without_the_package(CLIENT, tmp_path, *map(tmp_path.joinpath, models))
    for name, (model, inputs) in models.items():
        given = inputs if len(inputs) > 1 else inputs["tokens"]
        expected = keras.tree.flatten(model.predict(given, verbose=0))
        with np.load(tmp_path / f"{name}.found.npz") as found:
            assert len(found.files) == 4 * len(expected)
            for key in found.files:
                _, rows, place = key.split()
                right = expected[int(place)][: int(rows)]
                np.testing.assert_allclose(found[key], right, atol=1e-6)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_a_step_without_a_loop_is_a_step(name):
    network = networks.NETWORKS[name]()
    model = ksg.SequenceModel.from_model(network)
    x = keras.tree.map_structure(tf.constant, networks.numbers(network))
    state, found = model.start_state(x, zoo.BATCH), []
    for step in range(zoo.STEPS):
        # As the numbers by which clients know it, and back.
        flat = export.flat_state(model, state)
        state = export.nested_state(model, flat, state)
        outputs, state = export.run(
            model, model.cut_inputs(x, step, 1), state, steps=1
        )
        found.append(keras.tree.flatten(outputs))
    expected = keras.tree.flatten(model(x))
    for place, right in enumerate(expected):
        pieces = [outputs[place] for outputs in found]
        if model.temporal_outputs[place]:
            pieces = [np.concatenate(pieces, axis=1)]
        np.testing.assert_allclose(pieces[-1], right, atol=1e-6)


def test_states_are_numbered_as_the_network_has_its_layers():
    model = ksg.SequenceModel.from_model(tokens())
    shapes = {k: spec.shape for k, spec in export.state_of(model).items()}
    h_and_c = {"state_0": (None, 3), "state_1": (None, 3)}
    assert shapes == {**h_and_c, "state_2": (None, 2)}


def test_what_has_no_steps_is_not_exported(tmp_path):
    backwards = L.Bidirectional(L.GRU(2, return_sequences=True))
    mixed = [L.GRU(2, return_sequences=True), backwards]
    for layers, name, error in [
        (mixed, "x", "cannot be cut in time"),
        ([L.GRU(2)], "state_0", "An input is named 'state_0'"),
    ]:
        inputs = keras.Input((None, 2), name=name)
        network = keras.Sequential([inputs, *layers])
        model = ksg.SequenceModel.from_model(network)
        for write in model.export, model.export_steps:
            with pytest.raises(ValueError, match=error):
                write(tmp_path / "model", verbose=False)
            assert not (tmp_path / "model").exists()


def test_onnx_is_made_of_the_layers_of_keras(tmp_path):
    model = compiled(sequential())
    assert export.plain(model) is model.network
    model = compiled(sequential(), learn_initial_state=True)
    with pytest.raises(ValueError, match="learn_initial_state=True"):
        model.export(tmp_path / "model.onnx", format="onnx")
    assert export.plain(own := Own()) is own


@pytest.mark.compiled
@pytest.mark.slow
def test_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train, client, litert, onnx = re.findall(
        r"^```python\n(.*?)^```", PAGE, re.M | re.S
    )
    names = {}
    exec(train, names)
    model, x = names["model"], names["x"]
    expected = model.predict(x[:1], verbose=0)[0, :, 0]
    printed = run_without_the_package(client, tmp_path).split()
    np.testing.assert_allclose([*map(float, printed)], expected, atol=1e-6)
    exec(litert, names)
    [found] = names["outputs"][0]
    np.testing.assert_allclose(found, model(x[:1, :1])[0, 0], atol=1e-6)
    assert "tf2onnx" in onnx


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize("after", ["compile", "fit", "predict"])
def test_whole_sequences_are_exported(after, tmp_path):
    x, y = zoo.data()
    model = compiled(sequential(), stateful=True, learn_initial_state=True)
    model.initial_state_weights[0].assign([0.5, -0.5, 1.0])
    if after == "fit":
        model.fit(x, y, shuffle=False, verbose=0)
    elif after == "predict":
        model.predict(x, verbose=0)
    model.export(tmp_path, verbose=False)
    served = tf.saved_model.load(tmp_path)
    for _ in range(2):  # from the initial state, every time
        np.testing.assert_allclose(served.serve(x), model(x), atol=1e-6)
    # Any number of rows, and the steps that the network declares.
    [spec] = served.signatures["serve"].structured_input_signature[1].values()
    assert spec.shape.as_list() == [None, zoo.STEPS, 2]


@pytest.mark.compiled
@pytest.mark.slow
def test_a_subclass_is_exported_once_it_has_been_called(tmp_path):
    x, y = zoo.data()
    model = Own()
    with pytest.raises(ValueError, match="does not know its inputs"):
        model.export(tmp_path)
    model.compile("sgd", "mse", method=ksg.methods.TruncatedBPTT(3))
    model.fit(x, y, verbose=0)
    model.export(tmp_path, verbose=False)
    served = tf.saved_model.load(tmp_path)
    np.testing.assert_allclose(served.serve(x), model(x), atol=1e-6)


@pytest.mark.compiled
@pytest.mark.slow
def test_other_formats_are_those_of_plain_keras(tmp_path):
    model = compiled(sequential())
    file = tmp_path / "model.tflite"
    model.export(file, format="litert", verbose=False)
    runner = tf.lite.Interpreter(model_path=str(file))
    [inputs] = runner.get_input_details()
    assert inputs["shape_signature"].tolist() == [-1, zoo.STEPS, 2]
    packages = ["tf2onnx", "onnx", "onnxruntime"]
    file = tmp_path / "model.onnx"
    if not all(map(importlib.util.find_spec, packages)):
        with pytest.raises(ImportError, match="onnx"):
            model.export(file, format="onnx", verbose=False)
        return
    model.export(file, format="onnx", verbose=False)
    session = importlib.import_module("onnxruntime").InferenceSession(file)
    x, _ = zoo.data()
    [found] = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(found, model(x), atol=1e-6)


def by_steps(served, x, cuts):
    """Outputs of segments, joined over time."""
    found, state = [], None

    def piece(start, end):
        return keras.tree.map_structure(
            lambda t: t[:, start:end] if t.ndim == 3 else t, x
        )

    for start, end in zip([0, *cuts], [*cuts, zoo.STEPS], strict=True):
        if state is None:
            state = served.initial_state(piece(start, end))
        names = state.keys()
        result = served.step(piece(start, end), state)
        state = {k: v for k, v in result.items() if k.startswith("state")}
        assert state.keys() == names
        found.append(
            [v for k, v in sorted(result.items()) if k.startswith("out")]
        )
    return [np.concatenate(parts, 1) for parts in zip(*found, strict=True)]


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["fixed length", "dictionaries", "state from an input"]
)
def test_exported_steps_go_through_a_sequence_as_predict_does(name, tmp_path):
    network = networks.NETWORKS[name]()
    model = ksg.SequenceModel.from_model(
        network, learn_initial_state=name == "fixed length"
    )
    for weight in model.initial_state_weights:
        weight.assign([0.5, -0.5, 1.0])
    x = networks.numbers(network)
    model.export_steps(tmp_path, verbose=False)
    served = tf.saved_model.load(tmp_path)
    expected = keras.tree.flatten(model.predict(x, verbose=0))
    for cuts in [range(1, zoo.STEPS), [3]]:
        found = by_steps(served, x, cuts)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    default = served.signatures["serving_default"]
    names = set(default.structured_outputs)
    assert names == set(served.signatures["step"].structured_outputs)
    given = default.structured_input_signature[1]
    states = {name for name in names if name.startswith("state")}
    assert states == {name for name in given if name.startswith("state")}
    assert len(given) - len(states) == len(network.inputs)


@pytest.mark.compiled
@pytest.mark.slow
def test_exported_steps_of_a_subclass(tmp_path):
    model = built()
    model.start.assign([0.5, -0.5, 1.0])
    # It loops over its steps in Python.
    with pytest.raises(ValueError, match="steps=1"):
        model.export_steps(tmp_path)
    model.export_steps(tmp_path, steps=1, verbose=False)
    served = tf.saved_model.load(tmp_path)
    x, _ = zoo.data()
    [found] = by_steps(served, x, range(1, zoo.STEPS))
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)
