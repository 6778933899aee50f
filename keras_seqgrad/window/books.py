"""What the segments of a window leave for its line in the logs."""

import keras
import tensorflow as tf

from keras_seqgrad.window import added, adding


class Books:
    """Loss and metrics of a window that is learnt from in segments.

    With n_s the number of terms in the mean that is an output's loss l_s of
    the targets of segment s, of T_s of T steps, the loss of the window is

        sum over outputs of  weight * sum n_s l_s / sum n_s
        + sum T_s / T * (what is added to l_s)

    or, for a loss that is a sum, the sum of l_s in place of the mean. Where
    layers add to it as they run, the second sum is that of `added`. A metric
    is entered segment by segment, those variables that are means over steps
    times T_s / T. Where either is not so (see `adding`), books are kept
    `together`: from the outputs of all segments side by side.

    Args:
        window: The `Window`.
        at_end: What `Window.loss` was given for the segments' losses.
    """

    def __init__(self, window, at_end=False):
        self.window, self.at_end = window, at_end
        self.means = adding.means_over_steps(window)
        self.together = self.means is None
        self.added = added.to_window(window)
        self.restore = window.learner.keep_output_losses()

    def start(self):
        """The entries before the first segment.

        One vector: every single number that a loop hands on costs a launch.
        """
        count = 0 if self.together else len(adding.trained(self.window.model))
        return tf.zeros((2 * count + 1,), keras.config.floatx())

    def enter(self, entries, segment, outputs, loss):
        """The entries after one more segment.

        Args:
            entries: Those before it.
            segment: The segment.
            outputs: What the model made of it.
            loss: The model's loss of it.
        """
        window, of_targets = self.window, loss
        window.learner.judge(loss, outputs)
        share = tf.cast(segment.length, loss.dtype)
        share /= tf.cast(window.steps, loss.dtype)
        more = tf.zeros((), loss.dtype)
        if window.model.losses:
            of_targets = window.target_loss(
                segment, outputs, at_end=self.at_end
            )
            more = share * tf.reduce_mean(loss - of_targets)
        sums = []
        if not self.together:
            adding.enter_metrics(window, segment, outputs, self.means, share)
            sums = adding.sums_of_losses(
                window, segment, outputs, share, of_targets
            )
        new = [tf.cast(each, entries.dtype) for pair in sums for each in pair]
        new = tf.stack([*new, tf.cast(more, entries.dtype)])
        return entries + tf.stop_gradient(new)

    def close(self, entries, outputs=None):
        """Enters the window in the logs.

        Args:
            entries: Those after the last segment.
            outputs: The outputs of the window, where they are `together`.
        """
        window, learner = self.window, self.window.learner
        *sums, more = tf.unstack(entries)
        more = more if self.added is None else self.added
        # Keras entered the loss of each output once a segment.
        self.restore()
        if self.together:
            loss = window.target_loss(window.whole(), outputs)
            learner.record_window(outputs, loss + tf.cast(more, loss.dtype))
            return
        pairs = list(zip(sums[::2], sums[1::2], strict=True))
        loss, of_outputs = adding.total(window.model, pairs)
        learner.record_output_losses(of_outputs)
        learner.record_loss(loss + more)
