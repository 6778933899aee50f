"""Models whose front runs whole, and what is behind it in segments."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.methods import ARTBP, BPTT, TruncatedBPTT
from tests import replicas, stock, zoo
from tests.methods.uncut import (
    NETWORKS,
    ROWS,
    STEPS,
    convolved,
    data,
    rnn,
    translated,
)
from tests.network.networks import Inside, L, signal

pytestmark = pytest.mark.slow


def exact():
    """Methods that hardly cut, or not at all."""
    return {
        "checkpoints": BPTT(3),
        "artbp": ARTBP(1e7, seed=1, checkpoint_every=2),
        "truncated": TruncatedBPTT(STEPS),
    }


# What is in a front: pooling and norms, another length, masks and attention.
FEW = ["convolved", "translated", "started"]
EACH = [(name, "checkpoints") for name in NETWORKS]
EACH += [(name, method) for name in FEW for method in ("artbp", "truncated")]


@pytest.mark.parametrize("name, method", EACH)
def test_equals_keras(name, method):
    make, _ = NETWORKS[name]
    keras.utils.set_random_seed(1)
    network = make()
    x, y = data(network)
    expected, model = stock.pair(network, metrics=["mae"])
    model.compile("sgd", "mse", metrics=["mae"], method=exact()[method])
    assert model.network_uncut is not None and model.graph.front is not None
    weights = stock.weights_of(*y.shape[: len(y.shape) - 1])
    stock.assert_same_training(expected, model, x, y, sample_weight=weights)


def both_ways():
    return L.Bidirectional(rnn(2))


def model_of(layer, features):
    return keras.Sequential([keras.Input((None, features)), layer])


def embedding():
    return L.Embedding(7, 3, mask_zero=True)


def padded(*layers):
    words = keras.Input((None,), dtype="int32")
    return keras.Sequential([words, *layers, L.GRU(3), L.Dense(2)])


def handed_to_a_model():
    """Beside what was before, whose masks are joined."""
    words = keras.Input((None,), dtype="int32")
    first = both_ways()(embedding()(words))
    hidden = L.Add()([first, rnn(4)(first)])
    hidden = model_of(L.GRU(3, return_sequences=True), 4)(hidden)
    return keras.Model(words, L.Dense(2)(hidden))


@pytest.mark.parametrize(
    "make",
    [
        lambda: padded(embedding(), model_of(both_ways(), 3)),
        lambda: padded(embedding(), model_of(rnn(), 3), both_ways()),
        lambda: padded(embedding(), both_ways(), model_of(L.Dense(3), 4)),
        lambda: padded(Inside(embedding()), both_ways()),
        handed_to_a_model,
    ],
    ids=["made", "before", "behind", "own", "handed"],
)
def test_masks_go_through_models_and_layers_of_ones_own(make):
    keras.utils.set_random_seed(1)
    network = make()
    x, y = data(network)
    expected, model = stock.pair(network, metrics=["mae"])
    model.compile("sgd", "mse", metrics=["mae"], method=BPTT(3))
    assert model.graph.front is not None
    stock.assert_same_training(expected, model, x, y)


def by_hand(network, x, y, length):
    """Gradients that stop at the borders of segments, in Keras' layers."""
    front, layer, readout = network.layers
    states, outputs = tf.zeros((ROWS, 3)), []
    with tf.GradientTape() as tape:
        hidden = front(x)
        for step in range(hidden.shape[1]):
            if step % length == 0:
                states = tf.stop_gradient(states)
            states, _ = layer.cell(hidden[:, step], [states])
            outputs.append(readout(states))
        loss = tf.reduce_mean((tf.stack(outputs, axis=1) - y) ** 2)
    return loss, tape.gradient(loss, network.trainable_variables)


@pytest.mark.parametrize("length", [2, 3])
def test_truncation_cuts_behind_the_front_alone(length):
    network = keras.Sequential(
        [signal(), L.Conv1D(4, 3, activation="tanh"), rnn(), L.Dense(2)]
    )
    x, y = data(network)
    loss, expected = by_hand(network, x, y, length)
    _, whole = by_hand(network, x, y, STEPS)
    assert zoo.differ(expected[:2], whole[:2])  # the front's own
    model = ksg.SequenceModel.from_model(network)
    rate = keras.optimizers.SGD(1.0)
    model.compile(rate, "mse", method=TruncatedBPTT(length))
    estimate = model.estimate_gradients(x, y)
    zoo.assert_same([estimate[0], *estimate[1]], [loss, *expected])
    before = network.get_weights()
    model.train_on_batch(x, y)
    moved = [a - b for a, b in zip(before, network.get_weights(), strict=True)]
    zoo.assert_same(moved, expected, 1e-5)


