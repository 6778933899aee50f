"""Crossentropies go back through the logits, however a window is cut.

A softmax of logits that lie hundreds apart is 0 or 1. Its crossentropy and the
gradient of that are those of the logits, as in Keras: by every method, the
same as of a model that gives logits and a loss which takes them.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.tensors import logits
from tests import zoo
from tests.methods.table import TABLE

pytestmark = pytest.mark.slow

LOSSES = {
    "softmax": keras.losses.SparseCategoricalCrossentropy,
    "sigmoid": keras.losses.BinaryCrossentropy,
}
DRAW = np.random.default_rng(3)
LABELS = {
    "softmax": DRAW.integers(0, 3, (zoo.BATCH, zoo.STEPS)),
    "sigmoid": DRAW.integers(0, 2, (zoo.BATCH, zoo.STEPS, 3)),
}


def saturated(kind, activation, per_sequence=False, masked=False):
    """A network whose logits are hundreds apart."""
    keras.utils.set_random_seed(1)
    wide = keras.initializers.RandomNormal(stddev=300.0, seed=2)
    layers = [zoo.recurrent(kind, return_sequences=not per_sequence)]
    if masked:
        layers.insert(0, keras.layers.Masking())
    readout = keras.layers.Dense(3, activation, kernel_initializer=wide)
    start = keras.Input((None, zoo.FEATURES))
    return keras.Sequential([start, *layers, readout])


def pair(network, method, activation, **options):
    """The same model by `activation` and its loss, and by logits."""
    for ends_by, from_logits in ((activation, False), (None, True)):
        model = ksg.SequenceModel.from_model(network(ends_by))
        loss = LOSSES[activation](from_logits=from_logits, **options)
        rate = keras.optimizers.SGD(0.01)
        model.compile(rate, loss, method=method(), run_eagerly=True)
        yield model


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        scale = 1e-4 * max(1.0, np.abs(b).max())
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=scale)


def masked(steps):
    """Inputs with a mask beside them, which goes with the outputs."""
    x, _ = zoo.data(steps)
    valid = np.ones(x.shape[:2], "bool")
    valid[0, 3:] = valid[1, :1] = False
    return {"inputs": x, "mask": valid}


# Their losses go back by the lines of another row.
ALIKE = {"artbp_rows", "artbp_window", "dni_next", "alternating"}


@pytest.mark.parametrize("name", [name for name in TABLE if name not in ALIKE])
def test_every_method_goes_back_through_them(name):
    row = TABLE[name]
    kind = row.instead.get("simple_rnn", "simple_rnn")
    models = pair(lambda a: saturated(kind, a), row.method, "softmax")
    x, y = masked(4), LABELS["softmax"][:, :4]
    results = []
    for model in models:
        loss, gradients = model.estimate_gradients(x, y)
        keras.utils.set_random_seed(5)
        logged = model.train_on_batch(x, y)
        results.append([loss, logged, *gradients, *model.get_weights()])
        assert float(loss) > 20  # a probability clipped at 1e-7 has 16
    assert_same(*results)


MEAN, BY_WEIGHTS = "sum_over_batch_size", "mean_with_sample_weight"


@pytest.mark.parametrize(
    "way, activation, reduction",
    [
        ("checkpoints", "softmax", MEAN),
        ("checkpoints", "sigmoid", BY_WEIGHTS),
        ("truncation", "softmax", BY_WEIGHTS),
        ("truncation", "sigmoid", MEAN),
    ],
)
def test_so_do_targets_of_a_sequence_and_masks_of_layers(
    way, activation, reduction
):
    x, _ = zoo.data(4)
    x[0, 3:] = 0
    y = LABELS[activation][:, -1]
    method = {
        "checkpoints": lambda: ksg.methods.BPTT(checkpoint_every=2),
        "truncation": lambda: ksg.methods.TruncatedBPTT(3),
    }[way]

    def network(ends_by):
        return saturated("gru", ends_by, per_sequence=True, masked=True)

    results = []
    for model in pair(network, method, activation, reduction=reduction):
        loss, gradients = model.estimate_gradients(x, y)
        logged = model.train_on_batch(x, y)
        results.append([loss, logged, *gradients, *model.get_weights()])
    assert_same(*results)


@pytest.mark.compiled
def test_checkpoints_train_as_keras_under_xla():
    x, _ = zoo.data()
    expected = saturated("lstm", "sigmoid")
    model = ksg.SequenceModel.from_model(saturated("lstm", "sigmoid"))
    method = ksg.methods.BPTT(checkpoint_every=3)
    logs = []
    for each, options in ((expected, {}), (model, {"method": method})):
        loss = keras.losses.BinaryCrossentropy()
        rate = keras.optimizers.SGD(0.01)
        each.compile(rate, loss, jit_compile=True, **options)
        logs.append(each.train_on_batch(x, LABELS["sigmoid"]))
    assert_same(logs[1:], logs[:1])
    assert_same(model.get_weights(), expected.get_weights())


class Own(ksg.SequenceModel):
    """A subclass that reads the last state by a softmax, or gives logits."""

    def __init__(self, activation):
        super().__init__()
        parts = saturated("gru", activation)
        self.recurrent, self.readout = parts.layers

    def initial_state(self, batch_size):
        return [tf.zeros((batch_size, 3))]

    def call_segment(self, inputs, state, training=False):
        cell = self.recurrent.cell
        outputs = []
        for step in tf.unstack(inputs, axis=1):
            output, state = cell(step, state, training=training)
            outputs.append(output)
        return self.readout(tf.stack(outputs, axis=1)), state


def test_a_subclass_keeps_them_too():
    x, _ = zoo.data()
    results = []
    for activation in ("softmax", None):
        model = Own(activation)
        from_logits = activation is None
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits)
        method = ksg.methods.BPTT(checkpoint_every=2)
        rate = keras.optimizers.SGD(0.01)
        model.compile(rate, loss, method=method, run_eagerly=True)
        logged = model.train_on_batch(x, LABELS["softmax"])
        assert logged > 20
        results.append([logged, *model.get_weights()])
    assert_same(*results)


class Head(keras.layers.Layer):
    """A layer of the user's own that ends by a layer of Keras."""

    def __init__(self):
        super().__init__()
        self.last = keras.layers.Activation("softmax")

    def call(self, inputs):
        return self.last(inputs * 1.0)


