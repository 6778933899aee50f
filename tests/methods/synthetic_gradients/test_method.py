"""Synthetic gradients against truncation, exact gradients and analysis."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.methods import SyntheticGradients
from tests import zoo
from tests.methods.synthetic_gradients.synthesizing import (
    Constant,
    Zero,
    make,
    oracle,
    taught,
)

LENGTH, STEPS = 2, 5  # two whole segments and one of one step
NETWORKS = {
    "two layers of lstm": lambda: zoo.network("lstm", layers=2),
    "gru": lambda: zoo.network("gru"),
    "simple_rnn": lambda: zoo.network("simple_rnn"),
    "stacked": lambda: zoo.network("stacked"),
    "own": lambda: zoo.network("own"),
}


@pytest.mark.slow
def test_without_a_guess_it_is_truncation_bit_for_bit():
    x, y = zoo.data(STEPS)
    found = []
    for arm in (
        ksg.methods.TruncatedBPTT(LENGTH),
        SyntheticGradients(LENGTH, Zero(), scale=1.0),
        SyntheticGradients(LENGTH, "linear", inject=False),
    ):
        network = zoo.network("simple_rnn", layers=2)
        model = ksg.SequenceModel.from_model(network)
        model.compile("adam", "mse", method=arm)
        losses = model.fit(x, y, epochs=2, verbose=0).history["loss"]
        found.append([*network.get_weights(), losses])
    for truncated, zero, not_injected in zip(*found, strict=True):
        np.testing.assert_array_equal(zero, truncated)
        np.testing.assert_array_equal(not_injected, truncated)


@pytest.mark.compiled
def test_with_the_target_apart_it_is_truncation_up_to_rounding():
    """Two gradients that share products may differ from one in last bits."""
    x, y = zoo.data(6)
    found = []
    for arm, eagerly in (
        (SyntheticGradients(LENGTH, Zero()), False),
        (ksg.methods.TruncatedBPTT(LENGTH), True),
    ):
        network = NETWORKS["simple_rnn"]()
        model = make(arm, network, rate=0.1, run_eagerly=eagerly)
        model.fit(x, y, epochs=2, verbose=0)
        found.append(network.get_weights())
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_with_a_guess_it_is_not():
    x, y = zoo.data(STEPS)
    found = []
    for value in (0.0, 1.0):
        network = zoo.network("lstm")
        make(
            SyntheticGradients(LENGTH, Constant(value)), network, rate=0.1
        ).fit(x, y, verbose=0)
        found.append(network.get_weights())
    assert zoo.differ(*found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["two layers of lstm", "stacked", "own"])
def test_an_oracle_makes_it_exact(kind, monkeypatch):
    x, y = zoo.data(STEPS)
    network = NETWORKS[kind]()
    knowing, true = oracle(monkeypatch, network, x, y, LENGTH)
    _, exact = make("bptt", network, run_eagerly=True).estimate_gradients(x, y)
    method = SyntheticGradients(LENGTH, knowing, scale=1.0)
    _, found = make(method, network).estimate_gradients(x, y)
    zoo.assert_same(found, exact)
    # The control: the same, knowing nothing.
    method = SyntheticGradients(LENGTH, Zero(), scale=1.0)
    _, zero = make(method, network, run_eagerly=True).estimate_gradients(x, y)
    assert zoo.differ(zero, exact)
    # What training teaches at every boundary is the truth, of any scale.
    method = SyntheticGradients(LENGTH, knowing, scale=0.3)
    lessons = taught(monkeypatch, method, network, x, y)
    assert len(lessons) == 2
    zoo.assert_same([lesson.target for lesson in lessons], true)
    assert zoo.differ(knowing.taught, true)


@pytest.mark.slow
def test_an_oracle_makes_it_exact_with_one_target_a_sequence(monkeypatch):
    x, y = zoo.data(STEPS, per_sequence=True)
    network = zoo.network("gru", per_sequence=True)
    knowing, true = oracle(monkeypatch, network, x, y, LENGTH)
    _, exact = make("bptt", network, run_eagerly=True).estimate_gradients(x, y)
    method = SyntheticGradients(LENGTH, knowing, scale=1.0)
    _, found = make(method, network).estimate_gradients(x, y)
    zoo.assert_same(found, exact)
    lessons = taught(monkeypatch, method, network, x, y)
    zoo.assert_same([lesson.target for lesson in lessons], true)


def test_the_loss_of_one_target_a_sequence_is_logged_once():
    x, y = zoo.data(STEPS, per_sequence=True)
    model = make(
        SyntheticGradients(LENGTH),
        zoo.network("gru", per_sequence=True),
        metrics=["mae"],
    )
    history = model.fit(x, y, verbose=0).history
    expected = model.evaluate(x, y, verbose=0, return_dict=True)
    assert history["loss"][0] == pytest.approx(expected["loss"], rel=1e-5)
    assert history["mae"][0] == pytest.approx(expected["mae"], rel=1e-5)


def test_nothing_comes_from_beyond_the_end():
    """One segment a window: the guess at its end must not be used."""
    x, y = zoo.data(LENGTH)
    found = []
    for method in (
        SyntheticGradients(LENGTH, Constant(100.0), scale=1.0),
        ksg.methods.TruncatedBPTT(LENGTH),
    ):
        model = make(method, zoo.network("lstm"))
        found.append(model.estimate_gradients(x, y)[1])
    zoo.assert_same(*found)


@pytest.mark.slow
def test_scale_and_bootstrap_act_apart(monkeypatch):
    x, y = zoo.data(STEPS)
    network = zoo.network("simple_rnn")

    def targets(scale, bootstrap):
        method = SyntheticGradients(LENGTH, Constant(), scale, bootstrap)
        found = taught(monkeypatch, method, network, x, y)
        return np.stack([lesson.target for lesson in found])

    def gradients(scale, bootstrap):
        method = SyntheticGradients(LENGTH, Constant(), scale, bootstrap)
        return make(method, network).estimate_gradients(x, y)[1]

    zoo.assert_same(targets(0.2, 0.5), targets(3.0, 0.5))
    zoo.assert_same(gradients(0.2, 0.5), gradients(0.2, 2.0))
    # Both are linear, each in its own number.
    none, half, whole = (targets(1.0, number) for number in (0, 0.5, 1.0))
    assert zoo.differ(none, whole)
    zoo.assert_same(whole - none, 2 * (half - none))
    none, half, whole = (gradients(number, 1.0) for number in (0, 0.5, 1.0))
    assert zoo.differ(none, whole)
    zoo.assert_same(
        [a - b for a, b in zip(whole, none, strict=True)],
        [2 * (a - b) for a, b in zip(half, none, strict=True)],
        tolerance=1e-4,
    )


@pytest.mark.compiled
@pytest.mark.parametrize("bootstrap, lambda_", [(0.0, 0.0), (1.0, 0.8)])
def test_on_a_linear_system_it_learns_the_analytic_gradient(bootstrap, lambda_):
    """h' = a h + x with loss h^2 and x white noise, on an endless stream.

    The loss to come from h costs 2 h (a^2 + a^4 + ...): a linear synthesiser
    must find 2 a^2 / (1 - a^2), or the first `length` terms without a
    bootstrap.
    """
    a, rows, length = 0.8, 64, 3
    network = keras.Sequential(
        [
            keras.Input((None, 1)),
            keras.layers.SimpleRNN(
                1, "linear", use_bias=False, return_sequences=True
            ),
        ]
    )
    network.set_weights([np.ones((1, 1)), np.full((1, 1), a)])
    method = SyntheticGradients(
        length,
        "linear",
        bootstrap=bootstrap,
        synthesizer_optimizer=keras.optimizers.SGD(0.005),
        lambda_=lambda_,
    )
    model = make(method, network, stateful=True, jit_compile=True)
    noise = np.random.default_rng(0).normal(size=(40 * rows, 30, 1))
    model.fit(noise, 0 * noise, rows, epochs=8, shuffle=False, verbose=0)
    powers = a ** (2 * np.arange(1, length + 1))
    expected = 2 * powers.sum() if bootstrap == 0 else 2 * a**2 / (1 - a**2)
    weight, bias = model.method_state.parts["synthesis"].network.get_weights()
    assert weight[0, 0] == pytest.approx(expected, rel=0.03)
    assert bias[0] == pytest.approx(0, abs=0.15)
    np.testing.assert_array_equal(network.get_weights()[1], [[np.float32(a)]])


@pytest.mark.compiled
def test_guesses_come_near_the_truth_and_training_logs_it():
    x, y = zoo.data(9)
    model = make(
        SyntheticGradients(
            3, synthesizer_optimizer=keras.optimizers.Adam(0.03)
        ),
        zoo.network("lstm"),
    )
    model.run_eagerly = True  # what is done once
    before = ksg.diagnostics.boundary_gradients(model, x, y)
    many = zoo.repeated(5, x, y)
    model.run_eagerly = False
    history = model.fit(*many, 3, epochs=30, shuffle=False, verbose=0).history
    model.run_eagerly = True
    after = ksg.diagnostics.boundary_gradients(model, x, y)
    assert (before.relative_error, before.cosine) == (1.0, 0.0)
    assert after.relative_error < 0.1 and after.cosine > 0.99
    assert history["synthesizer_norm_ratio"][0] < 0.5
    assert history["synthesizer_norm_ratio"][-1] == pytest.approx(1, abs=0.05)
    assert history["synthesizer_loss"][-1] < history["synthesizer_loss"][0] / 50
    assert set(model.evaluate(x, y, verbose=0, return_dict=True)) == {"loss"}


def test_the_loss_may_be_a_sum(monkeypatch):
    """Guesses are in a row's own units, whatever the loss divides by."""
    x, y = zoo.data(STEPS)
    network = zoo.network("lstm")
    found = []
    for loss in (
        keras.losses.MeanSquaredError(),
        keras.losses.MeanSquaredError(reduction="sum"),
    ):
        method = SyntheticGradients(LENGTH, Constant(), bootstrap=0.0)
        lessons = taught(monkeypatch, method, network, x, y, loss=loss)
        found.append([lesson.target for lesson in lessons])
    zoo.assert_same(*found)