def test_random_cuts_are_behind_the_front_and_unbiased():
    """The mean of many draws comes near; a single draw does not."""
    network = keras.Sequential([signal(), L.Conv1D(2, 3), rnn(), L.Dense(2)])
    x, y = data(network)
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse", method=BPTT(2), run_eagerly=True)
    _, exact = model.estimate_gradients(x, y)
    model.compile("sgd", "mse", method=ARTBP(2, seed=3), run_eagerly=True)
    draws = [model.estimate_gradients(x, y, seed=n)[1] for n in range(60)]
    found = [
        np.stack([np.asarray(each[place]) for each in draws])
        for place in range(len(exact))
    ]
    for given, wanted in zip(found[:2], exact[:2], strict=True):
        error = given.std(axis=0) / np.sqrt(len(given))
        assert np.all(np.abs(given.mean(axis=0) - wanted) < 4.5 * error + 1e-6)
        assert zoo.differ([given[0]], [wanted])


@pytest.mark.parametrize("method", [BPTT(2), TruncatedBPTT(STEPS)])
def test_carries_every_state(method, float64):
    """That of a layer in the front, too, as BPTT() does."""
    layers = [rnn(), L.Conv1D(2, 3, padding="same"), rnn(2), L.Dense(2)]
    network = keras.Sequential([signal(STEPS), *layers])
    x, y = data(network)
    weights, found = network.get_weights(), []
    for each in BPTT(), method:
        network.set_weights(weights)
        model = ksg.SequenceModel.from_model(network, stateful=True)
        model.compile("sgd", "mse", method=each)
        model.fit(x, y, batch_size=3, shuffle=False, verbose=0)
        found.append([*network.get_weights(), *carried(model)])
    zoo.assert_same(*found, 1e-6)


def carried(model):
    rows = model.carried["training"].variables
    return [np.array(v).astype("float32") for v in rows]


@pytest.mark.parametrize("of_rows", [True, False])
def test_weights_of_fewer_steps(of_rows):
    network = convolved(STEPS)
    x, y = data(network)
    weight = stock.weights_of(*(y.shape[:1] if of_rows else y.shape[:2]))
    given = weight[:, np.newaxis] if of_rows else weight
    expected, model = stock.pair(network)
    model.compile("sgd", "mse", method=BPTT(2))
    expected.train_on_batch(x, y, given)
    model.train_on_batch(x, y, weight)
    wanted = expected.get_weights()
    zoo.assert_same(model.network.get_weights(), wanted, 1e-5)


def test_a_loss_of_ones_own_is_given_the_inputs_of_the_model():
    class Own(ksg.SequenceModel):
        def compute_loss(self, x=None, y=None, y_pred=None, **kwargs):
            loss = super().compute_loss(x=x, y=y, y_pred=y_pred, **kwargs)
            return loss + keras.ops.mean(x)

    network = keras.Sequential([signal(), L.Conv1D(2, 3), rnn(), L.Dense(2)])
    x, y = data(network)
    losses = []
    for kind in ksg.SequenceModel, Own:
        model = kind.from_model(network)
        model.compile("sgd", "mse", method=BPTT(2), run_eagerly=True)
        losses.append(float(model.estimate_gradients(x, y)[0]))
    assert losses[1] - losses[0] == pytest.approx(float(x.mean()), abs=1e-6)


def test_two_replicas_train_as_one():
    network = keras.Sequential([signal(), L.Conv1D(2, 3), rnn(), L.Dense(2)])
    x, y = data(network)
    weights, found = network.get_weights(), []
    for strategy in tf.distribute.get_strategy(), replicas.strategy():
        with strategy.scope():
            copy = keras.models.clone_model(network)
            copy.set_weights(weights)
            model = ksg.SequenceModel.from_model(copy)
            model.compile("sgd", "mse", method=TruncatedBPTT(2))
        model.fit(x, y, verbose=0)
        found.append(copy.get_weights())
    zoo.assert_same(*found, 1e-5)


