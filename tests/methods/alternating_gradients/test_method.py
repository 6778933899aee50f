"""Phases: who flips them, and what changes by it."""

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from keras_seqgrad.methods import AlternatingGradients, SyntheticGradients
from tests import zoo
from tests.methods.synthetic_gradients.synthesizing import (
    Constant,
    lessons,
    make,
)

LENGTH, STEPS = 3, 7


def in_phase(number, monkeypatch):
    """Targets and gradients of one window in a phase."""
    x, y = zoo.data(STEPS)
    method = AlternatingGradients(LENGTH, Constant(), scale=0.5)
    model = make(method, zoo.network("lstm"), run_eagerly=True)
    model.method_state.parts["phase"].set(number)
    with lessons(monkeypatch) as found:
        model.train_on_batch(x, y)
    _, gradients = model.estimate_gradients(x, y)
    return [lesson.target for lesson in found], gradients


@pytest.mark.slow
def test_a_phase_changes_what_the_network_receives_not_the_targets(
    monkeypatch,
):
    x, y = zoo.data(STEPS)
    targets, gradients = in_phase(0, monkeypatch)
    synthetic_targets, synthetic = in_phase(1, monkeypatch)
    truncated = make(ksg.methods.TruncatedBPTT(LENGTH), zoo.network("lstm"))
    zoo.assert_same(gradients, truncated.estimate_gradients(x, y)[1])
    guessing = make(
        SyntheticGradients(LENGTH, Constant(), scale=0.5), zoo.network("lstm")
    )
    zoo.assert_same(synthetic, guessing.estimate_gradients(x, y)[1])
    assert zoo.differ(synthetic, gradients)
    # Formed once: a trigger that fires twice would halve the fixed point.
    zoo.assert_same(synthetic_targets, targets)


@pytest.mark.compiled
def test_the_synthesiser_settles_at_the_whole_target_in_either_phase():
    """On white noise through h' = a h + x the fixed point is known."""
    a, rows = 0.8, 64
    network = keras.Sequential(
        [
            keras.Input((None, 1)),
            keras.layers.SimpleRNN(
                1, "linear", use_bias=False, return_sequences=True
            ),
        ]
    )
    network.set_weights([np.ones((1, 1)), np.full((1, 1), a)])
    method = AlternatingGradients(
        LENGTH,
        "linear",
        scale=1.0,
        synthesizer_optimizer=keras.optimizers.SGD(0.005),
        switch_epochs=[99],
    )
    model = make(method, network, stateful=True, jit_compile=True)
    noise = np.random.default_rng(0).normal(size=(40 * rows, 30, 1))
    learner = model.method_state.parts["synthesis"].network
    whole = 2 * a**2 / (1 - a**2)
    for phase in (0, 1):
        learner.set_weights([np.zeros((1, 1)), np.zeros(1)])
        for _ in range(6):
            model.reset_state()
            model.method_state.parts["phase"].set(phase)
            for batch in np.split(noise, 40):
                model.train_on_batch(batch, 0 * batch)
        weight, _ = learner.get_weights()
        assert weight[0, 0] == pytest.approx(whole, rel=0.05)


def fit(method, callbacks=(), **options):
    x, y = zoo.data(LENGTH + 1)
    model = make(method, zoo.network("simple_rnn"), rate=0.1)
    history = model.fit(
        x, y, callbacks=list(callbacks), verbose=0, **options
    ).history
    return model, history


@pytest.mark.slow
def test_the_phase_flips_at_given_epochs():
    method = AlternatingGradients(LENGTH, "linear", switch_epochs=[1, 3])
    model, history = fit(method, epochs=5)
    assert history["phase"] == [0, 1, 1, 0, 0]
    # A training that goes on knows where it is.
    x, y = zoo.data(LENGTH + 1)
    again = model.fit(x, y, initial_epoch=2, epochs=4, verbose=0).history
    assert again["phase"] == [1, 0]


@pytest.mark.slow
def test_the_phase_flips_at_warm_restarts():
    restarts = ksg.callbacks.WarmRestarts(0.1, 2)
    model, history = fit(
        AlternatingGradients(LENGTH, "linear"), [restarts], epochs=6
    )
    assert history["phase"] == [0, 0, 1, 1, 0, 0]
    assert restarts.restarts(6) == [2, 4]


@pytest.mark.slow
def test_the_phase_is_saved(tmp_path):
    method = AlternatingGradients(LENGTH, "linear", switch_epochs=[1])
    model, _ = fit(method, epochs=2)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert int(again.method_state.parts["phase"].number) == 1
    assert again.method.switch_epochs == [1]


def test_somebody_must_flip_it():
    with pytest.raises(ValueError, match="not told when to alternate"):
        fit(AlternatingGradients(LENGTH))
    text = r"that increase. Received: switch_epochs=\[3, 2"
    with pytest.raises(ValueError, match=text):
        AlternatingGradients(LENGTH, switch_epochs=[3, 2])


@pytest.mark.slow
def test_both_phases_learn_from_lambda_returns(monkeypatch):
    x, y = zoo.data(STEPS)
    network = zoo.network("gru")
    method = AlternatingGradients(
        LENGTH, Constant(), switch_epochs=[1], lambda_=1.0
    )
    assert method.get_config()["lambda_"] == 1.0
    model = make(method, network, run_eagerly=True)
    with lessons(monkeypatch) as found:
        model.fit(x, y, zoo.BATCH, 2, verbose=0, shuffle=False)
    true = ksg.diagnostics.boundary_gradients(model, x, y).true
    zoo.assert_same([lesson.target for lesson in found], [*true, *true])
