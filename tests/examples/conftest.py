import functools

import pytest
import tensorflow as tf

import keras_seqgrad as ksg


@pytest.fixture(autouse=True)
def graphs_as_they_are():
    """Graphs of scripts run for a moment: to improve them takes longer."""
    name = "disable_meta_optimizer"
    tf.config.optimizer.set_experimental_options({name: True})
    yield
    tf.config.optimizer.set_experimental_options({name: False})


@pytest.fixture
def no_pictures(monkeypatch):
    """TensorBoard gets its numbers alone; pictures take longer than training.

    `tests/callbacks/test_gradient_diagnostics.py` looks at them.
    """
    plain = ksg.callbacks.GradientDiagnostics
    without = functools.partial(plain, images=False)
    monkeypatch.setattr(ksg.callbacks, "GradientDiagnostics", without)
