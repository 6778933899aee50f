"""Checkpoints beside BatchNormalization: that runs on the whole window."""

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from keras_seqgrad import methods
from keras_seqgrad.window.window import Window
from tests import replicas, stock, zoo
from tests.network.networks import L, signal
from tests.network.test_statistics import MASK, X, Y, norm, recurrent

pytestmark = pytest.mark.slow

EVERY = 2


def rnn(units=3, **options):
    return recurrent(units, return_sequences=True, **options)


def convolution():
    return L.Conv1D(3, 3, padding="same")


def of(*layers):
    return keras.Sequential([signal(), *layers, L.Dense(2)])


def nested():
    inner = [keras.Input((None, 3)), L.Dense(2), norm()]
    return of(rnn(), keras.Sequential(inner, name="inner"))


def attention():
    inputs = signal()
    hidden = norm()(rnn()(norm()(inputs)))
    read = L.Attention()([hidden, hidden])
    return keras.Model(inputs, L.Dense(2)(norm()(read)))


def shared():
    inputs, twice = signal(), norm()
    return keras.Model(inputs, L.Dense(2)(twice(rnn(2)(twice(inputs)))))


def beside_a_skip():
    inputs = signal()
    hidden = norm()(rnn()(inputs))
    hidden = L.Add()([hidden, rnn()(hidden)])
    return keras.Model(inputs, L.Dense(2)(L.Concatenate()([hidden, inputs])))


def spectral():
    return of(L.SpectralNormalization(L.Dense(2)), rnn())


