"""Singular values of a step: those of matrices that are known."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo
from tests.network.networks import numbers, siamese
from tests.network.test_segmented import Own

spectrum = ksg.diagnostics.state_jacobian_spectrum


def svd(matrix):
    return np.linalg.svd(matrix, compute_uv=False)


def test_linear_systems():
    """Without a loss or targets; an own cell's output is not its state."""
    task = ksg.data.tasks.InfluenceBalancing(6)
    cell = ksg.data.tasks.InfluenceBalancingCell()
    network = [keras.Input((None, 1)), keras.layers.RNN(cell, True, name="rnn")]
    model = ksg.SequenceModel.from_model(keras.Sequential(network))
    found = spectrum(model, np.zeros((2, 6, 1)), 3)
    assert found.steps == [1, 3, 5]
    assert list(found.singular_values) == ["rnn", "all"]
    values = found.singular_values["all"]
    assert values.shape == (3, 2, 23)
    np.testing.assert_allclose(
        values, np.broadcast_to(svd(task.matrix), values.shape), atol=1e-5
    )
    assert found.largest["all"] == pytest.approx(svd(task.matrix)[0])
    # The determinant of a triangular matrix.
    assert found.geometric_mean["rnn"] == pytest.approx(0.5, rel=1e-3)


@pytest.mark.slow
def test_layers_on_one_another_against_a_tape():
    x, _ = zoo.data(6)
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((None, 2)),
            layers.GRU(3, return_sequences=True, name="low", dropout=0.5),
            layers.LSTM(3, name="high"),
        ]
    )
    model = ksg.SequenceModel.from_model(network)
    before = [v.numpy() for v in zoo.everything(model)]
    found = spectrum(model, x, 2)
    gru, lstm = (layer.cell for layer in network.layers)
    state = tf.zeros((3, 9))
    jacobians = []
    for step in range(6):
        with tf.GradientTape() as tape:
            tape.watch(state)
            low, h, c = tf.split(state, 3, axis=1)
            low = gru(x[:, step], [low])[0]
            _, high = lstm(low, [h, c])
            new = tf.concat([low, *high], axis=1)
        jacobians.append(tape.batch_jacobian(new, state).numpy())
        state = new
    assert found.steps == [1, 5]
    expected = np.stack([jacobians[1], jacobians[5]])
    for name, block in [
        ("low", slice(0, 3)),
        ("high", slice(3, 9)),
        ("all", slice(0, 9)),
    ]:
        np.testing.assert_allclose(
            found.singular_values[name],
            svd(expected[..., block, block]),
            atol=1e-5,
        )
    for variable, value in zip(zoo.everything(model), before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.slow
def test_one_layer_called_several_times():
    """Each call has a state of its own, under its own name."""
    network = siamese()
    x = numbers(network)
    model = ksg.SequenceModel.from_model(network)
    found = spectrum(model, x).singular_values
    assert len(found) == 4
    inner = network.get_layer("inner")
    single = ksg.SequenceModel.from_model(inner)
    for inputs in x:
        [expected, _] = spectrum(single, inputs).singular_values.values()
        assert any(
            np.allclose(expected, values, atol=1e-5)
            for name, values in found.items()
            if name != "all"
        )


def test_masks_resets_and_a_carried_state():
    x, y = zoo.data(5)
    network = zoo.network("gru")
    model = ksg.SequenceModel.from_model(network, stateful=True)
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(x, y, 3, shuffle=False, verbose=0)
    mask, reset = np.ones((3, 5), bool), np.zeros((3, 5), bool)
    mask[:, 1], reset[:, 2] = False, True
    given = {"inputs": x, "mask": mask, "reset": reset}
    values = spectrum(model, given).singular_values["all"]
    np.testing.assert_allclose(values[0], 1.0, rtol=1e-6)
    np.testing.assert_array_equal(values[1], 0.0)
    assert (values[2:] > 0).all()


def test_subclass_and_table():
    x, _ = zoo.data()
    found = spectrum(Own(), x)
    assert list(found.singular_values) == ["all"]
    assert found.steps == [1, 2, 3, 4, 5, 6]
    lines = str(found).splitlines()
    assert lines[0].split() == ["layer", "largest", "geom.", "mean", "smallest"]
    assert lines[1].startswith("all ")


def test_refusals():
    x, _ = zoo.data()
    model = ksg.SequenceModel.from_model(zoo.network("gru"))
    with pytest.raises(ValueError, match="`count` must be an integer"):
        spectrum(model, x, 0)
    with pytest.raises(ValueError, match="2 steps or more, received 1"):
        spectrum(model, x[:, :1])
