"""What no gradient of a loss comes to stays as it is."""

import warnings

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from tests import zoo
from tests.methods.table import TABLE

pytestmark = pytest.mark.slow

L = keras.layers
LOSSES = {"judged": "mse", "other": None}
ALONE = {"judged": "mse"}


def network():
    """Of two heads, over a layer each, over one of both."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, zoo.FEATURES))
    both = L.GRU(3, return_sequences=True)(inputs)
    outputs = {
        name: L.Dense(2, name=name)(
            L.SimpleRNN(2, return_sequences=True, name=f"below_{name}")(both)
        )
        for name in LOSSES
    }
    return keras.Model(inputs, outputs)


def trained(model, losses=LOSSES, **options):
    decaying = keras.optimizers.AdamW(0.01, weight_decay=0.5)
    model.compile(decaying, losses, run_eagerly=True, **options)
    x, y = zoo.data()
    y = dict.fromkeys(losses, y)
    with warnings.catch_warnings():
        # Keras says that they have no gradients.
        warnings.simplefilter("ignore")
        model.fit(x, y, batch_size=3, verbose=0)


def test_weights_move_as_in_keras():
    ours, theirs = network(), network()
    trained(ksg.SequenceModel.from_model(ours), method=ksg.methods.BPTT())
    trained(theirs)
    zoo.assert_same(ours.get_weights(), theirs.get_weights())


@pytest.mark.parametrize("name", ["tbptt", "artbp", "dni", "fptt", "tprop"])
def test_what_no_loss_depends_on_does_not_decay(name):
    stock, before = network(), network()
    method = TABLE[name].method()
    trained(ksg.SequenceModel.from_model(stock), method=method)
    for layer, other in zip(stock.layers, before.layers, strict=True):
        for a, b in zip(layer.weights, other.weights, strict=True):
            still = np.array_equal(a.numpy(), b.numpy())
            assert still == (layer.name in ("other", "below_other"))


def test_a_regulariser_is_a_loss():
    stock = network()
    stock.get_layer("other").kernel.regularizer = keras.regularizers.L2(0.1)
    before = stock.get_layer("other").get_weights()
    trained(ksg.SequenceModel.from_model(stock), method="bptt")
    kernel, bias = stock.get_layer("other").get_weights()
    assert np.any(kernel != before[0]) and np.array_equal(bias, before[1])


def stopped():
    """Nothing goes back to `below`; what is beside it has a gradient."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, zoo.FEATURES))
    below = L.SimpleRNN(
        2, return_sequences=True, kernel_constraint="max_norm", name="below"
    )(inputs)
    kept = L.GRU(2, return_sequences=True)(keras.ops.stop_gradient(below))
    beside = L.Dense(2)(inputs)
    joined = L.Concatenate()([kept, beside])
    return keras.Model(inputs, {"judged": L.Dense(2, name="judged")(joined)})


def test_behind_a_stopped_gradient_weights_move_as_in_keras():
    ours, theirs = stopped(), stopped()
    trained(ksg.SequenceModel.from_model(ours), ALONE, method="bptt")
    trained(theirs, ALONE)
    zoo.assert_same(ours.get_weights(), theirs.get_weights())


@pytest.mark.parametrize("name", ["tbptt", "snap", "dni", "bptt_checkpointed"])
def test_what_a_stopped_gradient_does_not_reach_stays(name):
    network, before = stopped(), stopped()
    model = ksg.SequenceModel.from_model(network)
    trained(model, ALONE, method=TABLE[name].method())
    for layer, other in zip(network.layers, before.layers, strict=True):
        for a, b in zip(layer.weights, other.weights, strict=True):
            still = np.array_equal(a.numpy(), b.numpy())
            assert still == (layer.name == "below"), (layer.name, a.path)
