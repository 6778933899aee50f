"""Gated gradients from stored states: those without, to rounding.

The gradient without gates is tested where its method is: tests/methods.
"""

import keras
import numpy as np
import pytest

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import ARTBP, BPTT
from tests import zoo


def trained_and_estimated(network, data, method, **compiled):
    """Loss and gradients of a second window, after an update on the first.

    Both come from the state and the draws that the first window has left.
    """
    weights = network.get_weights()
    model = SequenceModel.from_model(network, stateful=True)
    model.compile("sgd", "mse", method=method, **compiled)
    model.train_on_batch(*data)
    loss, gradients = model.estimate_gradients(*data)
    moved = network.get_weights()
    network.set_weights(weights)
    return [loss, *gradients, *moved]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, per_row, per_sequence, every",
    [
        ("lstm", True, False, 3),
        ("lstm", False, True, "auto"),
        ("gru", True, True, "auto"),
        ("own", True, False, "auto"),
        ("own", False, True, 3),
    ],
)
def test_checkpoints_change_nothing(kind, per_row, per_sequence, every):
    """Rows of three lengths, a weight for each target, a carried state."""
    network = zoo.network(kind, 2, per_sequence=per_sequence)
    x, y = zoo.data(5, per_sequence=per_sequence)
    mask = np.arange(5) < np.array([[5], [2], [4]])
    weight = np.random.default_rng(2).uniform(size=y.shape[:-1])
    data = {"inputs": x, "mask": mask}, y, weight.astype("float32")
    options = {"per_row": per_row, "seed": 5}
    stored = trained_and_estimated(network, data, ARTBP(2, **options))
    method = ARTBP(2, **options, checkpoint_every=every)
    zoo.assert_same(trained_and_estimated(network, data, method), stored)
    if kind == "lstm":  # all rows draw the same cuts
        ungated = trained_and_estimated(network, data, BPTT())
        assert zoo.differ(ungated[1:], stored[1:])


def trained_on_drawn_lengths(every, **compiled):
    network = zoo.network("simple_rnn")
    model = SequenceModel.from_model(network, stateful=True)
    method = ARTBP(3, cuts="window", checkpoint_every=every)
    model.compile("sgd", "mse", method=method, **compiled)
    shape = zoo.BATCH, None, 2
    windows = [zoo.data(steps) for steps in (5, 2)]
    model.fit(zoo.generated(windows, shape, shape), verbose=0)
    return network.get_weights()


@pytest.mark.compiled
def test_checkpoints_of_windows_of_drawn_lengths():
    """Traced without a length, a window longer than a piece and a shorter."""
    expected = trained_on_drawn_lengths(None, run_eagerly=True)
    found = trained_on_drawn_lengths(3, jit_compile=True)
    zoo.assert_same(found, expected)


def test_checkpoints_draw_dropout_again_as_it_was():
    """Every segment has masks of its own, and both runs of it the same."""
    keras.utils.set_random_seed(4)
    network = keras.Sequential(
        [
            keras.Input((None, 2)),
            keras.layers.LSTM(3, return_sequences=True),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2),
        ]
    )
    x, y = zoo.data(5)
    model = SequenceModel.from_model(network)
    method = ARTBP(3, seed=1, checkpoint_every=3)
    model.compile("sgd", "mse", method=method)
    _, found = model.estimate_gradients(x, y)
    # What follows the scans is differentiated as it is: no gate is in its way.
    kernel, moved = network.layers[-1].kernel, []
    value = kernel.numpy()
    for step in (1e-2, -1e-2):
        changed = value.copy()
        changed[0, 1] += step
        kernel.assign(changed)
        moved.append(float(model.estimate_gradients(x, y)[0]))
    slope = (moved[0] - moved[1]) / 2e-2
    assert found[-2].numpy()[0, 1] == pytest.approx(slope, rel=1e-3, abs=1e-5)
