"""What must be installed, and what only some results ask for."""

import importlib
import json
import os
import sys
from pathlib import Path

INSTALL = (
    "Install it with one of:\n"
    "    pip install 'keras-seqgrad[tensorflow]'\n"
    "    pip install 'keras-seqgrad[tensorflow-cpu]'\n"
    "    pip install 'keras-seqgrad[gpu]'"
)


def require_tensorflow():
    """Raises ImportError unless Keras runs, or would run, on TensorFlow.

    The backend is found out before Keras is imported, because importing Keras
    on a backend that is not installed fails with that backend's own error.
    Nothing is set: which backend Keras uses stays the user's choice.
    """
    backend, source = chosen_backend()
    if backend != "tensorflow":
        raise ImportError(
            "keras_seqgrad needs Keras to run on the TensorFlow backend. "
            f"Received: backend {backend!r}, from {source}. Set the "
            "environment variable KERAS_BACKEND=tensorflow before Keras is "
            "first imported."
        )
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "keras_seqgrad needs TensorFlow 2.18 or later, which cannot be "
            f"imported. Received: {error}. {INSTALL}"
        ) from error


def chosen_backend():
    """The Keras backend in use, or the one the next import will choose.

    Returns:
        Pair of strings: the backend, and where the choice was found.
    """
    if "keras" in sys.modules:
        import keras

        return keras.config.backend(), "Keras, which is already imported"
    from_environment = os.environ.get("KERAS_BACKEND")
    if from_environment:
        return from_environment, "the environment variable KERAS_BACKEND"
    path = config_path()
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError):
        # Keras, too, goes on with its defaults without a readable file.
        config = {}
    return config.get("backend", "tensorflow"), f"the file {path}"


def config_path():
    """The file in which Keras looks for its configuration."""
    home = os.environ.get("KERAS_HOME")
    if home is None:
        user = os.path.expanduser("~")
        # Keras falls back to this folder when the home is not writable.
        home = os.path.join(
            user if os.access(user, os.W_OK) else "/tmp", ".keras"
        )
    return Path(home, "keras.json").expanduser()


def require(module, command):
    """Imports a module, or says how to install it.

    Args:
        module: Name of the module.
        command: What installs it.

    Example:

    >>> require("json", "pip install json").dumps(1)
    '1'
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This needs {module.split('.')[0]}, which is not installed. "
            f"Install it with: {command}"
        ) from error
