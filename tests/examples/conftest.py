import pytest
import tensorflow as tf


@pytest.fixture(autouse=True)
def graphs_as_they_are():
    """Graphs of scripts run for a moment: to improve them takes longer."""
    name = "disable_meta_optimizer"
    tf.config.optimizer.set_experimental_options({name: True})
    yield
    tf.config.optimizer.set_experimental_options({name: False})
