"""What importing the package says, each time in a process of its own."""

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import keras_seqgrad as ksg

ROOT = Path(__file__).parent.parent
NEEDS_BACKEND = (
    "ImportError: keras_seqgrad needs Keras to run on the TensorFlow backend."
)
NEEDS_TENSORFLOW = "ImportError: keras_seqgrad needs TensorFlow 2.18 or later"


@pytest.fixture
def run(tmp_path):
    """Runs Python code with a Keras configuration of its own."""

    def run(code, config=None, **environment):
        if config is not None:
            (tmp_path / "keras.json").write_text(json.dumps(config))
        inherited = dict(os.environ)
        inherited.pop("KERAS_BACKEND", None)
        return subprocess.run(
            [sys.executable, "-c", code],
            env={
                **inherited,
                "KERAS_HOME": str(tmp_path),
                "PYTHONPATH": str(ROOT),
                **environment,
            },
            capture_output=True,
            text=True,
        )

    return run


def final_error(result):
    """The error a process ended with, from the line that names its type."""
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stderr[result.stderr.rindex("\nImportError: ") + 1 :]


@pytest.mark.parametrize("backend", ["jax", "torch", "numpy", "no such"])
def test_backend_of_the_environment_is_refused(run, backend):
    error = final_error(run("import keras_seqgrad", KERAS_BACKEND=backend))
    assert error.startswith(NEEDS_BACKEND)
    source = "the environment variable KERAS_BACKEND"
    assert f"Received: backend '{backend}', from {source}." in error
    assert "Set the environment variable KERAS_BACKEND=tensorflow" in error


def test_backend_of_the_configuration_file_is_refused(run, tmp_path):
    error = final_error(run("import keras_seqgrad", {"backend": "jax"}))
    assert error.startswith(NEEDS_BACKEND)
    source = f"the file {tmp_path / 'keras.json'}"
    assert f"Received: backend 'jax', from {source}." in error


def test_backend_of_an_imported_keras_is_refused(run):
    code = """
import sys, types

sys.modules["keras"] = keras = types.ModuleType("keras")
keras.config = types.SimpleNamespace(backend=lambda: "torch")
import keras_seqgrad
"""
    error = final_error(run(code, KERAS_BACKEND="tensorflow"))
    assert error.startswith(NEEDS_BACKEND)
    source = "Keras, which is already imported"
    assert f"Received: backend 'torch', from {source}." in error


# Of (file, environment variable), each set before Keras is imported.
CHOICES = [
    ({"backend": "jax"}, "tensorflow"),
    ({"floatx": "float32"}, ""),
    (None, None),
]


# An endless stream of drawn windows, of which one is read.
ITERATOR = """
import numpy as np
import keras_seqgrad as ksg

law = ksg.truncation.Random(8)
iterator = iter(ksg.data.stream(np.arange(99), 2, law).repeat())
print(next(iterator)[1].shape[0])
"""


@pytest.mark.slow
def test_the_backend_that_keras_chooses_and_an_iterator_that_lives(
    run, tmp_path
):
    """It lives until Python ends, which is no error.

    Each choice in a fork, since TensorFlow takes seconds to be imported.
    """
    choices = []
    for place, (config, backend) in enumerate(CHOICES):
        home = tmp_path / str(place)
        home.mkdir()
        if config is not None:
            (home / "keras.json").write_text(json.dumps(config))
        environment = {"KERAS_HOME": str(home)}
        if backend is not None:
            environment["KERAS_BACKEND"] = backend
        choices.append(environment)
    # The file is run alone: importing the package would import Keras first, as
    # TensorFlow would, too, but for what it is told.
    code = f"""
import os, runpy, sys

os.environ["TF_USE_LEGACY_KERAS"] = "1"
import tensorflow

for environment in {choices!r}:
    if os.fork() == 0:
        os.environ.update(environment)
        chosen_backend = runpy.run_path({str(ksg._installed.__file__)!r})[
            "chosen_backend"
        ]
        assert "keras" not in sys.modules
        chosen, _ = chosen_backend()
        import keras

        print(chosen, keras.config.backend(), flush=True)
        os._exit(0)
    os.wait()
"""
    # Warnings of TensorFlow are shown, which the other tests hide.
    result = run(code + ITERATOR, TF_CPP_MIN_LOG_LEVEL="1")
    found = result.stdout.split()
    assert found == [*["tensorflow"] * 6, "2"], result.stderr
    assert result.returncode == 0 and "finalizing" not in result.stderr


def test_missing_tensorflow_is_named(run):
    code = "import sys; sys.modules['tensorflow'] = None; import keras_seqgrad"
    error = final_error(run(code))
    assert error.startswith(NEEDS_TENSORFLOW)
    assert "Received: import of tensorflow halted" in error
    for extra in ["tensorflow", "tensorflow-cpu", "gpu"]:
        assert f"pip install 'keras-seqgrad[{extra}]'" in error


def test_version_is_that_of_the_metadata():
    assert ksg.__version__ == importlib.metadata.version("keras-seqgrad")
    metadata = (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{ksg.__version__}"\n' in metadata
