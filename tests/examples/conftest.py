import functools

import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.window.probe import Probe


@pytest.fixture(autouse=True)
def graphs_as_they_are():
    """Graphs of scripts run for a moment: to improve them takes longer."""
    name = "disable_meta_optimizer"
    tf.config.optimizer.set_experimental_options({name: True})
    yield
    tf.config.optimizer.set_experimental_options({name: False})


@pytest.fixture
def probes_eagerly(monkeypatch):
    """Diagnostics beside compiled training are for few windows."""
    plain = Probe.__call__

    def eager(self, *arguments, **options):
        before = tf.config.functions_run_eagerly()
        tf.config.run_functions_eagerly(True)
        try:
            return plain(self, *arguments, **options)
        finally:
            tf.config.run_functions_eagerly(before)

    monkeypatch.setattr(Probe, "__call__", eager)


@pytest.fixture
def no_pictures(monkeypatch):
    """TensorBoard gets its numbers alone; pictures take longer than training.

    `tests/callbacks/test_gradient_diagnostics.py` looks at them.
    """
    plain = ksg.callbacks.GradientDiagnostics
    without = functools.partial(plain, images=False)
    monkeypatch.setattr(ksg.callbacks, "GradientDiagnostics", without)
