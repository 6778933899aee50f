import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests.examples import script


@pytest.fixture(scope="module")
def example():
    return script.load("subclassing")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_cell_is_a_minimal_gated_unit(example):
    cell = example.MinimalGatedCell(3)
    cell.build((2, 4))
    generator = np.random.default_rng(0)
    x, h = generator.normal(size=(2, 4)), generator.normal(size=(2, 3))
    kernel, gate, recurrent, bias = (w.numpy() for w in cell.weights)
    np.testing.assert_array_equal(bias, [-1, -1, -1, 0, 0, 0])
    bias = generator.normal(size=6).astype("float32")
    cell.bias.assign(bias)
    f = sigmoid(x @ kernel[:, :3] + h @ gate + bias[:3])
    new = np.tanh(x @ kernel[:, 3:] + (f * h) @ recurrent + bias[3:])
    output, (state,) = cell(x.astype("float32"), [h.astype("float32")])
    np.testing.assert_allclose(state, (1 - f) * h + f * new, atol=1e-6)
    np.testing.assert_array_equal(output, state)


def test_its_gradient_is_that_of_the_same_layers_in_keras(example):
    model = example.CharacterModel(7, 3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=False)
    x = np.random.default_rng(1).integers(0, 7, size=(2, 12))
    y = np.roll(x, -1, axis=1)
    found = model.estimate_gradients(x, y)[1]
    layer = keras.layers.RNN(model.rnn.cell, return_sequences=True)
    stock = keras.Sequential([model.embed, layer, model.read_out])
    stock.compile(keras.optimizers.SGD(100.0), loss, jit_compile=False)
    before = [variable.numpy() for variable in model.trainable_variables]
    stock.train_on_batch(x, y)
    for variable, old, gradient in zip(
        model.trainable_variables, before, found, strict=True
    ):
        step = old - variable.numpy()
        gradient = tf.convert_to_tensor(gradient)
        np.testing.assert_allclose(step, 100 * gradient, atol=1e-4)
        assert np.abs(step).max() > 1e-3


@pytest.mark.slow
def test_run(example, tmp_path, capsys, monkeypatch, no_pictures):
    corpus = ksg.data.text.get("stdlib", limit=20_000)
    monkeypatch.setattr(ksg.data.text, "get", lambda name: corpus)
    arguments = ["--quick", "--no-jit", "--out", str(tmp_path)]
    arguments += ["--limit", "3000", "--window", "20", "--length", "5"]
    arguments += ["--compare", "bptt"]
    example.main([*arguments, "--method", "artbp", "--seed", "3"])
    printed = capsys.readouterr().out
    pattern = (
        r"epoch 1: (\S+) bits a character, validation (\S+); "
        r"cosine with the exact gradient (\S+)\n"
    )
    train, valid, cosine = map(float, re.search(pattern, printed).groups())
    even = np.log2(len(corpus.vocabulary))
    assert 3.0 < train < even and 3.0 < valid < even
    assert 0.9 < cosine < 1.0
    assert re.search(r"bptt +all +1\.0000 +1\.000", printed)
    assert re.search(r"artbp +all +0\.9", printed)
    [difference] = re.findall(r"loaded: largest difference (\S+)", printed)
    assert float(difference) < 1e-4
    assert list((tmp_path / "logs").glob("events.*"))
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, example.CharacterModel) and loaded.stateful
    assert loaded.method.get_config()["mean_length"] == 5
    # What training carried is there too, and no row of it is at rest.
    state, _ = loaded.carried["training"].rows
    assert np.abs(state.numpy()).max(axis=-1).min() > 0


def test_a_synthesiser_is_not_compared_untrained(example, capsys):
    with pytest.raises(SystemExit):
        example.parse(["--compare", "dni"])
    assert "invalid choice: 'dni'" in capsys.readouterr().err
