import keras
import pytest


@pytest.fixture
def float64():
    """Keras in float64: losses, too."""
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx("float32")
