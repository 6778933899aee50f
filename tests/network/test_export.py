"""Models as functions for serving: signatures, states and formats."""

import importlib.util

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
from tests.network.test_served import tokens

L = keras.layers


def linear():
    kinds = ksg.layers.LRU, ksg.layers.QRNN, ksg.layers.MinLSTM
    layers = [kind(2, return_sequences=True) for kind in kinds]
    return keras.Sequential([networks.signal(), *layers])


ANY = {**networks.NETWORKS, "linear recurrences": linear}


@pytest.mark.slow
@pytest.mark.parametrize("name", ANY)
def test_a_step_without_a_loop_is_a_step(name):
    network = ANY[name]()
    model = ksg.SequenceModel.from_model(network)
    steps = zoo.STEPS if name == "fixed length" else 5
    x = networks.numbers(network, steps)
    x = keras.tree.map_structure(tf.constant, x)
    state, found = model.start_state(x, zoo.BATCH), []
    for step in range(steps):
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
    for layers, name, error in [
        ([backwards], "x", "cannot be cut in time"),
        ([L.GRU(2)], "state_0", "An input is named 'state_0'"),
    ]:
        inputs = keras.Input((None, 2), name=name)
        network = keras.Sequential([inputs, *layers])
        model = ksg.SequenceModel.from_model(network)
        for write in model.export, model.export_steps:
            with pytest.raises(ValueError, match=error):
                write(tmp_path / "model", verbose=False)
            assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("steps", [0, True, 1.0, "1"])
def test_a_number_of_steps_is_a_positive_integer(steps, tmp_path):
    model = ksg.SequenceModel.from_model(tokens())
    with pytest.raises(ValueError, match="`steps` must be an integer of 1"):
        model.export_steps(tmp_path, steps=steps)


def test_onnx_is_made_of_the_layers_of_keras(tmp_path):
    model = compiled(sequential())
    assert export.plain(model) is model.network
    model = compiled(sequential(), learn_initial_state=True)
    with pytest.raises(ValueError, match="learn_initial_state=True"):
        model.export(tmp_path / "model.onnx", format="onnx")
    assert export.plain(own := Own()) is own


@pytest.mark.compiled
@pytest.mark.slow
def test_whole_sequences_are_exported(tmp_path):
    """After runs, which carried a state; others export what never ran."""
    x, y = zoo.data()
    model = compiled(sequential(), stateful=True, learn_initial_state=True)
    model.initial_state_weights[0].assign([0.5, -0.5, 1.0])
    model.run_eagerly = True  # but for what is exported
    model.fit(x, y, shuffle=False, verbose=0)
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
    method = ksg.methods.TruncatedBPTT(3)
    model.compile("sgd", "mse", method=method, run_eagerly=True)
    model.fit(x, y, verbose=0)
    model.export(tmp_path, verbose=False)
    served = tf.saved_model.load(tmp_path)
    np.testing.assert_allclose(served.serve(x), model(x), atol=1e-6)
    [found] = by_steps(served, x, range(1, zoo.STEPS))
    np.testing.assert_allclose(found, model(x), atol=1e-6)


@pytest.mark.compiled
@pytest.mark.slow
def test_other_formats_are_those_of_plain_keras(tmp_path):
    layers = [networks.signal(zoo.STEPS), L.GRU(2, return_sequences=True)]
    model = compiled(keras.Sequential(layers))
    file = tmp_path / "model.tflite"
    model.export(file, format="litert", verbose=False)
    runner = tf.lite.Interpreter(model_path=str(file))
    [inputs] = runner.get_input_details()
    assert inputs["shape_signature"].tolist() == [-1, zoo.STEPS, 2]
    # Where all sizes are known it needs no kernels but those of LiteRT.
    x, _ = zoo.data()
    known = [keras.InputSpec("float32", x.shape, name="x")]
    model.export(file, "litert", verbose=False, input_signature=known)
    runner = tf.lite.Interpreter(model_path=str(file))
    [found] = runner.get_signature_runner()(x=x).values()
    np.testing.assert_allclose(found, model(x), atol=1e-6)
    packages = ["tf2onnx", "onnx", "onnxruntime"]
    file = tmp_path / "model.onnx"
    if not all(map(importlib.util.find_spec, packages)):
        with pytest.raises(ImportError, match="onnx"):
            model.export(file, format="onnx", verbose=False)
        return
    model.export(file, format="onnx", verbose=False)
    session = importlib.import_module("onnxruntime").InferenceSession(file)
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
def test_exported_steps_go_through_a_sequence_as_the_model(name, tmp_path):
    network = networks.NETWORKS[name]()
    model = ksg.SequenceModel.from_model(
        network, learn_initial_state=name == "fixed length"
    )
    for weight in model.initial_state_weights:
        weight.assign([0.5, -0.5, 1.0])
    x = networks.numbers(network)
    model.export_steps(tmp_path, verbose=False)
    served = tf.saved_model.load(tmp_path)
    expected = keras.tree.flatten(model(x))
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
    np.testing.assert_allclose(found, model(x), atol=1e-6)
