"""What users of a Keras model reach for: layers, shapes, summary, export."""

import importlib.util
import re
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo
from tests.network import networks
from tests.network.test_segmented import Own, built

L = keras.layers
SHOWN = ["layers", "inputs", "outputs", "input_shape", "output_shape"]


def sequential():
    return keras.Sequential(
        [
            networks.signal(steps=zoo.STEPS),
            L.Dense(4, name="wide"),
            L.LSTM(3, return_sequences=True, name="memory"),
            L.Dense(2, name="readout"),
        ]
    )


def compiled(network, **options):
    model = ksg.SequenceModel.from_model(network, **options)
    model.compile("sgd", "mse", method=ksg.methods.TruncatedBPTT(3))
    return model


@pytest.mark.parametrize("make", [sequential, networks.dictionaries])
def test_a_model_shows_what_its_network_does(make):
    network = make()
    model = compiled(network, stateful=True)
    for name in SHOWN:
        assert getattr(model, name) == getattr(network, name)
    for layer in network.layers:
        assert model.get_layer(layer.name) is layer
    assert model.get_layer(index=-1) is network.layers[-1]


def test_a_model_of_what_is_inside():
    network = sequential()
    model = compiled(network)
    inside = keras.Model(model.input, model.get_layer("memory").output)
    x, _ = zoo.data()
    expected = network.layers[1](network.layers[0](x))
    np.testing.assert_allclose(inside(x), expected, atol=1e-6)
    assert model.output.shape == (None, zoo.STEPS, 2)


def test_a_subclass_shows_what_plain_keras_shows():
    model = built()
    assert model.layers == [model.cell, model.readout]
    assert model.get_layer("dense") is model.readout
    for name in SHOWN[1:]:
        assert not hasattr(model, name)
    with pytest.raises(AttributeError, match="takes what it is called with"):
        assert model.inputs


class WithExtra(ksg.SequenceModel):
    """A network and a layer beside it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.extra = L.Dense(2)
        self.extra.build((None, 2))


def test_a_layer_beside_the_network_is_shown_and_saved(tmp_path):
    file = str(tmp_path / "file.weights.h5")
    network = sequential()
    model = WithExtra(network=network)
    assert model.layers == [*network.layers, model.extra]
    model.save_weights(file)
    other = WithExtra(network=sequential())
    other.load_weights(file)
    for a, b in zip(model.weights, other.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_layers_have_their_place_in_files_below_the_network(tmp_path):
    """Where they are in every file that was ever written."""
    file = tmp_path / "file.weights.h5"
    compiled(sequential()).save_weights(file)
    found = []
    with h5py.File(file) as opened:
        opened.visit(found.append)
    inside = {name for name in found if name.endswith("vars/0")}
    network = "layers/sequential/layers"
    assert {name for name in inside if "layers" in name} == {
        f"{network}/dense/vars/0",
        f"{network}/lstm/cell/vars/0",
        f"{network}/dense_1/vars/0",
    }


def lines(shown, **options):
    """The rows of a summary, and its counts."""
    texts = []
    shown.summary(print_fn=texts.append, **options)
    text = "\n".join(texts)
    counts = re.findall(r"(\S+) params: ([\d,]+)", text)
    rows = re.findall(r"^[│|](.*\d.*|.*\?.*)[│|]$", text, re.M)
    rows = [[cell.strip() for cell in re.split("[│|]", row)] for row in rows]
    return rows, {k: int(v.replace(",", "")) for k, v in counts}, text


@pytest.mark.parametrize(
    "make", [sequential, networks.dictionaries, networks.nested]
)
def test_the_summary_is_that_of_the_network(make):
    network = make()
    rows, counts, _ = lines(network, expand_nested=True)
    assert len(rows) >= len(network.layers)
    model = compiled(network)
    found, numbers, text = lines(model, expand_nested=True)
    assert found == rows
    assert f'Model: "{model.name}"' in text
    # The optimizer's are its rate and its count of updates.
    model.optimizer.build(model.trainable_variables)
    _, with_optimizer, _ = lines(model)
    assert with_optimizer.pop("Optimizer") == 2
    with_optimizer["Total"] -= 2
    assert numbers == with_optimizer == counts


def test_the_summary_counts_a_learned_initial_state():
    model = ksg.SequenceModel.from_model(sequential(), learn_initial_state=True)
    _, counts, _ = lines(model)
    assert counts["Total"] == model.network.count_params() + 2 * 3


def test_the_summary_of_a_subclass_before_and_after_it_is_built():
    model = Own()
    rows, counts, _ = lines(model)
    assert [row[-1] for row in rows] == ["0 (unbuilt)"] * 2
    assert counts["Total"] == 3
    model(zoo.data()[0])
    rows, counts, _ = lines(model)
    assert [row[-1] for row in rows] == ["15", "8"]
    assert counts["Total"] == 26


def test_a_model_of_a_sequence_model_is_refused():
    model = ksg.SequenceModel.from_model(sequential())
    with pytest.raises(ValueError, match="Received: SequenceModel"):
        compiled(model)


def test_a_state_computed_from_an_input_needs_this_input():
    model = compiled(networks.state_from_input())
    with pytest.raises(ValueError, match="model.start_state"):
        model.initial_state(2)


@pytest.mark.compiled
def test_the_recipe_of_the_docs_writes_as_whole_sequences_do():
    """Every draw is that of the model run on all before it."""
    docs = Path(__file__).parents[2] / "docs" / "sequence_model.md"
    text = docs.read_text()
    [code] = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    network = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            L.Embedding(5, 3),
            L.LSTM(3, return_sequences=True),
            L.Dense(5, kernel_initializer=keras.initializers.Orthogonal(9)),
        ]
    )
    model = ksg.SequenceModel.from_model(network, stateful=True)
    names = {"model": model, "np": np, "tf": tf, "start": [1, 4, 2]}
    names |= {"length": 12, "temperature": 0.5}
    exec(code, names)
    ids, generator = [1, 4, 2], np.random.default_rng(0)
    for _ in range(12):
        scores = network(np.array([ids]))[0, -1].numpy().astype("float64")
        chances = np.exp(2 * scores)
        ids.append(generator.choice(5, p=chances / chances.sum()))
    assert names["ids"] == ids[3:]
    assert len(set(names["ids"])) > 2


# --- export ----------------------------------------------------------------


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
