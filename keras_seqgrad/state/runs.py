"""What fit, evaluate and predict need around a carried state."""

import inspect
import math
import types
import warnings
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_seqgrad.state.rows import number_in
from keras_seqgrad.tensors import origin


class Run(NamedTuple):
    """A kind of run.

    Attributes:
        start: Keras' own method that makes it.
        function: Where Keras keeps what it has compiled for it.
        step: The name of the model's method that takes a batch.
    """

    start: Any
    function: str
    step: str


RUNS = {
    "training": Run(keras.Model.fit, "train_function", "train_step"),
    "evaluation": Run(keras.Model.evaluate, "test_function", "test_step"),
    "prediction": Run(keras.Model.predict, "predict_function", "predict_step"),
}
# Data that Keras cannot shuffle, and of which it says so.
ORDERED = (tf.data.Dataset, types.GeneratorType)


class ResetCarriedState(keras.callbacks.Callback):
    """Starts the carried state anew with every epoch, and every other run."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.carried["training"].reset()

    def on_train_end(self, logs=None):
        self.model.carried["training"].release()

    def on_test_begin(self, logs=None):
        self.model.carried["evaluation"].reset()

    def on_test_end(self, logs=None):
        self._end("evaluation")

    def on_predict_begin(self, logs=None):
        self.model.carried["prediction"].reset()

    def on_predict_end(self, logs=None):
        self._end("prediction")

    def _end(self, run):
        warn_if_left_out(self.model, run)
        self.model.carried[run].release()


def warn_if_left_out(model, run):
    """Warns once where a step of the user's own has carried no state."""
    carried, step = model.carried[run], RUNS[run].step
    left_out = model.stateful and not carried.is_asked
    if not (left_out and origin.overrides(model, step)):
        return
    carried.is_asked = True  # said once
    warnings.warn(
        f"`{type(model).__name__}.{step}` has run batches without "
        f"`super().{step}(data)`, which carries the state of rows from window "
        "to window. Received: stateful=True. Call it in your own step, and add "
        "to what it returns; or make the model with stateful=False.",
        stacklevel=2,
    )


class Arranging(keras.callbacks.Callback):
    """A callback that has a say in the arguments of `fit`.

    Attributes:
        last: Whether it is called after all others, wherever it is among them.
    """

    last = True

    def arrange(self, model, given):
        """The arguments of `fit` by name, as they are to be."""
        return given


def with_own(callbacks, own):
    """`callbacks` after our `own`; a list in use already has them."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    callbacks = keras.tree.flatten(callbacks or [])
    last = [callback for callback in arranging(callbacks) if callback.last]
    others = [callback for callback in callbacks if callback not in last]
    return [*own, *others, ResetCarriedState(), *last]


def arranging(callbacks):
    """Those of the callbacks of a `fit` that have a say in it."""
    return [
        callback
        for callback in keras.tree.flatten(callbacks or [])
        if isinstance(callback, Arranging)
    ]


def bind(function, model, args, kwargs):
    """The arguments of a call of one of Keras' methods, by name."""
    bound = inspect.signature(function).bind(model, *args, **kwargs)
    given = dict(bound.arguments)
    given.pop("self")
    return given | given.pop("kwargs", {})


def complete(given, run, model):
    """The arguments of a run, checked, and with the callbacks it needs."""
    given, own = dict(given), []
    if model.stateful:
        check_rows(given)
    if run == "training":
        given["shuffle"] = shuffling(given, model.stateful)
        own = model.method.callbacks() if model.method else []
        own = [*own, *model.guard.callbacks(model)]
        rows = rows_told(given, model.network)
        if model.stateful and rows is not None:
            begin(model, rows)
        for callback in arranging(given.get("callbacks")):
            given = callback.arrange(model, given)
    return {**given, "callbacks": with_own(given.get("callbacks"), own)}


def begin(model, rows):
    """Makes room for the rows of a training, which starts anew in any case.

    So callbacks know them before the first batch.
    """
    carried = model.carried["training"]
    if rows != carried.batch_size:
        carried.reset()
    carried.admit(rows)
    model.method_state.admit(rows)


def rows_told(given, network):
    """Number of rows of each batch, where it is told before the first one."""
    x = given.get("x")
    total, _, _ = shares(given)
    if total:
        return min(given.get("batch_size") or 32, total)
    if isinstance(x, tf.data.Dataset):
        told = number_in(x.element_spec)
        if told is not None:
            return told
    inputs = getattr(network, "inputs", None)
    return inputs[0].shape[0] if inputs else None


def check_rows(given):
    """Refuses arrays that do not make batches of the same number of rows.

    Args:
        given: The arguments of `fit`, `evaluate` or `predict` by name.
    """
    size = given.get("batch_size") or 32
    total, apart, name = shares(given)
    check_multiple(total, size, "x")
    check_multiple(apart, given.get("validation_batch_size") or size, name)


def shares(given):
    """(rows of arrays to run, those to validate on, which argument says so).

    None each where there are none or something else yields batches.
    """
    total, apart = length_of(given.get("x")), given.get("validation_data")
    if apart is not None:
        x, _, _ = keras.utils.unpack_x_y_sample_weight(apart)
        return total, length_of(x), "validation_data"
    split = given.get("validation_split")
    if not (total and split):
        return total, None, None
    # Keras' own arithmetic: the last rows are for validation.
    kept = math.floor(total * (1.0 - split))
    return kept, total - kept, "validation_split"


def length_of(x):
    """Number of rows of arrays; None for what yields batches."""
    leaves = keras.tree.flatten(x)
    return len(leaves[0]) if all_arrays(leaves) else None


def check_multiple(total, batch_size, name):
    """Refuses a number of rows of which the last batch would be smaller."""
    if total and total % min(batch_size, total):
        raise ValueError(
            "With stateful=True every batch must have the same number of "
            f"rows. Expected in {name} a multiple of batch_size={batch_size} "
            f"rows, received {total}."
        )


def all_arrays(leaves):
    """Whether data is given whole, and not by something that yields it."""
    return bool(leaves) and all(hasattr(leaf, "shape") for leaf in leaves)


def shuffling(given, stateful):
    """Whether `fit` is to shuffle its data.

    Args:
        given: The arguments of `fit` by name.
        stateful: Whether the order matters; data that `fit` would shuffle is
            refused then.
    """
    x = given.get("x")
    shuffle = given.get("shuffle", not isinstance(x, ORDERED))
    shuffled = None
    if all_arrays(keras.tree.flatten(x)):
        shuffled = "arrays"
    elif isinstance(x, keras.utils.PyDataset) and x.num_batches is not None:
        shuffled = "a PyDataset"
    if stateful and shuffle and shuffled:
        raise ValueError(
            "With stateful=True the windows must come in order: batch k + 1 "
            "continues the rows of batch k. Expected shuffle=False or a "
            f"tf.data.Dataset (see ksg.data.stream), received {shuffled} with "
            "shuffle=True."
        )
    return shuffle
