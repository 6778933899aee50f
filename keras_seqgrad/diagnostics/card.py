"""What a run was: as a list to read, and as hyperparameters to sort by."""

import platform
from importlib.metadata import version

import keras
import tensorflow as tf

from keras_seqgrad.diagnostics.size import parameters
from keras_seqgrad.tensors import replicas


def kinds(optimizer):
    """Class of an optimizer and of those inside it."""
    inner = getattr(optimizer, "inner_optimizer", None)
    name = type(optimizer).__name__
    return name if inner is None else f"{name}({kinds(inner)})"


def hyperparameters(model, extent):
    """Plain values by name: the method, its settings, optimizer and window."""
    optimizer, method = model.optimizer, model.method
    found = {
        "method": type(method).__name__,
        "optimizer": kinds(optimizer),
        "learning_rate": replicas.number(optimizer.learning_rate),
        "parameters": parameters(model),
        "rows": extent[0],
        "steps": extent[1],
    }
    for name, value in method.get_config().items():
        if isinstance(value, (bool, int, float, str)):
            found[f"method.{name}"] = value
    return found


def run_card(model, extent, params, rows):
    """A Markdown list of what the run is.

    Args:
        model: The `SequenceModel`.
        extent: (batch size, number of steps) of the probe.
        params: What `fit` tells its callbacks of the run.
        rows: Dict of further rows, the user's.
    """
    layers = [model.name]
    if not model.is_opaque:
        layers = [
            f"{layer.name} ({type(layer).__name__})"
            for layer in model.network.layers
        ]
    table = {
        "model": " → ".join(layers),
        "parameters": f"{parameters(model):,}",
        "method": f"`{model.method!r}`",
        "optimizer": f"{kinds(model.optimizer)}, learning rate "
        f"{replicas.number(model.optimizer.learning_rate):g}",
        "compiled": f"jit_compile={bool(model.jit_compile)}, "
        f"{keras.config.dtype_policy().name}",
        "fit": ", ".join(f"{k}={v}" for k, v in (params or {}).items()),
        "probe": f"{extent[0]} rows, {extent[1]} steps",
        "versions": f"keras_seqgrad {version('keras-seqgrad')}, "
        f"Keras {keras.__version__}, TensorFlow {tf.__version__}, "
        f"Python {platform.python_version()}",
        "device": ", ".join(d.name for d in tf.config.list_logical_devices()),
        **rows,
    }
    lines = []
    for name, value in table.items():
        value = str(value).replace("\n", " ")
        lines.append(f"- **{name}**: {value}")
    return "\n".join(lines)
