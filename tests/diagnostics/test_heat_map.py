"""The gradient by every state, beside that of a tape."""

import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.diagnostics.heat_map import StateGradients, draw
from keras_seqgrad.diagnostics.method_measures import lengths_between
from keras_seqgrad.diagnostics.pictures import png
from keras_seqgrad.diagnostics.size import needed_bytes
from tests import zoo
from tests.network.test_segmented import built


def test_against_a_tape():
    x, y = zoo.data()
    network = zoo.network("gru")
    gru, readout = network.layers
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse")
    state, states, loss = tf.zeros((3, 3)), [], 0.0
    with tf.GradientTape() as tape:
        for step in range(zoo.STEPS):
            state = gru.cell(x[:, step], [state])[0]
            tape.watch(state)
            states.append(state)
            loss += tf.reduce_mean((readout(state) - y[:, step]) ** 2, axis=1)
    expected = [
        np.linalg.norm(found, axis=1).mean()
        for found in tape.gradient(loss, states)
    ]
    found = model.probe(StateGradients(x.shape[:2]), x, y, jit=False).numpy()
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4)
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-4)


def test_picture_names_axes_and_units():
    norms = np.array([[0.0, 1.0], [0.5, 2.0], [0.1, 0.3]])
    figure = draw(["lstm", "all"], norms)
    axis, bar = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "lstm",
        "all",
    ]
    assert axis.get_xlabel() == "step t of the window"
    assert "∂L / ∂h(t)" in bar.get_ylabel()
    assert png(figure)[:4] == b"\x89PNG"
    # Nothing to take a logarithm of.
    assert png(draw(["all"], np.zeros((3, 1))))[:4] == b"\x89PNG"


def test_lengths_between_cuts():
    assert lengths_between(np.array([1, 1.5, 0, 1, 0, 2, 2])) == [2, 2, 3]
    assert lengths_between(np.array([[1, 1], [1, 0]])) == [2, 1, 1]


def test_memory_grows_with_window_and_estimates():
    model = ksg.SequenceModel.from_model(zoo.network("gru"))
    small = needed_bytes(model, (3, 7), 4)
    # Both products of the GRU, its output, the readout's product and output;
    # forward and backward, 4 bytes each; sums for each parameter.
    count = model.count_params()
    assert small == 8 * 3 * 7 * (9 + 9 + 9 + 3 + 2 + 2) + count * (16 + 24)
    rest = count * (16 + 24)
    assert needed_bytes(model, (30, 70), 4) - rest == 100 * (small - rest)
    assert needed_bytes(model, (3, 7), 99) - small == count * 4 * (16 - 4)
    assert needed_bytes(built(), (3, 7), 4) > 0
