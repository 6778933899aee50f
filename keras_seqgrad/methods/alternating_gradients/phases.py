"""The phase of a method that alternates, and who flips it."""

import keras
import tensorflow as tf


class Phase(keras.layers.Layer):
    """Which of two phases training is in; saved with the model.

    Attributes:
        driven: Whether a callback of the user's flips it.
    """

    def __init__(self):
        super().__init__(name="phase", trainable=False, autocast=False)
        self.number = self.add_weight(
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            name="phase",
        )
        self.tracker = keras.metrics.Mean("phase")
        self.driven = False
        self.built = True

    @property
    def is_second(self):
        """Scalar boolean tensor."""
        return tf.convert_to_tensor(self.number) == 1

    def set(self, restarts):
        """The phase after a number of restarts: it begins with the first."""
        self.number.assign(restarts % 2)

    def record(self):
        """Enters the phase in the logs, as 0 or 1."""
        self.tracker.update_state(tf.cast(self.is_second, "float32"))


class FlipPhase(keras.callbacks.Callback):
    """Flips the phase of the model's method at given epochs.

    Args:
        epochs: Numbers of epochs done when it flips; None where a callback of
            the user's has to do it.
    """

    def __init__(self, epochs):
        super().__init__()
        self.epochs = epochs

    @property
    def phase(self):
        return self.model.method_state.parts["phase"]

    def on_train_begin(self, logs=None):
        if self.epochs is None and not self.phase.driven:
            raise ValueError(
                "AlternatingGradients was not told when to alternate. "
                "Expected switch_epochs=[...], or ksg.callbacks.WarmRestarts "
                "among the callbacks of `fit`. Received neither."
            )

    def on_epoch_begin(self, epoch, logs=None):
        if self.epochs is not None:
            self.phase.set(sum(epoch >= switch for switch in self.epochs))