def regularised():
    layer = L.Conv1D(2, 3, activity_regularizer="l2")
    return keras.Sequential([signal(), layer, rnn(), L.Dense(2)])


def seen_twice():
    inputs = signal()
    hidden = L.Conv1D(2, 3)(inputs)
    return keras.Model(inputs, [hidden, L.Dense(2)(rnn()(hidden))])


def run_twice():
    """One layer before a convolution and behind it."""
    layer = rnn(2, name="shared")
    inputs = signal()
    hidden = L.Conv1D(2, 3)(layer(inputs))
    return keras.Model(inputs, L.Dense(2)(layer(hidden)))


@pytest.mark.parametrize(
    "make, options, said",
    [
        (run_twice, {}, r"\['shared'\] run before it and behind it"),
        (convolved, {"learn_initial_state": True}, "not known to its parts"),
        (seen_twice, {}, "'conv1d.* an output is made before it"),
        (translated, {"stateful": True}, "'gru.* start anew where others"),
    ],
)
def test_what_is_behind_cannot_be_cut_either(make, options, said):
    model = ksg.SequenceModel.from_model(make(), **options)
    with pytest.raises(ValueError, match=said):
        model.compile("sgd", "mse", method=BPTT(2))
    model.compile("sgd", "mse")


class Divergence(L.Layer):
    """Adds what a variational autoencoder adds of its code."""

    def call(self, code):
        self.add_loss(keras.ops.mean(code**2))
        return code


def variational():
    layers = [L.LSTM(3), Divergence(), L.RepeatVector(STEPS), rnn(), L.Dense(2)]
    return keras.Sequential([signal(STEPS), *layers])


def regularised_everywhere():
    """In the front by what it gives and by weights; in body and head."""
    layer = L.Conv1D(2, 3, activity_regularizer="l2", kernel_regularizer="l1")
    shared = L.Dense(2, activity_regularizer="l2")
    inputs = signal()
    hidden = rnn(2, activity_regularizer="l1")(layer(shared(inputs)))
    hidden = L.Conv1D(2, 3, activity_regularizer="l2")(shared(hidden))
    return keras.Model(inputs, L.Dense(2)(hidden))


@pytest.mark.parametrize(
    "make, method",
    [
        (regularised, "artbp"),
        (regularised_everywhere, "checkpoints"),
        *[(variational, method) for method in exact()],
    ],
)
def test_losses_that_the_front_adds(make, method):
    """In logs, loss and gradient once, however many segments are behind."""
    keras.utils.set_random_seed(1)
    network = make()
    x, y = data(network)
    expected, model = stock.pair(network, metrics=["mae"])
    model.compile("sgd", "mse", metrics=["mae"], method=exact()[method])
    stock.assert_same_training(expected, model, x, y)
    loss, _ = model.estimate_gradients(x, y)
    found = expected.evaluate(x, y, batch_size=len(x), verbose=0)
    assert float(loss) == pytest.approx(found[0], rel=1e-5)


@pytest.mark.parametrize("scaled", [False, True])
def test_losses_that_the_front_adds_in_two_replicas(scaled):
    found = []
    for method in BPTT(), BPTT(3):
        with replicas.strategy().scope():
            keras.utils.set_random_seed(1)
            network = variational()
            model = ksg.SequenceModel.from_model(network)
            optimizer = keras.optimizers.SGD(0.1)
            if scaled:
                optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
            model.compile(optimizer, "mse", method=method)
        x, y = data(network)
        history = model.fit(x, y, batch_size=ROWS, verbose=0).history
        found.append([history["loss"][0], *network.get_weights()])
    zoo.assert_same(*found)


@pytest.mark.compiled
def test_compiled_is_eager():
    """An encoder and decoder, masks and attention, lengths unknown."""
    network = translated()
    x, y = data(network)
    weights, found = network.get_weights(), []
    for options in {"run_eagerly": True}, {"jit_compile": True}:
        network.set_weights(weights)
        model = ksg.SequenceModel.from_model(network)
        model.compile("sgd", "mse", method=TruncatedBPTT(2), **options)
        model.fit(x, y, verbose=0)
        found.append(network.get_weights())
    zoo.assert_same(*found, 1e-5)
