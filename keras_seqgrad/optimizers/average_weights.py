"""Evaluates, or goes on from, the average that an FPTT optimizer keeps."""

from typing import Any, Literal

import keras
import tensorflow as tf

from keras_seqgrad.optimizers import fptt
from keras_seqgrad.tensors import arguments

MODES = ("swap", "evaluate")


class AverageWeights(keras.callbacks.Callback):
    """Uses the average of the parameters that `ksg.optimizers.FPTT` keeps.

    Add it to `fit` of a model whose optimizer is, or wraps, FPTT.
    `ksg.methods.FPTT` adds one by itself. Not needed where the parameters
    themselves are wanted.

    Rule, W being the parameters, V their average and m the multipliers:

        "swap"      after an epoch, before it is evaluated: W <- V, m <- 0;
                    training goes on from there
        "evaluate"  W <- V during an evaluation, and back after it, so that
                    training, and what is saved, never sees the average

    Put it before callbacks that save the model.

    Args:
        mode: "swap", as the authors do, or "evaluate".
        reset_multipliers: Whether a swap sets the multipliers to 0.

    Raises:
        ValueError: `mode` is unknown, or (in `fit`) the model's optimizer has
            no FPTT.

    Example:

    >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    >>> model.compile(ksg.optimizers.FPTT("adam"), "mse")
    >>> callback = ksg.callbacks.AverageWeights("evaluate")
    >>> x, y = np.ones((8, 3)), np.ones((8, 1))
    >>> history = model.fit(
    ...     x, y, validation_data=(x, y), callbacks=[callback], verbose=0
    ... )
    """

    def __init__(
        self,
        mode: Literal["swap", "evaluate"] = "swap",
        reset_multipliers: bool = True,
    ) -> None:
        super().__init__()
        self.mode = arguments.choice(mode, "mode", MODES)
        self.reset_multipliers = arguments.flag(
            reset_multipliers, "reset_multipliers"
        )
        self.due = False
        self.kept = None

    def set_model(self, model):
        super().set_model(model)
        if fptt.find(model.optimizer) is None:
            raise ValueError(
                "AverageWeights needs the average that ksg.optimizers.FPTT "
                "keeps. Compile the model with FPTT(optimizer). Received: "
                f"{model.optimizer.__class__.__name__}"
            )

    @property
    def optimizer(self) -> Any:
        """The FPTT inside the model's optimizer."""
        return fptt.find(self.model.optimizer)

    def on_epoch_begin(self, epoch, logs=None):
        self.due = self.mode == "swap"

    def on_epoch_end(self, epoch, logs=None):
        # Without an evaluation there was no earlier moment.
        self._swap()

    def on_test_begin(self, logs=None):
        if self.mode == "swap":
            self._swap()
            return
        self.kept = [
            tf.convert_to_tensor(v) for v in self.optimizer.regularized
        ]
        self.optimizer.average(reset_multipliers=False)

    def on_test_end(self, logs=None):
        if self.mode == "evaluate":
            for variable, value in zip(
                self.optimizer.regularized, self.kept, strict=True
            ):
                variable.assign(value)
            self.kept = None

    def _swap(self):
        if self.due:
            self.due = False
            self.optimizer.average(self.reset_multipliers)
