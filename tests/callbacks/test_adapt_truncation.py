"""Lengths that move: the choice, each compiled once, numbers, and resuming."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.callbacks import AdaptTruncation
from tests import zoo
from tests.network.test_segmented import Own

L = keras.layers
STEPS = 12


def linear(recurrent_kernel, units=1, read=0, rate=0.0):
    """h ← h · U, of which one unit is compared with 1, on inputs of 0."""
    layer = L.SimpleRNN(units, "linear", return_sequences=True)
    readout = L.Dense(1, use_bias=False)
    network = keras.Sequential([keras.Input((None, 1)), layer, readout])
    kernel = np.array(recurrent_kernel)
    layer.set_weights([np.zeros((1, units)), kernel, np.zeros(units)])
    readout.set_weights([np.eye(units)[:, [read]]])
    return ksg.SequenceModel.from_model(network), keras.optimizers.SGD(rate)


DATA = zoo.data(4)
X = np.zeros((2, STEPS, 1), "float32")
Y = np.ones((2, STEPS, 1), "float32")


def chosen(
    model, optimizer, method, tolerance, lengths, steps=STEPS, **options
):
    """The length after an epoch of one step, which changes no weight."""
    model.compile(optimizer, "mse", method=method, jit_compile=False)
    x, y = X[:, :steps], Y[:, :steps]
    callback = AdaptTruncation(tolerance, lengths, (x, y), **options)
    history = model.fit(x[:, :1], y[:, :1], callbacks=[callback], verbose=0)
    assert history.history["truncation_length"] == [method.length]
    assert type(model.method) is type(method)
    return model.method.length, callback.latest


@pytest.mark.slow
def test_choice_where_influence_decays():
    """φ_k = c λ^k, all of one sign: all sums are geometric."""
    rate, lag = 0.5, 3
    tbptt = ksg.methods.TruncatedBPTT
    lengths, given = [1, 2, 3, 5], (0.35, [1, 2, 3, 5], 6)
    found, profile = chosen(*linear([[rate]]), tbptt(5), *given)
    # E(j) = c λ^(j+1) / (1 - λ), and at best the bound of the norm is
    # c (1 - 2 λ^(τ+1)) / (1 - λ).
    share = 1 - 2 * rate ** (lag + 1)
    for length in lengths:
        lost = np.mean([rate ** (j + 1) for j in range(length)])
        bound = profile.bias_bound(length)
        assert bound == pytest.approx(lost / share, rel=1e-4)
        signed = profile.bias_bound(length, signed=True)
        assert signed == pytest.approx(bound, rel=1e-4)
        assert profile.relative_bias(length) == pytest.approx(lost, rel=1e-4)
    assert found == 3
    # With an update every step all losses reach back the whole length.
    method = tbptt(5, stride=1)
    assert chosen(*linear([[rate]]), method, *given)[0] == 2
    assert model_of_the_other_sign(rate, lag) < profile.gradient_norm()
    # What hardly falls within the window: the largest.
    for rate in 0.97, 1.1:
        found, _ = chosen(*linear([[rate]]), tbptt(2), 0.35, lengths, 4)
        assert found == 5


def model_of_the_other_sign(rate, lag):
    """The bound where what is kept cancels: its sums alternate."""
    method, given = ksg.methods.TruncatedBPTT(5), (0.35, [1, 2, 3, 5], 6)
    model = linear([[-rate]])
    found, profile = chosen(*model, method, *given)
    assert found == 3
    found, _ = chosen(*model, method, *given, signed=True)
    assert found == 5
    c = profile.norms["all"][0]
    powers = np.array([rate**k for k in range(lag + 1)])
    cut = c * powers * rate / (1 - rate)
    kept = c * np.cumsum(powers * (-1.0) ** np.arange(lag + 1))
    found = profile.gradient_norm(signed=True)
    assert found == pytest.approx(np.max(kept - cut), rel=1e-4)
    return found


@pytest.mark.slow
def test_choice_of_a_known_lag():
    """A line of delays of 2 steps: nothing reaches further."""
    line = np.eye(4, k=1)
    method = ksg.methods.TruncatedBPTT(2, stride=1)
    lengths = [2, 3, 4, 5]
    found, profile = chosen(
        *linear(line, 4, read=2), method, 0.1, lengths, 7, max_lag=5
    )
    norms = profile.norms["all"] / profile.norms["all"][0]
    np.testing.assert_allclose(norms, [1] * 3 + [0] * 3, atol=1e-6)
    assert found == 3


def test_once_before_training(monkeypatch):
    trained = watched(monkeypatch)
    model, optimizer = linear([[0.5]], rate=0.1)
    method = ksg.methods.TruncatedBPTT(8)
    model.compile(optimizer, "mse", method=method, jit_compile=False)
    probe = X[:, :8], Y[:, :8]
    callback = AdaptTruncation(0.3, [1, 2, 4, 8], probe, every=None)
    x, y = X[:, :4], Y[:, :4]
    for epochs in (2, 1):
        history = model.fit(
            x, y, epochs=epochs, callbacks=[callback], verbose=0
        ).history
        assert history["truncation_length"] == [4] * epochs
        assert model.method.length == 4
    # Not a step with the length that it was compiled with.
    assert trained == [4] * 3


@pytest.mark.slow
def test_snap_and_validation_data():
    model, optimizer = linear([[0.5]])
    snap = ksg.methods.SnAp(2, self_recurrence=False)
    model.compile(optimizer, "mse", method=snap, jit_compile=False)
    probe = X[:, :6], Y[:, :6]
    found = []
    for epochs, given in (3, probe), (2, tf.data.Dataset.from_tensors(probe)):
        callback = AdaptTruncation(0.3, [2, 4], every=2)
        options = {"validation_data": given, "callbacks": [callback]}
        options |= {"epochs": epochs, "verbose": 0}
        history = model.fit(X[:, :2], Y[:, :2], **options).history
        found.append(history["truncation_length"])
    assert found == [[2, 2, 4], [4, 4]]
    # All but the length is as it was, and so is what was given.
    assert repr(model.method) == "SnAp(length=4, self_recurrence=False)"
    assert snap.length == 2


def adapted(lengths=(2, 3, 6), chosen=(3, 6, 2), optimizer="adam", **options):
    """(model, callback) whose choices are told beforehand."""
    model = ksg.SequenceModel.from_model(zoo.network("simple_rnn"))
    method = ksg.methods.TruncatedBPTT(2)
    model.compile(optimizer, "mse", method=method, **options)
    return model, told(lengths, chosen)


def told(lengths, chosen):
    callback = AdaptTruncation(0.1, lengths, DATA)
    choices = iter(chosen)
    callback._choose = lambda: next(choices)
    return callback


FIT = {"batch_size": zoo.BATCH, "shuffle": False, "verbose": 0}


def as_compiled(lengths):
    """Weights after an epoch of each length, the model compiled for each."""
    model = ksg.SequenceModel.from_model(zoo.network("simple_rnn"))
    optimizer = keras.optimizers.Adam()
    for length in lengths:
        method = ksg.methods.TruncatedBPTT(length)
        model.compile(optimizer, "mse", method=method, jit_compile=False)
        model.fit(*DATA, **FIT)
    return model.get_weights()


def watched(monkeypatch):
    """The lengths of the steps that run, or are traced, in a list."""
    found = []
    train = ksg.methods.TruncatedBPTT.train

    def seen(self, window):
        found.append(self.length)
        return train(self, window)

    monkeypatch.setattr(ksg.methods.TruncatedBPTT, "train", seen)
    return found


@pytest.mark.compiled
@pytest.mark.slow
def test_each_length_is_compiled_once(monkeypatch):
    traced = watched(monkeypatch)
    model, callback = adapted([2, 7], [7, 2, 7], "sgd", jit_compile=False)
    options = {**FIT, "callbacks": [callback]}
    model.fit(*DATA, epochs=3, **options)
    assert model.method.length == 7
    callback._choose = lambda: 2
    history = model.fit(*DATA, epochs=2, **options).history
    assert history["truncation_length"] == [7, 2]
    # Left alone, the model goes on with what it has.
    model.fit(*DATA, **FIT)
    assert traced == [2, 7]
    # To compile is to begin anew.
    model.compile("sgd", "mse", method=model.method, jit_compile=False)
    model.fit(*DATA, **options)
    assert traced == [2, 7, 2]


@pytest.mark.slow
def test_numbers_are_those_of_each_length(monkeypatch):
    seen = watched(monkeypatch)
    model, callback = adapted(chosen=(3, 2, 6))
    options = {**FIT, "callbacks": [callback]}
    history = model.fit(*DATA, epochs=3, **options).history
    assert history["truncation_length"] == seen == [2, 3, 2]
    for weight, expected in zip(
        model.get_weights(), as_compiled([2, 3, 2]), strict=True
    ):
        np.testing.assert_array_equal(weight, expected)


def test_estimates_follow_the_length():
    x, y = DATA
    model, callback = adapted()
    first = model.estimate_gradients(x, y)[1]
    model.fit(x, y, callbacks=[callback], **FIT)
    model.set_weights(zoo.network("simple_rnn").get_weights())
    second = model.estimate_gradients(x, y)[1]
    assert zoo.differ(first, second)
    method = ksg.methods.TruncatedBPTT(3)
    model.compile("sgd", "mse", method=method)
    zoo.assert_same(model.estimate_gradients(x, y)[1], second)


@pytest.mark.slow
def test_a_saved_model_goes_on_with_its_length(tmp_path):
    whole, callback = adapted()
    options = {**FIT, "callbacks": [callback]}
    lengths = whole.fit(*DATA, epochs=3, **options).history
    model, callback = adapted(chosen=(3, 6))
    saving = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    model.fit(*DATA, epochs=2, **{**FIT, "callbacks": [callback, saving]})
    # Decided at the end of an epoch, before those that come after it.
    assert keras.models.load_model(tmp_path / "1.keras").method.length == 3
    model = keras.models.load_model(tmp_path / "2.keras")
    options = {**FIT, "callbacks": [told((2, 3, 6), (2,))]}
    history = model.fit(*DATA, epochs=3, initial_epoch=2, **options)
    found = history.history["truncation_length"]
    assert found == lengths["truncation_length"][2:]
    zoo.assert_same(model.get_weights(), whole.get_weights(), tolerance=0)


class Stop(keras.callbacks.Callback):
    """Breaks off in the middle of the second epoch."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0 and self.model.history.epoch:
            raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize("save_freq, stateful", [("epoch", True), (1, False)])