ENDS = {
    "a layer": keras.layers.Softmax(),
    "an activation": keras.layers.Activation("softmax"),
    "a layer of the user's": Head(),
    "a function": keras.ops.softmax,
    "another function": keras.ops.sigmoid,
}


@pytest.mark.parametrize("name", ENDS)
def test_however_the_network_ends_by_them(name):
    """With Keras' own training of the same network beside it."""
    inputs = keras.Input((None, zoo.FEATURES))
    raw = saturated("gru", None)
    network = keras.Model(inputs, ENDS[name](raw(inputs)))
    x, _ = zoo.data()
    kind = "sigmoid" if "another" in name else "softmax"
    y = LABELS[kind]
    before = network.get_weights()
    network.compile(keras.optimizers.SGD(0.01), LOSSES[kind]())
    expected = network.train_on_batch(x, y)
    after = network.get_weights()
    network.set_weights(before)
    model = ksg.SequenceModel.from_model(network)
    method = ksg.methods.BPTT(checkpoint_every=3)
    model.compile(keras.optimizers.SGD(0.01), LOSSES[kind](), method=method)
    assert_same([model.train_on_batch(x, y)], [expected])
    assert_same(network.get_weights(), after)
    assert expected > 20


def test_layers_are_left_as_they_were():
    dense = keras.layers.Dense(2, "softmax")
    other = keras.layers.SimpleRNN(2, activation="sigmoid")
    with pytest.raises(RuntimeError), logits.recorded([dense, other]):
        assert dense.activation is not keras.activations.softmax
        assert other.activation is keras.activations.sigmoid
        activation, leaf = logits.read(dense(tf.ones((1, 3))))
        assert activation is keras.activations.softmax
        np.testing.assert_allclose(leaf, tf.ones((1, 3)) @ dense.kernel)
        raise RuntimeError
    assert dense.activation is keras.activations.softmax
