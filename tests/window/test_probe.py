import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.window.probe import Probe, as_tensors
from tests import zoo


@pytest.mark.compiled
def test_many_probes_are_not_taken_for_one_that_is_traced_again(monkeypatch):
    warnings = []

    def warn(text, *arguments):
        warnings.append(text)

    monkeypatch.setattr(tf.get_logger(), "warning", warn)
    model = ksg.SequenceModel.from_model(zoo.network("gru"))
    model.compile("sgd", "mse", jit_compile=False)
    data = as_tensors(*zoo.data())
    for place in range(8):
        Probe(model, lambda window, seed, place=place: place, False)(data)
    assert warnings == []

    def traced_again():
        return 0

    # The control: TensorFlow does speak of functions of one code.
    for _ in range(8):
        tf.function(lambda: traced_again())()
    assert any("retracing" in text for text in warnings)


@pytest.mark.compiled
def test_diagnostics_run_eagerly_where_the_model_does(monkeypatch):
    x, y = zoo.data(5)
    network = zoo.network("gru")
    found = []
    for eagerly in (False, True):
        model = ksg.SequenceModel.from_model(network)
        model.compile(
            "sgd",
            "mse",
            method=ksg.methods.SyntheticGradients(3),
            jit_compile=False,
            run_eagerly=eagerly,
        )
        if eagerly:  # nothing may be traced
            monkeypatch.setattr(tf, "function", None)
        spectrum = ksg.diagnostics.state_jacobian_spectrum(model, x, 2)
        profile = ksg.diagnostics.influence_profile(model, x, y, 3)
        guesses = ksg.diagnostics.boundary_gradients(model, x, y)
        found.append(
            [
                *spectrum.singular_values.values(),
                *profile.norms.values(),
                guesses.true,
            ]
        )
    zoo.assert_same(*found)
