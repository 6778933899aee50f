"""Keras' poolings over time, cut into segments."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo
from tests.network.networks import STEPS, L, lstm, signal

pytestmark = pytest.mark.slow

METHODS = ksg.methods
X, Y = zoo.data(STEPS, per_sequence=True)
PADDED = np.array(X)
PADDED[0, 4:] = PADDED[2, :2] = 0
OPS = keras.ops
POOLINGS = {
    "mean": L.GlobalAveragePooling1D(),
    "maximum": L.GlobalMaxPooling1D(),
    "function of the mean": lambda x: OPS.mean(x, axis=1),
    "function of the maximum": lambda x: OPS.max(x, -2, keepdims=True)[:, 0],
    "sum": lambda x: OPS.sum(x, axis=1),
    "mean by a share of each step": lambda x: (
        OPS.sum(OPS.exp(x[..., :1]) * x, axis=1)
        / OPS.sum(OPS.exp(x[..., :1]), axis=1)
    ),
    "last": lambda x: x[:, -1],
    "last, all features": lambda x: x[:, -1, :],
}


def pooled(kind="mean", masked=False, layer=None):
    """A network that reads what it has pooled."""
    keras.utils.set_random_seed(1)
    inputs = hidden = signal()
    if masked:
        hidden = L.Masking()(hidden)
    hidden = (layer or POOLINGS[kind])(lstm()(hidden))
    return keras.Model(inputs, L.Dense(2)(hidden))


def both_of_several():
    """Several poolings, of what is hidden and of an input, beside a state."""
    inputs, still = signal(name="x"), keras.Input((3, 2), name="still")
    hidden = lstm()(inputs)
    inner = keras.Sequential([signal(features=3), L.GlobalMaxPooling1D()])
    each = [
        L.GlobalAveragePooling1D(name="pool")(hidden),
        inner(hidden),
        L.GlobalAveragePooling1D(keepdims=True)(inputs)[:, 0, :],
        L.GlobalMaxPooling1D(name="of_what_stays")(still),
        L.GRU(2)(hidden),
    ]
    return keras.Model([inputs, still], L.Dense(2)(L.Concatenate()(each)))


def trained(model, x=X, y=Y, steps=2, **options):
    """Weights after some steps."""
    model.compile(keras.optimizers.SGD(0.3), "mse", **options)
    for _ in range(steps):
        model.train_on_batch(x, y)
    return model.get_weights()


@functools.cache
def by_keras(kind, masked):
    """Weights after one step of Keras' own, and what it predicts then."""
    x = PADDED if masked else X
    model = pooled(kind, masked)
    weights = trained(model, x, steps=1, run_eagerly=True)
    return weights, model.predict(x, verbose=0)


def assert_same(found, expected, tolerance=2e-6):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance)


EXACT = {
    "BPTT": METHODS.BPTT(),
    "checkpoints": METHODS.BPTT(checkpoint_every=3),
    "RTRL": METHODS.RTRL(2),
}
LAYERS = ["mean", "maximum"]


@pytest.mark.parametrize(
    "kind, masked, name",
    [(kind, True, name) for kind in LAYERS for name in EXACT if name != "RTRL"]
    # A pass a row and unit: many eager ones take longer than to compile one.
    + [pytest.param("mean", True, "RTRL", marks=pytest.mark.compiled)]
    + [(kind, False, "checkpoints") for kind in LAYERS]
    + [(k, True, "checkpoints") for k in POOLINGS if k not in LAYERS],
)
def test_training_is_that_of_keras(kind, masked, name):
    x = PADDED if masked else X
    weights, outputs = by_keras(kind, masked)
    model = ksg.SequenceModel.from_model(pooled(kind, masked))
    options = {"method": EXACT[name], "steps": 1, "jit_compile": False}
    assert_same(trained(model, x, **options), weights)
    model.run_eagerly = True
    assert_same([model.predict(x, verbose=0)], [outputs])


@pytest.mark.compiled
def test_several_are_compiled_as_keras_has_them():
    still = zoo.data(3)[0]
    keras.utils.set_random_seed(2)
    stock = both_of_several()
    model = ksg.SequenceModel.from_model(keras.models.clone_model(stock))
    model.set_weights(stock.get_weights())
    expected = trained(stock, [X, still], run_eagerly=True)
    options = {"method": METHODS.BPTT(checkpoint_every=3), "jit_compile": True}
    assert_same(trained(model, [X, still], **options), expected)
    assert set(model.initial_state(1)) > {"pool"}
    assert "of_what_stays" not in model.initial_state(1)


