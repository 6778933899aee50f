import gc
import os

# Before TensorFlow is imported: its start-up notes hide the tests' output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import pytest  # noqa: E402

# Tracing makes millions of objects that stay; looking through them all again
# and again for garbage is a tenth of the time.
gc.set_threshold(50_000, 20, 20)


@pytest.fixture(autouse=True)
def fresh_session():
    """Gives every test the same seeds and layer names, in whatever order."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