NETWORKS = {
    "below": lambda: of(norm(), rnn()),
    "behind": lambda: of(rnn(), norm()),
    "both": lambda: of(norm(), L.ReLU(), rnn(), norm(), L.ReLU()),
    "between": lambda: of(rnn(), norm(), rnn(2)),
    "a stack": lambda: of(norm(), rnn(), norm(), rnn(2), norm()),
    "masked": lambda: of(L.Masking(), norm(), rnn(), norm()),
    "a convolution": lambda: of(convolution(), norm(), rnn(), norm()),
    "a convolution behind": lambda: of(rnn(), norm(), convolution(), norm()),
    "an encoder": lambda: of(L.Bidirectional(rnn(2)), norm(), rnn(), norm()),
    "nested": nested,
    "attention": attention,
    "shared": shared,
    "a skip": beside_a_skip,
    "kernels": spectral,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_equals_keras(name, monkeypatch):
    """Loss, logs, weights and averages; and nothing is run at once."""
    keras.utils.set_random_seed(1)
    plain, model = stock.pair(NETWORKS[name](), weighted_metrics=["mae"])
    model.compile(
        "sgd",
        "mse",
        weighted_metrics=["mae"],
        method=methods.BPTT(EVERY),
    )
    lengths, forward = [], Window.forward

    def recorded(self, segment, *args, scan=None, **kwargs):
        if scan is None:  # else it only looks for where rows end
            lengths.append(segment.length)
        return forward(self, segment, *args, scan=scan, **kwargs)

    monkeypatch.setattr(Window, "forward", recorded)
    weights = stock.weights_of(*MASK.shape)
    stock.assert_same_training(plain, model, X, Y, sample_weight=weights)
    assert {*lengths} == {EVERY}


@pytest.mark.parametrize("name", ["behind", "a convolution"])
def test_random_cuts_are_those_without_checkpoints(name):
    keras.utils.set_random_seed(1)
    network, found = NETWORKS[name](), []
    before = network.get_weights()
    for every in None, EVERY:
        network.set_weights(before)
        model = ksg.SequenceModel.from_model(network)
        method = methods.ARTBP(2, seed=3, checkpoint_every=every)
        model.compile("sgd", "mse", method=method)
        model.fit(X, Y, batch_size=3, verbose=0, shuffle=False)
        found.append(network.get_weights())
    zoo.assert_same(*found)
    assert zoo.differ(found[0], before)


@pytest.mark.compiled
def test_compiled_equals_keras():
    keras.utils.set_random_seed(1)
    network = of(convolution(), norm(), rnn(), norm())
    plain, model = stock.pair(network)
    model.compile("sgd", "mse", method=methods.BPTT("auto"), jit_compile=True)
    stock.assert_same_training(plain, model, X, Y)


def moved(network, method, *data, **options):
    """Weights after some windows, from the same start."""
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    model = ksg.SequenceModel.from_model(copy, **options)
    model.compile("sgd", "mse", method=method)
    for _ in range(2):
        model.train_on_batch(*data)
    return model.get_weights()


def assert_as_without(network, *data, **options):
    found = [
        moved(network, method, *data, **options)
        for method in (methods.BPTT(), methods.BPTT(EVERY))
    ]
    zoo.assert_same(*found)
    assert zoo.differ(found[0], network.get_weights())


@pytest.mark.parametrize("name", ["between", "behind"])
def test_carried_states(name):
    assert_as_without(NETWORKS[name](), X, Y, stateful=True)


def test_a_learned_start():
    assert_as_without(NETWORKS["behind"](), X, Y, learn_initial_state=True)


def test_a_mask_beside_what_is_behind():
    assert_as_without(NETWORKS["behind"](), {"inputs": X, "mask": MASK}, Y)


@pytest.mark.parametrize("last", [L.GlobalAveragePooling1D, recurrent])
def test_one_target_a_sequence(last):
    network = of(norm(), rnn(), norm(), last(), norm())
    assert_as_without(network, X, Y[:, 0])


def test_regularised_outputs_of_what_is_cut_and_of_the_head():
    regularised = {"activity_regularizer": "l2"}
    network = of(rnn(**regularised), norm(), L.Dense(2, **regularised))
    assert_as_without(network, X, Y)


def test_of_two_replicas():
    """Each norms by its own rows, as Keras has it."""
    found = []
    for method in methods.BPTT(), methods.BPTT(EVERY):
        with replicas.strategy().scope():
            keras.utils.set_random_seed(1)
            network = NETWORKS["both"]()
            before = network.get_weights()
            model = ksg.SequenceModel.from_model(network)
            model.compile("sgd", "mse", method=method)
        model.fit(X, Y, batch_size=6, verbose=0, shuffle=False)
        found.append(model.get_weights())
    zoo.assert_same(*found)
    assert zoo.differ(found[0], before)


def test_other_methods_run_what_they_ran():
    network, found = NETWORKS["behind"](), []
    before, method = network.get_weights(), methods.TruncatedBPTT(EVERY)
    for first in (), [methods.BPTT(EVERY)]:
        network.set_weights(before)
        model = ksg.SequenceModel.from_model(network)
        for each in [*first, method]:
            model.compile("sgd", "mse", method=each)
        assert model.network_head is None
        assert (model.network_normed is None) == (not first)
        model.train_on_batch(X, Y)
        found.append(network.get_weights())
    zoo.assert_same(*found, tolerance=0)


def test_frozen_it_is_cut_again():
    network = NETWORKS["behind"]()
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse", method=methods.BPTT(EVERY))
    assert model.network_normed is not None
    network.layers[1].trainable = False
    model.compile("sgd", "mse", method=methods.BPTT(EVERY))
    assert model.network_normed is None


def test_estimates_are_compared_in_inference():
    """There nothing norms by what it is given, also beside resets."""
    model = ksg.SequenceModel.from_model(NETWORKS["both"]())
    model.compile("sgd", "mse", method=methods.BPTT(EVERY))
    reset = np.zeros(MASK.shape, bool)
    reset[1, 2] = True
    x = {"inputs": X, "reset": reset}
    asked = {"exact": methods.BPTT(), "stored": methods.BPTT(EVERY)}
    found = ksg.diagnostics.compare_gradients(model, x, Y, asked)
    for name in asked:
        assert found[name].relative_bias < 1e-6


@pytest.mark.parametrize(
    "name, beside, text",
    [
        ("behind", "reset", "Resets do not reach what norms all steps.*'batch"),
        ("below", "reset", "Resets do not reach what norms all steps"),
        ("below", "mask", "A mask beside .* norms all steps below .*Masking"),
    ],
)
def test_what_comes_beside_the_inputs(name, beside, text):
    model = ksg.SequenceModel.from_model(NETWORKS[name]())
    model.compile("sgd", "mse", method=methods.BPTT(EVERY))
    before = model.get_weights()
    with pytest.raises(ValueError, match=text) as refusal:
        model.train_on_batch({"inputs": X, beside: MASK}, Y)
    assert "Set checkpoint_every=None" in str(refusal.value)
    zoo.assert_same(model.get_weights(), before, tolerance=0)


def inside():
    """With recurrent layers around it in a nested model, which runs whole."""
    inner = [keras.Input((None, 2)), rnn(2), norm(name="in"), rnn(2)]
    return of(keras.Sequential(inner, name="block"))


def pooled():
    return of(rnn(), norm(), L.GlobalAveragePooling1D(name="pool"))


@pytest.mark.parametrize(
    "network, options, text",
    [
        (inside, {}, "received .'block/in'.*cannot run"),
        (pooled, {"stateful": True}, "cannot run: What .'pool'. pool"),
        (
            NETWORKS["below"],
            {"learn_initial_state": True},
            "cannot run: .*learn_initial_state=True",
        ),
    ],
)
def test_refused_at_compile(network, options, text):
    model = ksg.SequenceModel.from_model(network(), **options)
    expected = "checkpoint_every=2 runs a window in segments.*LayerNorm.*"
    with pytest.raises(ValueError, match=expected + text):
        model.compile("sgd", "mse", method=methods.BPTT(EVERY))
    model.compile("sgd", "mse", method=methods.BPTT())
