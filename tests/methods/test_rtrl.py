"""RTRL equals BPTT for any cell, all layers and what is below them."""

import keras
import numpy as np
import pytest

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import BPTT, RTRL, UORO, SnAp, TruncatedBPTT
from tests import zoo
from tests.methods import wide


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_two_dense_layers_and_an_embedding():
    below = [keras.Input((None,), dtype="int32"), keras.layers.Embedding(4, 2)]
    network = wide.network("lstm", "gru", dense=True, below=below, units=2)
    tokens = np.random.default_rng(0).integers(4, size=(1, 5))
    y = wide.data(5)[1][:1]
    exact = wide.estimate(network, BPTT(), tokens, y)
    found = wide.estimate(network, RTRL(2), tokens, y)
    assert wide.error(found, exact) < 1e-12
    assert wide.error(found[:1], exact[:1]) < 1e-12
    for other in (TruncatedBPTT(2), SnAp(2)):
        missing = wide.estimate(network, other, tokens, y)
        assert wide.error(missing[:1], exact[:1]) > 0.01


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["gru_before", "stacked", "own"])
def test_any_cell_one_step_at_a_time(kind):
    network = zoo.network(kind)
    x, y = (each[:1] for each in zoo.data(3))
    exact = wide.estimate(network, BPTT(), x, y)
    assert wide.error(wide.estimate(network, RTRL(1), x, y), exact) < 1e-12


@pytest.mark.slow
@pytest.mark.usefixtures("float64")
def test_masks_resets_and_a_learned_initial_state():
    network, (x, y) = wide.network("gru", dense=True, units=2), wide.data(5)
    mask = np.random.default_rng(1).random(x.shape[:2]) < 0.7
    mask[:, -1] = True
    reset = np.zeros_like(mask)
    reset[1, 2] = True
    x[~mask] = np.nan
    given = {"inputs": x, "mask": mask, "reset": reset}
    found = []
    for method in (BPTT(), RTRL(2)):
        model = wide.compiled(network, method, learn_initial_state=True)
        found.append(model.estimate_gradients(given, y)[1])
    exact, ours = found
    assert wide.error(ours, exact) < 1e-12
    assert len(exact) == 6


@pytest.mark.usefixtures("float64")
def test_one_target_per_sequence():
    network = wide.network("lstm", dense=True, per_sequence=True, units=2)
    x, y = wide.data(5, per_sequence=True)
    exact = wide.estimate(network, BPTT(), x, y)
    assert wide.error(wide.estimate(network, RTRL(2), x, y), exact) < 1e-12


def test_a_model_beyond_the_budget_is_refused_with_the_number():
    model = SequenceModel.from_model(zoo.network("gru"))
    units, size = 3, model.count_params()
    with pytest.raises(ValueError, match=f"3 units.*that is {units * size}"):
        model.compile("sgd", "mse", method=RTRL(2, budget=units * size - 1))
    model.compile("sgd", "mse", method=RTRL(2, budget=units * size))
    for arguments in ((0,), (1, 0)):
        with pytest.raises(ValueError, match="must be an integer of 1 or more"):
            RTRL(*arguments)


@pytest.mark.parametrize("method", [RTRL(3), UORO(3)])
def test_of_a_frozen_model_nothing_is_learnt(method):
    network = zoo.network("gru")
    network.trainable = False
    model = SequenceModel.from_model(network)
    model.compile("sgd", "mse", method=method)
    x, y = zoo.data(4)
    [loss] = model.fit(x, y, verbose=0).history["loss"]
    assert loss == pytest.approx(model.evaluate(x, y, verbose=0), rel=1e-5)
