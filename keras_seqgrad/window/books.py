"""What the segments of a window leave for its line in the logs."""

import keras
import tensorflow as tf


class Books:
    """Loss and metrics of a window that is learnt from in segments.

    With n_s the number of terms in the mean that is the loss l_s of the
    targets of segment s, of T_s of T steps, the loss of the window is

        sum n_s l_s / sum n_s + sum T_s / T * (what is added to l_s)

    or, for a loss that is a sum, the sum of l_s in place of the first term.
    Where books are kept `together` that term is the loss of the outputs of
    all segments side by side.

    Args:
        window: The `Window`.
        together: Whether loss and metrics need all outputs together.
        at_end: What `Window.loss` was given for the segments' losses.
    """

    def __init__(self, window, together, at_end=False):
        self.window, self.together = window, together
        self.at_end = at_end
        self.restore = window.learner.keep_output_losses()

    def start(self):
        """The entries before the first segment."""
        return [tf.zeros((), keras.config.floatx())] * 3

    def enter(self, entries, segment, outputs, loss):
        """The entries after one more segment.

        Args:
            entries: Those before it.
            segment: The segment.
            outputs: What the model made of it.
            loss: The model's loss of it.
        """
        window, of_targets = self.window, loss
        if window.model.losses:
            of_targets = window.target_loss(
                segment, outputs, at_end=self.at_end
            )
        share = tf.cast(segment.length, loss.dtype)
        share /= tf.cast(window.steps, loss.dtype)
        terms, grows = tf.zeros(()), True
        if not self.together:
            window.learner.record_metrics(segment, outputs)
            terms, grows = window.terms(segment, outputs)
        terms = tf.cast(terms, loss.dtype)
        new = [
            terms * tf.reduce_mean(of_targets),
            terms if grows else terms * share,
            share * tf.reduce_mean(loss - of_targets),
        ]
        return [
            entry + tf.stop_gradient(tf.cast(more, entry.dtype))
            for entry, more in zip(entries, new, strict=True)
        ]

    def close(self, entries, outputs=None):
        """Enters the window in the logs.

        Args:
            entries: Those after the last segment.
            outputs: The outputs of the window, where they are `together`.
        """
        window, learner = self.window, self.window.learner
        loss, terms, added = entries
        if self.together:
            # Keras entered the loss of each output once a segment.
            self.restore()
            loss = window.target_loss(window.whole(), outputs)
            learner.record_window(outputs, loss + tf.cast(added, loss.dtype))
            return
        learner.record_loss(tf.math.divide_no_nan(loss, terms) + added)
