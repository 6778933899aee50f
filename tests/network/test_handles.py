"""What users of a Keras model reach for: layers, shapes, summary."""

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
