"""Models that run on whole windows alone: those of Keras, by BPTT()."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import stock, zoo
from tests.methods.table import TABLE
from tests.network.networks import L, signal

ROWS, STEPS, LATER = 6, 8, 5


def rnn(units=3, **options):
    return L.SimpleRNN(units, return_sequences=True, **options)


def convolved(steps=None):
    """Half as many steps as it is given, and normed."""
    return keras.Sequential(
        [
            signal(steps),
            L.Conv1D(4, 3, padding="same", activation="relu"),
            L.BatchNormalization(momentum=0.5),
            L.MaxPooling1D(2),
            L.LSTM(3, activity_regularizer="l2", return_sequences=True),
            L.Dense(2),
        ]
    )


def both_ways():
    return keras.Sequential(
        [signal(), L.Bidirectional(rnn(2)), L.GRU(3), L.Dense(2)]
    )


def in_between():
    """A convolution between two, and a head."""
    return keras.Sequential(
        [signal(STEPS), rnn(), L.Conv1D(2, 3), rnn(), L.Flatten(), L.Dense(2)]
    )


def translated():
    """A decoder that starts where the encoder ends, and looks back at it."""
    past = keras.Input((None,), dtype="int32")
    future = keras.Input((None,), dtype="int32")
    words = L.Embedding(7, 3, mask_zero=True)
    read, state = L.GRU(3, return_sequences=True, return_state=True)(
        words(past)
    )
    written = L.GRU(3, return_sequences=True)(
        words(future), initial_state=state
    )
    seen = L.MultiHeadAttention(1, 2)(written, read)
    joined = L.Concatenate()([written, seen])
    return keras.Model([past, future], L.Dense(2)(joined))


def encoded():
    """An autoencoder."""
    layers = [L.LSTM(3), L.RepeatVector(STEPS), rnn(), L.Dense(2)]
    return keras.Sequential([signal(STEPS), *layers])


def started():
    """From a state that is computed of a context."""
    inputs, context = signal(), keras.Input((2,))
    hidden = L.Conv1D(3, 3, padding="same")(inputs)
    hidden = rnn()(hidden, initial_state=L.Dense(3)(context))
    return keras.Model([inputs, context], L.Dense(2)(hidden))


NETWORKS = {
    "convolved": (convolved, [True]),
    "convolved, of a length": (
        functools.partial(convolved, STEPS),
        [True],
    ),
    "both ways": (both_ways, [True]),
    "in between": (in_between, [True]),
    "translated": (translated, [True, True]),
    "encoded": (encoded, [True]),
    "started": (started, [True, False]),
}


def data(network):
    draw = np.random.default_rng(0)
    x = []
    for place, each in enumerate(network.inputs):
        steps = LATER if place else STEPS
        if each.dtype == "int32":
            found = draw.integers(1, 7, (ROWS, steps))
            found[1, 3:] = 0
        elif len(each.shape) == 2:
            found = draw.normal(size=(ROWS, 2)).astype("float32")
        else:
            found = draw.normal(size=(ROWS, steps, 2)).astype("float32")
        x.append(found)
    x = x if len(x) > 1 else x[0]
    return x, draw.normal(size=network(x).shape).astype("float32")


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


@pytest.mark.parametrize("name", sorted(TABLE.keys() - {"bptt"}))
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
    with pytest.raises(ValueError, match="conv1d.* as a whole"):
        ksg.diagnostics.compare_gradients(model, x, y, checkpoint_every=2)
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
def test_compiled_by_xla():
    network = translated()
    x, y = data(network)
    results = []
    for options in {"run_eagerly": True}, {"jit_compile": True}:
        keras.utils.set_random_seed(3)
        model = ksg.SequenceModel.from_model(translated())
        model.compile("sgd", "mse", **options)
        model.fit(x, y, verbose=0)
        results.append(model.get_weights())
    zoo.assert_same(*results, 1e-5)
