"""Train Keras recurrent models with a choice of gradients through time."""

from importlib.metadata import version

from keras_seqgrad._installed import require_tensorflow

# First of all, so that a missing TensorFlow gives one clear error.
require_tensorflow()

from keras_seqgrad import (  # noqa: E402
    callbacks,
    data,
    diagnostics,
    layers,
    methods,
    ops,
    optimizers,
    synthesizers,
    truncation,
)
from keras_seqgrad.model import SequenceModel  # noqa: E402

__version__ = version("keras-seqgrad")

__all__ = [
    "SequenceModel",
    "callbacks",
    "data",
    "diagnostics",
    "layers",
    "methods",
    "ops",
    "optimizers",
    "synthesizers",
    "truncation",
]
