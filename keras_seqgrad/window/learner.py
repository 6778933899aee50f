"""What a method does to the model: it moves parameters and enters losses."""

import keras
import tensorflow as tf

from keras_seqgrad.tensors import nested
from keras_seqgrad.window import missing


class Learner:
    """The model of a `Window` while it learns from it.

    The window is what a method reads; this is all that it changes.

    Args:
        window: The window.
    """

    def __init__(self, window):
        self.window = window
        self.model = window.model

    # --- parameters -------------------------------------------------------

    @property
    def learning_rate(self):
        """That of the model's optimizer."""
        return tf.convert_to_tensor(self.model.optimizer.learning_rate)

    def apply(self, gradients):
        """Moves the parameters by the gradients of a scaled loss."""
        self.model.optimizer.apply(gradients, self.window.variables)

    # --- books ------------------------------------------------------------

    def record_window(self, outputs, loss):
        """Enters the loss and the outputs of the whole window."""
        self.record_loss(loss)
        self.record_metrics(self.window.whole(), outputs)

    def record_loss(self, loss):
        """Enters the loss of the window, weighted by its rows."""
        window = self.window
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1:
            loss = loss * replicas
        # A constant that waits for the batch: else it would be counted once
        # more when the step runs into the end of the data.
        with tf.control_dependencies(keras.tree.flatten(window.inputs)):
            rows = tf.cast(tf.identity(window.batch_size), "float32")
        tracker = next(m for m in self.model.metrics if m.name == "loss")
        tracker.update_state(loss, sample_weight=rows)

    def record_metrics(self, segment, outputs):
        """Enters a segment's outputs in the compiled metrics."""
        segment, outputs = missing.clear_for_metrics(
            segment, outputs, self.model
        )
        self.model.compute_metrics(
            segment.inputs, segment.y, outputs, segment.sample_weight
        )

    def keep_output_losses(self):
        """A function that puts the loss trackers of single outputs back."""
        names = {f"{name}_loss" for name in self.model.output_names or ()}

        def trackers():
            return [
                variable
                for metric in self.model.metrics
                if metric.name in names
                for variable in metric.variables
            ]

        before = [tf.identity(variable) for variable in trackers()]

        def restore():
            found = trackers()
            # Keras makes them, zero, with the first loss.
            values = before or nested.zeros_like(found)
            for variable, value in zip(found, values, strict=True):
                variable.assign(value)

        return restore
