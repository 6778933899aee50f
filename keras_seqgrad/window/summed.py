"""A window's loss, pulled back by segments, with the sums that layers add.

What a window adds is not known from what its segments add, but for activity
regularisers that are sums over steps: of these a method sees in every segment
just what the segment adds to the window. All else is refused.
"""

import keras
import tensorflow as tf

from keras_seqgrad.window import added
from keras_seqgrad.window.pullback import pull_loss


class Summed:
    """What layers add to the loss of a window that is run in segments.

    Attributes:
        window: The window.
        adds: Whether layers add anything while they run.
    """

    def __init__(self, window):
        self.window, self.adds = window, added.is_added(window)

    def start(self):
        """What `forward` hands on, before the first segment."""
        nothing = [tf.zeros((), keras.config.floatx())] if self.adds else []
        return self.window.state, nothing

    def forward(self, segment, carry):
        """(outputs of a segment, (state, sums) after it).

        Raises:
            ValueError: Layers add what is no sum over steps.
        """
        state, sums = carry
        outputs, state = self.window.forward(segment, state)
        if self.adds and not added.is_sum_over_steps(self.window):
            added.refuse_more(self.window)
        sums = [each + added.by_layers(self.window) for each in sums]
        return outputs, (state, sums)

    def pull_loss(self, outputs, carry):
        """`pullback.pull_loss` of the window, after its last segment."""

        def beside(segment, outputs):
            loss = self.window.target_loss(segment, outputs)
            for more in (added.by_weights, added.by_head):
                loss += tf.cast(more(self.window), loss.dtype)
            return loss

        loss, d_outputs, gradients = pull_loss(
            self.window, outputs, beside if self.adds else None
        )
        _, sums = carry
        loss += sum(tf.cast(each, loss.dtype) for each in sums)
        return loss, d_outputs, gradients

    def of_segment(self):
        """What the last forward pass added, to differentiate: one or none."""
        window = self.window
        return [window.scale(added.by_layers(window))] if self.adds else []
