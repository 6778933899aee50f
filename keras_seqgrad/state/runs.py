"""What fit, evaluate and predict need around a carried state."""

import inspect

import keras
import tensorflow as tf

# The kinds of runs, and where Keras keeps their compiled functions.
FUNCTIONS = {
    "training": "train_function",
    "evaluation": "test_function",
    "prediction": "predict_function",
}


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


def refuse_shuffling(given):
    """Refuses arrays that fit would shuffle: windows must keep their order."""
    x = given.get("x")
    arrays = all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(x))
    if arrays and given.get("shuffle", True):
        raise ValueError(
            "With stateful=True the windows must come in order: batch k + 1 "
            "continues the rows of batch k. Expected shuffle=False or a "
            "tf.data.Dataset (see ksg.data.stream), received arrays with "
            "shuffle=True."
        )
