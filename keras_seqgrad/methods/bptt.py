"""Back-propagation through time: the exact gradient of a window.

The true boundary gradient crosses every boundary. With checkpoints only the
states at the boundaries are stored; each segment is run again when the
gradient comes back through it.
"""

from typing import Literal

from keras_seqgrad.methods.base import WindowMethod, serializable
from keras_seqgrad.window import checkpoints
from keras_seqgrad.window.behind import pull_normed
from keras_seqgrad.window.pullback import pull_window


@serializable
class BPTT(WindowMethod):
    """Back-propagation through time over the whole window: exact.

    The reference every other method is measured against, and the right choice
    whenever the window fits into memory and one update a window is enough.
    Not the choice for streams whose dependencies are longer than a window (the
    gradient stops at the window's start; see `ARTBP`), nor when many updates a
    window matter more than exact gradients (see `TruncatedBPTT`).

    Rule:

        delta_t = dl_t/ds_t + delta_{t+1} ds_{t+1}/ds_t
        gradient = sum over t of delta_t ds_t/dtheta

    Gradient: exact. Memory: O(time) activations, or with `checkpoint_every=k`
    the states of time / k steps and the activations of k, for about one more
    forward pass. Dropout masks that layers draw once a call are drawn once
    every k steps then. Of losses that layers add themselves (`add_loss`,
    activity regularisers) checkpoints take all of what runs on whole windows,
    of segments L1 and L2 of outputs at every step. Others are refused, because
    how a sum over segments relates to that over the window is the layer's own
    affair.

    Args:
        checkpoint_every: Steps between stored states; "auto" for about the
            square root of the number of steps, a length that divides it if
            one is near; None to store everything.

    Raises:
        ValueError: `checkpoint_every` is neither a positive integer, "auto"
            nor None; on `compile`, it is given and a BatchNormalization that
            norms several steps cannot run on the window as a whole.

    Reference:
        Gruslys et al., 2016. Memory-efficient backpropagation through time.
        arXiv:1606.03401.

    Example:

    >>> ksg.methods.BPTT(checkpoint_every="auto")
    BPTT(checkpoint_every='auto')
    """

    random = False
    takes_head = takes_front = True

    def __init__(
        self, checkpoint_every: int | Literal["auto"] | None = None
    ) -> None:
        self.checkpoint_every = checkpoints.checked(checkpoint_every)

    @property
    def takes_uncut(self):
        return self.checkpoint_every is None

    def check(self, model):
        super().check(model)
        checkpoints.check(model, self.checkpoint_every)

    def pull(self, window, seed=None):
        every = self.checkpoint_every
        if every is None:
            return pull_window(window)
        return pull_normed(
            window, lambda part: checkpoints.pull_checkpointed(part, every)
        )

    def get_config(self):
        return {"checkpoint_every": self.checkpoint_every}
