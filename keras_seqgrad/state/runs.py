"""What fit, evaluate and predict need around a carried state."""

import inspect
import types
from typing import Any, NamedTuple

import keras
import tensorflow as tf


class Run(NamedTuple):
    """A kind of run.

    Attributes:
        start: Keras' own method that makes it.
        function: Where Keras keeps what it has compiled for it.
    """

    start: Any
    function: str


RUNS = {
    "training": Run(keras.Model.fit, "train_function"),
    "evaluation": Run(keras.Model.evaluate, "test_function"),
    "prediction": Run(keras.Model.predict, "predict_function"),
}
# Data that Keras cannot shuffle, and of which it says so.
ORDERED = (tf.data.Dataset, types.GeneratorType)


class ResetCarriedState(keras.callbacks.Callback):
    """Starts the carried state anew with every epoch, and every other run."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.carried["training"].reset()

    def on_test_begin(self, logs=None):
        self.model.carried["evaluation"].reset()

    def on_predict_begin(self, logs=None):
        self.model.carried["prediction"].reset()


def with_own(callbacks, own):
    """`callbacks` after our `own`; a list in use already has them."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    return [*own, *keras.tree.flatten(callbacks or []), ResetCarriedState()]


def bind(function, model, args, kwargs):
    """The arguments of a call of one of Keras' methods, by name."""
    bound = inspect.signature(function).bind(model, *args, **kwargs)
    given = dict(bound.arguments)
    given.pop("self")
    return given | given.pop("kwargs", {})


def rows(given):
    """Rows of each batch of the data given to a run; None where unknown."""
    x = given.get("x")
    if isinstance(x, tf.data.Dataset):
        leaves = keras.tree.flatten(x.element_spec)
        return leaves[0].shape[0]
    if not all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(x)):
        return None
    batch_size = given.get("batch_size") or 32
    total = len(keras.tree.flatten(x)[0])
    batch_size = min(batch_size, total)
    if total % batch_size:
        raise ValueError(
            "With stateful=True every batch must have the same number of "
            f"rows. Expected a multiple of batch_size={batch_size} rows, "
            f"received {total}."
        )
    return batch_size


def shuffling(given, stateful):
    """Whether `fit` is to shuffle its data.

    Args:
        given: The arguments of `fit` by name.
        stateful: Whether the order matters; arrays that `fit` would shuffle
            are refused then.
    """
    x = given.get("x")
    arrays = all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(x))
    shuffle = given.get("shuffle", not isinstance(x, ORDERED))
    if stateful and arrays and shuffle:
        raise ValueError(
            "With stateful=True the windows must come in order: batch k + 1 "
            "continues the rows of batch k. Expected shuffle=False or a "
            "tf.data.Dataset (see ksg.data.stream), received arrays with "
            "shuffle=True."
        )
    return shuffle