@pytest.mark.parametrize(
    "options, text",
    [
        ({"length": 0}, "`length` must be an integer of 1 or more"),
        ({"length": 3, "scale": -1.0}, "`scale` must be a number of 0"),
        ({"length": 3, "auxiliary": True}, "`auxiliary` must be a number"),
        ({"length": 3, "lambda_": -0.1}, "`lambda_` must be a number of 0"),
        ({"length": 3, "lambda_": 1.5}, "to 1, all of the window's. Received"),
        ({"length": 3, "condition": "input"}, "must be one of .'state', 'next"),
    ],
)
def test_refused_arguments(options, text):
    with pytest.raises(ValueError, match=text):
        SyntheticGradients(**options)


def test_refuses_targets_of_both_kinds():
    inputs = keras.Input((None, 2))
    hidden = keras.layers.GRU(3, return_sequences=True)(inputs)
    last = keras.layers.GRU(2)(hidden)
    network = keras.Model(inputs, [hidden, last])
    model = make(SyntheticGradients(3), network, loss=["mse", "mse"])
    with pytest.raises(ValueError, match="no common unit. Received both"):
        model.fit(np.zeros((3, 7, 2)), [np.zeros((3, 7, 3)), np.zeros((3, 2))])


def test_the_auxiliary_task_against_its_own_gradient():
    """Two segments; the second has no loss, and nothing ahead of it."""
    x, y = zoo.data(2 * LENGTH)
    weight = np.ones((zoo.BATCH, 2 * LENGTH), "float32")
    weight[:, LENGTH:] = 0.0
    network = zoo.network("gru")
    before = network.get_weights()
    head = [0.3 * np.ones((3, 3)), np.zeros(3)]

    def moved(auxiliary):
        method = SyntheticGradients(
            LENGTH, Constant(), scale=0.0, auxiliary=auxiliary
        )
        model = make(method, network, rate=1.0)
        synthesis = model.method_state.parts["synthesis"]
        if auxiliary:
            synthesis.head.set_weights(head)
        model.fit(x, y, sample_weight=weight, verbose=0)
        if auxiliary:  # learns, though no target of the network counts yet
            assert zoo.differ(synthesis.head.get_weights(), head)
        after = network.get_weights()
        network.set_weights(before)
        return [b - a for a, b in zip(before, after, strict=True)]

    with tf.GradientTape() as tape:
        first = network.layers[0](x[:, :1])[:, 0]
        error = tf.reduce_mean((tf.matmul(first, head[0]) - 1.0) ** 2)
    variables = network.trainable_variables
    expected = [
        -0.7 * (0.0 if g is None else g.numpy())
        for g in tape.gradient(error, variables)
    ]
    found = [a - b for a, b in zip(moved(0.7), moved(0.0), strict=True)]
    zoo.assert_same(
        found,
        [e + 0 * f for e, f in zip(expected, found, strict=True)],
        tolerance=1e-4,
    )
    assert any(np.any(np.abs(e) > 1e-3) for e in expected)