def test_truncation_leaves_the_steps_before_out():
    """Of the mean's gradient there is the share of the last segment."""
    network = pooled()
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse", method=METHODS.TruncatedBPTT(3))
    loss, found = model.estimate_gradients(X, Y)
    _, layer, _, readout = network.layers
    cell = L.RNN(layer.cell, return_sequences=True, return_state=True)
    before, *state = cell(X[:, :-3])
    with tf.GradientTape() as tape:
        last, *_ = cell(X[:, -3:], initial_state=state)
        total = tf.reduce_sum(before, axis=1) + tf.reduce_sum(last, axis=1)
        expected = tf.reduce_mean((readout(total / STEPS) - Y) ** 2)
    assert_same([loss], [expected])
    assert_same(found, tape.gradient(expected, model.trainable_variables))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision_carries_the_mean_in_full(policy):
    keras.config.set_dtype_policy(policy)
    try:
        network = pooled()
        model = ksg.SequenceModel.from_model(network)
        model.compile("sgd", "mse", method=METHODS.TruncatedBPTT(2))
        found = model.predict(X, verbose=0)
        expected = network.predict(X, verbose=0)
        key = network.layers[-2].name
        assert [t.dtype.name for t in model.initial_state(1)[key]] == [
            "float32",
            "int32",
        ]
        outputs, _ = model.call_segment(X, model.initial_state(zoo.BATCH))
        assert outputs.dtype == network(X).dtype
        ends = [signal(), lstm(), L.GlobalAveragePooling1D()]
        model = ksg.SequenceModel.from_model(keras.Sequential(ends))
        model.compile("sgd", "mse", method=METHODS.BPTT(2))
        assert np.isfinite(model.train_on_batch(X, X[:, 0, :1]))
    finally:
        keras.config.set_dtype_policy("float32")
    assert_same([found], [expected], 1e-2)


def test_a_stream_is_pooled_from_its_start_and_anew_after_a_reset():
    network = pooled("maximum")
    model = ksg.SequenceModel.from_model(network, stateful=True)
    model.compile("sgd", "mse", method=METHODS.TruncatedBPTT(2))
    model.predict_on_batch(X[:, :3])
    found = model.predict_on_batch(X[:, 3:])
    assert_same([found], [network.predict(X, verbose=0)])
    reset = np.zeros((zoo.BATCH, STEPS), "bool")
    reset[1, 4] = True
    anew = ksg.SequenceModel.from_model(network)
    found = anew.predict_on_batch({"inputs": X, "reset": reset})
    assert_same([found[1:2]], [network(X[1:2, 4:])])
    assert_same([found[0:1]], [network(X[:1])])


def test_what_a_mask_beside_the_inputs_hides_is_not_pooled():
    mask = np.ones((zoo.BATCH, STEPS), "bool")
    mask[0, 4:] = False
    for kind in POOLINGS:
        network = pooled(kind)
        model = ksg.SequenceModel.from_model(network)
        found = model.predict_on_batch({"inputs": X, "mask": mask})
        assert_same([found[:1]], [network(X[:1, :4])])


def test_a_learned_start_is_that_of_the_recurrent_layers_alone():
    model = ksg.SequenceModel.from_model(pooled(), learn_initial_state=True)
    names = [weight.name for weight in model.initial_state_weights]
    assert len(names) == 2 and all(name.startswith("lstm") for name in names)
    before = [np.array(w) for w in model.initial_state_weights]
    trained(model, method=METHODS.TruncatedBPTT(3))
    trained(model, method=METHODS.BPTT())
    after = model.initial_state_weights
    assert all(np.any(a != b) for a, b in zip(after, before, strict=True))


def test_a_penalty_on_what_is_pooled_is_that_of_keras():
    def penalised():
        penalty = keras.regularizers.L2(1.0)
        layer = L.GlobalAveragePooling1D(activity_regularizer=penalty)
        return pooled(layer=layer)

    expected = trained(penalised())
    model = ksg.SequenceModel.from_model(penalised())
    assert_same(trained(model, method=METHODS.BPTT()), expected)
    assert np.abs(trained(pooled())[0] - expected[0]).max() > 1e-3


def test_no_synthesiser_sees_how_many_steps_there_were():
    asked = []

    def synthesizer(units):
        asked.append(units)
        return keras.Sequential([keras.Input((units,)), L.Dense(units)])

    model = ksg.SequenceModel.from_model(pooled())
    trained(model, method=METHODS.SyntheticGradients(3, synthesizer))
    # Both states of the LSTM, and what is pooled of its outputs.
    assert set(asked) == {3 + 3 + 3}


def test_refused_where_nothing_is_recurrent_or_time_comes_back():
    inputs = signal()
    alone = keras.Model(inputs, L.Dense(2)(L.GlobalMaxPooling1D()(inputs)))
    model = ksg.SequenceModel.from_model(alone)
    with pytest.raises(ValueError, match="at least one recurrent layer"):
        model.compile("sgd", "mse")
    hidden = lstm()(inputs)
    mean = L.GlobalAveragePooling1D(keepdims=True, name="pool")(hidden)
    late = keras.Model(inputs, L.Dense(2)(L.Add(name="late")([hidden, mean])))
    model = ksg.SequenceModel.from_model(late)
    with pytest.raises(ValueError, match="cannot be cut in time"):
        model.compile("sgd", "mse", method=METHODS.FPTT(2))
