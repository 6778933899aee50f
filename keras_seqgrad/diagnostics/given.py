"""What a user hands to a measurement: a model, and the data of one window."""

from collections.abc import Mapping, Sequence

from keras_seqgrad.methods import Method
from keras_seqgrad.model import SequenceModel
from keras_seqgrad.tensors import arguments
from keras_seqgrad.window import agreement
from keras_seqgrad.window.probe import as_tensors

# Methods to compare: objects or names, or a dict of them by the name to show.
Methods = Sequence[str | Method] | Mapping[str, str | Method]


def check_model(model, compiled=True):
    """Refuses what is no `SequenceModel`, or has no method."""
    if not isinstance(model, SequenceModel):
        wanted = (
            "a SequenceModel. ksg.SequenceModel.from_model(model) makes one of "
            "a Keras model"
        )
        arguments.refuse(model, "model", wanted)
    if compiled and model.method is None:
        raise ValueError(
            "`model` needs a loss and a method to be measured. Call "
            "`compile(..., method=...)` first. Received: a SequenceModel that "
            "is not compiled"
        )


def window(model, x, y, sample_weight=None):
    """(x, y, sample_weight) as tensors whose shapes agree.

    Args:
        model: The `SequenceModel`.
        x: Inputs of one window.
        y: Targets, or None where no loss is asked for.
        sample_weight: Weights, or None.
    """
    data = as_tensors(x, y, sample_weight)
    agreement.check(model, data, True, judged=y is not None)
    return data
