"""Models that run on whole windows alone: those of Keras, by BPTT()."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import stock, zoo
from tests.methods.table import TABLE
from tests.methods.uncut import (
    NETWORKS,
    ROWS,
    STEPS,
    both_ways,
    convolved,
    data,
    in_between,
    rnn,
    translated,
)
from tests.network.networks import L, signal

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", NETWORKS)
def test_equals_keras(name):
    make, temporal = NETWORKS[name]
    keras.utils.set_random_seed(1)
    network = make()
    x, y = data(network)
    expected, model = stock.pair(network, metrics=["mae"])
    assert model.network_uncut is not None and model.network_head is None
    assert model.graph.temporal_inputs == temporal
    weights = stock.weights_of(*y.shape[: len(y.shape) - 1])
    stock.assert_same_training(expected, model, x, y, sample_weight=weights)
    zoo.assert_same(
        [model.predict(x, verbose=0)], [expected.predict(x, verbose=0)], 1e-5
    )
    loss, _ = model.estimate_gradients(x, y)
    found = expected.evaluate(x, y, batch_size=ROWS, verbose=0)[0]
    if name != "convolved" and name != "convolved, of a length":
        np.testing.assert_allclose(loss, found, rtol=1e-5)  # not normed


def test_carries_the_state_as_keras_does():
    """What is before the recurrent layers sees one window."""
    layers = [L.Conv1D(2, 3, padding="same"), L.Dense(2)]
    options = {"batch_shape": (3, 4, 2)}
    expected = keras.Sequential(
        [keras.Input(**options), layers[0], rnn(stateful=True), layers[1]]
    )
    model = keras.Sequential([signal(4), layers[0], rnn(), layers[1]])
    network = keras.models.clone_model(model)
    network.set_weights(expected.get_weights())
    model = ksg.SequenceModel.from_model(network, stateful=True)
    x, y = stock.numbers()
    for each in expected, model:
        each.compile("sgd", "mse")
        each.fit(x, y, batch_size=3, shuffle=False, verbose=0)
    zoo.assert_same(network.get_weights(), expected.get_weights(), 1e-6)


TAKE_THEM = {n for n in TABLE if TABLE[n].method().takes_front}


@pytest.mark.parametrize("name", sorted(TABLE.keys() - TAKE_THEM))
def test_other_methods_refuse_it_by_name(name):
    model = ksg.SequenceModel.from_model(both_ways())
    said = r"'bidirectional.* backward half .*BPTT\(\) runs windows as a whole"
    with pytest.raises(ValueError, match=said):
        model.compile("sgd", "mse", method=TABLE[name].method())


def test_what_looks_at_segments_refuses_it():
    network = convolved(STEPS)
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse", run_eagerly=True)
    x, y = data(network)
    flags = np.ones((ROWS, STEPS), bool)
    step = x[:, :1]
    for call, text in [
        (lambda: model.call_segment(step, model.initial_state(ROWS)), "model"),
        (lambda: model.fit({"inputs": x, "mask": flags}, y), "by Masking"),
        (lambda: model.fit({"inputs": x, "reset": flags}, y), "a row of its"),
        (lambda: ksg.diagnostics.influence_profile(model, x, y, 2), "whole w"),
    ]:
        with pytest.raises(ValueError, match=rf"pooling.* need all .*{text}"):
            call()


def test_gradients_are_compared_with_that_of_whole_windows(tmp_path):
    network = in_between()
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse", method="bptt", run_eagerly=True)
    x, y = data(network)
    found = ksg.diagnostics.compare_gradients(model, x, y)
    assert found["BPTT()"].cosine == pytest.approx(1.0)
    diagnostics = ksg.callbacks.GradientDiagnostics(tmp_path, (x, y), every=1)
    model.fit(x, y, callbacks=[diagnostics], verbose=0)
    assert diagnostics.measured


@pytest.mark.slow
def test_saved_and_exported(tmp_path):
    network = in_between()
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse")
    x, _ = data(network)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.network_uncut.layer == model.network_uncut.layer
    model.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    assert set(served.signatures) == {"serve", "serving_default"}
    for found in loaded(x), served.serve(x):
        np.testing.assert_allclose(found, model(x), atol=1e-6)


@pytest.mark.slow
@pytest.mark.compiled
def test_as_a_graph():
    network = translated()
    x, y = data(network)
    results = []
    for options in {"run_eagerly": True}, {"jit_compile": False}:
        keras.utils.set_random_seed(3)
        model = ksg.SequenceModel.from_model(translated())
        model.compile("sgd", "mse", **options)
        model.fit(x, y, verbose=0)
        results.append(model.get_weights())
    zoo.assert_same(*results, 1e-5)