def test_what_is_brought_back_has_its_length(save_freq, stateful, tmp_path):
    x, y = zoo.repeated(2, *DATA)

    def fit(choices, *others):
        model = ksg.SequenceModel.from_model(
            zoo.network("simple_rnn"), stateful=stateful
        )
        method = ksg.methods.TruncatedBPTT(2)
        model.compile("sgd", "mse", method=method)
        callbacks = [*others, told((2, 3, 6), choices)]
        history = model.fit(x, y, epochs=3, callbacks=callbacks, **FIT)
        return model, history.history["truncation_length"]

    def backup():
        return ksg.callbacks.BackupAndRestore(str(tmp_path), save_freq)

    whole, lengths = fit((3, 6, 2))
    assert lengths == [2, 3, 6]
    with pytest.raises(KeyboardInterrupt):
        fit((3,), Stop(), backup())
    # The last state is that of an epoch's end, its choice made.
    model, lengths = fit((6, 2), backup())
    assert lengths[-2:] == [3, 6]
    for weight, other in zip(
        model.get_weights(), whole.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(weight, other)


def test_a_run_that_was_left(monkeypatch):
    """The next one trains with the length that was reached."""
    seen = watched(monkeypatch)
    x, y = zoo.repeated(2, *DATA)
    model, callback = adapted(chosen=[6] * 9)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, epochs=9, callbacks=[callback, Stop()], **FIT)
    assert seen == [2, 2, 6]
    assert model.method.length == 6
    model.fit(x, y, **FIT)
    assert seen == [2, 2, 6, 6, 6]
    assert type(model.train_function).__name__ != "TrainByLength"


