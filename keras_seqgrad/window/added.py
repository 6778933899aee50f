"""What layers add to the loss while they run, beside the loss of the targets.

An activity regulariser of Keras is a sum over steps, `add_loss` takes any
number. What a window adds is not known from what its segments add; so where
layers add something, the window is run once more for the logs, forward alone.
"""

import weakref

# Whether layers add losses, by the tracker of the loss: one for each `compile`.
_known = weakref.WeakKeyDictionary()


def to_window(window):
    """What is added to the loss of the whole window by the present weights.

    None where layers add nothing while they run: what regularisers of weights
    add is that of any segment.
    """
    if not _is_added(window):
        return None
    with window.draws_put_back():
        window.forward(window.whole(), window.state)
    return window.added_loss()


def exchanged(window, loss, of_window):
    """A loss of the last forward pass, with what the window adds to it.

    Args:
        window: The window.
        loss: The loss.
        of_window: What `to_window` gave.
    """
    if of_window is None:
        return loss
    return loss + (of_window - window.added_loss())


def is_more_than_regularisers(window):
    """Whether layers added losses in the last forward pass."""
    regularised = [v for v in window.variables if v.regularizer is not None]
    return len(window.model.losses) > len(regularised)


def _is_added(window):
    model = window.model
    if not (model.is_opaque or model.graph.may_add_losses):
        return False
    tracker = window.learner.loss_tracker
    if tracker not in _known:
        window.peek(0, window.state)
        _known[tracker] = is_more_than_regularisers(window)
    return _known[tracker]
