"""Train Keras recurrent models with a choice of gradients through time.

To read in this order; every room imports from those above it alone:

    tensors      small functions on tensors and arguments
    ops, layers  time scans with their own backward pass, and layers on them
    network      a Keras model as a function of a segment
    state        what outlives a training step
    window       a batch on its way: cut, run, pulled back, entered
    methods      what crosses a boundary backward, and when parameters move
    model        SequenceModel, which calls a method in its `train_step`

Beside them: truncation, synthesizers, optimizers, diagnostics, callbacks, data.
"""

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
