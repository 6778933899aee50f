"""What a method does to the model: it moves parameters and enters losses."""

import functools

import keras
import tensorflow as tf

from keras_seqgrad.network.reached import not_reached
from keras_seqgrad.tensors import (
    nested,
    origin,
    readings,
    replicas,
    updates,
)
from keras_seqgrad.window import missing, per_step
from keras_seqgrad.window.by_output import paths_of


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
        optimizer, guard = self.model.optimizer, self.window.guard
        if guard is not None:
            gradients = guard.see_gradients(gradients, optimizer)
        variables = self.window.variables
        # Keras lets alone what no loss depends on, where a gradient of zero
        # would let its weight decay.
        gradients = [
            None if id(variable) in self.not_reached else gradient
            for gradient, variable in zip(gradients, variables, strict=True)
        ]
        updates.apply(optimizer, gradients, variables)

    @functools.cached_property
    def not_reached(self):
        """Ids of the variables that no gradient of a loss comes to."""
        model = self.model
        judged = [bool(losses) for losses in per_step.losses_of(model)]
        if model.is_opaque or not any(judged):
            return set()
        return not_reached(model.graph, judged)

    # --- books ------------------------------------------------------------

    def judge(self, loss, outputs):
        """Lets the guard see a loss of the window, and what it is of."""
        if self.window.guard is not None:
            self.window.guard.see_loss(loss, outputs)

    @property
    def loss_tracker(self):
        """The metric that is the model's `loss` in the logs."""
        return next(m for m in self.model.metrics if m.name == "loss")

    def evaluate(self):
        """Enters the window in the logs, and learns nothing from it.

        Returns:
            State after it.
        """
        window, segment = self.window, self.window.whole()
        outputs, state = window.forward(segment, window.state)
        self.record_window(outputs, window.loss(segment, outputs))
        return state

    def record_window(self, outputs, loss):
        """Enters the loss and the outputs of the whole window."""
        self.judge(loss, outputs)
        self.record_loss(loss)
        self.record_metrics(self.window.whole(), outputs)

    def shown(self, loss):
        """A loss as the logs have it: Keras gives a replica its part of it."""
        return loss * replicas.count() if replicas.count() > 1 else loss

    def record_loss(self, loss):
        """Enters the loss of the window, weighted by its rows."""
        window, loss = self.window, self.shown(loss)
        # A constant that waits for the batch: else it would be counted once
        # more when the step runs into the end of the data.
        with tf.control_dependencies(keras.tree.flatten(window.inputs)):
            rows = tf.cast(tf.identity(window.batch_size), "float32")
        self.loss_tracker.update_state(loss, sample_weight=rows)

    def record_metrics(self, segment, outputs):
        """Enters a segment's outputs in the compiled metrics."""
        outputs = self.window.judged(segment, outputs)
        segment, outputs = missing.clear_for_metrics(
            segment, outputs, self.model
        )
        told = self.model.compute_metrics(
            segment.inputs, segment.y, outputs, segment.sample_weight
        )
        # One of the user's own is given whole windows.
        if origin.overrides(self.model, "compute_metrics"):
            self.window.told = told

    def logs(self):
        """What a step returns: the metrics, and what the model says of them.

        Of this the method's own metrics are left as they are, which may have
        moved since.
        """
        model = self.model
        own = model.method_state.metrics + model.guard.metrics
        names = {metric.name for metric in own}
        told = self.window.told.items()
        told = {name: value for name, value in told if name not in names}
        return {**model.get_metrics_result(), **told}

    def output_trackers(self):
        """Metrics that are the losses of single outputs, in their order.

        Keras makes them with the first loss.
        """
        metrics = {metric.name: metric for metric in self.model.metrics}
        names = ["/".join(map(str, path)) for path in paths_of(self.model)]
        found = [metrics.get(f"{name}_loss") for name in names]
        return [tracker for tracker in found if tracker is not None]

    def keep_output_losses(self):
        """A function that puts the losses of single outputs back."""

        def variables():
            return [v for t in self.output_trackers() for v in t.variables]

        before = readings.of(variables())

        def restore():
            found = variables()
            readings.put_back(found, before or nested.zeros_like(found))

        return restore

    def output_losses(self, compute):
        """The losses of single outputs that `compute`, a loss, enters."""
        restore = self.keep_output_losses()
        for tracker in self.output_trackers():
            tracker.reset_state()
        compute()
        values = [tracker.result() for tracker in self.output_trackers()]
        restore()
        return values

    def record_output_losses(self, values):
        """Enters the loss of each output, weighted as Keras does."""
        rows = self.window.batch_size
        rows = rows if isinstance(rows, int) else None
        for tracker, value in zip(self.output_trackers(), values, strict=False):
            tracker.update_state(value, sample_weight=rows)