@pytest.mark.parametrize(
    "given, text",
    [
        ({"tolerance": 1.0}, "`tolerance` must be above 0 and below 1"),
        ({"tolerance": 0.0}, "`tolerance` must be above 0 and below 1"),
        ({"lengths": [3, 2]}, "`lengths` must be integers of 1 or more that"),
        ({"lengths": [2, 2]}, "`lengths` must be integers of 1 or more that"),
        ({"lengths": [2.5]}, "`lengths` must be integers of 1 or more that"),
        ({"lengths": []}, "`lengths` must be integers of 1 or more that"),
        ({"lengths": 3}, "`lengths` must be integers of 1 or more that"),
        ({"probe": 3}, "`probe` must be"),
        ({"every": 0}, "`every` must be an integer"),
        ({"max_lag": 0}, "`max_lag` must be an integer"),
        ({"targets": 0}, "`targets` must be an integer"),
    ],
)
def test_arguments(given, text):
    with pytest.raises(ValueError, match=text):
        AdaptTruncation(**{"tolerance": 0.1, "lengths": [2, 3], **given})


def test_refusals_before_anything_is_trained():
    x, y = zoo.data()
    network = zoo.network("simple_rnn")
    model = ksg.SequenceModel.from_model(network)
    tbptt = ksg.methods.TruncatedBPTT

    def refused(method, text, lengths=(2, 3), probe=(x, y), **options):
        model.compile("sgd", "mse", method=method)
        callback = AdaptTruncation(0.1, lengths, probe, **options)
        with pytest.raises(ValueError, match=text):
            model.fit(x, y, callbacks=[callback], verbose=0)

    refused("bptt", r"TruncatedBPTT or SnAp, received BPTT\(\)")
    refused("artbp", "TruncatedBPTT or SnAp, received ARTBP")
    refused(tbptt(5), r"one of lengths=\[2, 3\], received Trunc")
    refused(tbptt(3, 3), "Expected 3 or more, received lengths")
    refused(tbptt(2), "Expected more than 7 steps, received 7", max_lag=7)
    refused(tbptt(2), "Expected probe=.x, y., or valid", probe=None)
    assert int(model.optimizer.iterations) == 0
    own = Own()
    own.compile("sgd", "mse", method=tbptt(2))
    callback = AdaptTruncation(0.1, [2, 3], (x, y))
    with pytest.raises(ValueError, match="received a subclass with its own"):
        own.fit(x, y, callbacks=[callback], verbose=0)
    network.compile("sgd", "mse")
    with pytest.raises(ValueError, match="needs a ksg.SequenceModel"):
        network.fit(x, y, callbacks=[callback], verbose=0)
