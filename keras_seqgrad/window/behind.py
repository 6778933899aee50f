"""A window behind the front of a model: what of it can be cut."""

import keras
import tensorflow as tf

from keras_seqgrad.network.segmented import SegmentedModel
from keras_seqgrad.tensors import nested, replicas
from keras_seqgrad.window import targets
from keras_seqgrad.window.window import Window

# What of a model runs segments; all else is of the whole, and of its losses.
RUNS = {
    name
    for kind in (SegmentedModel, *SegmentedModel.__bases__)
    for name in vars(kind)
} - {"losses", "losses_apart", "targets_alone"}


class Behind:
    """A model that is run by the body of another, and judged as that is.

    Args:
        model: The `SequenceModel`.
        body: The `SegmentedModel` of what is behind its front.
        inputs: Inputs of the model, for a `compute_loss` of the user's own.
    """

    def __init__(self, model, body, inputs=None):
        self.model, self.body, self.inputs = model, body, inputs

    def __getattr__(self, name):
        return getattr(self.body if name in RUNS else self.model, name)

    @property
    def trainable_variables(self):
        """Those of the model, the front's among them."""
        return self.model.trainable_variables

    def compute_loss(self, x, **given):
        """The loss of the model, of its own inputs."""
        return self.model.compute_loss(x=self.inputs, **given)


def pull_normed(window, pull):
    """`pull_behind` of what runs normalizations on the whole window.

    Out of training nothing norms by what it is given.
    """
    view = window.model.network_normed
    if view is None or not window.training:
        return pull_behind(window, pull)
    instead = "Set checkpoint_every=None"
    if window.reset is not None:
        view.refuse_whole("Resets do not reach what norms all steps.", instead)
    if window.mask is not None:
        view.refuse_whole(
            "A mask beside the inputs does not reach what norms all steps "
            "below recurrent layers.",
            f"Make it by Masking. {instead}",
            with_head=False,
        )
    nodes, state = view.graph.nodes, window.state
    inner = _opened(
        window,
        Behind(window.model, view, window.inputs),
        (window.x, window.y, window.sample_weight),
        # Poolings that run on the whole window begin anew with each.
        {key: state[key] for key in nodes if key in state},
    )
    loss, gradients, outputs, after = pull_behind(inner, pull)
    # A head of the model has no need to run once more.
    window.outputs = inner.judged(inner.whole(), outputs)
    return loss, gradients, window.outputs, {**state, **after}


def pull_behind(window, pull):
    """`pull` of what is behind the front of a model, and through the front.

        gradient = dL/dtheta, the front's results given
                   + (dL/d results) d results/dtheta
                   + d added/dtheta

    where L is the loss without what layers of the front add themselves.

    Args:
        window: The window. That of a model that can be cut is pulled as it is.
        pull: Function (window) -> (loss, gradients, outputs, state).

    Returns:
        What `pull` returns, of the whole.
    """
    model = window.model
    if model.network_uncut is None:
        return pull(window)
    front = model.graph.front
    with tf.GradientTape() as tape:
        given, sources, before, added = front.run(window)
        more = [tf.reduce_sum(each) / replicas.count() for each in added]
        scaled = [*map(window.scale, more)]
    inner = _window(window, front, given, sources)
    with model.losses_apart(added):
        loss, gradients, outputs, after = pull(inner)
        outputs = inner.judged(inner.whole(), outputs)
    count = len(window.variables)
    pulled = tape.gradient(
        [*sources, *scaled],
        window.variables,
        output_gradients=[*gradients[count:], *map(tf.ones_like, scaled)],
    )
    pulled = nested.fill(pulled, window.variables)
    loss += sum(tf.cast(each, loss.dtype) for each in more)
    ended = {**window.state, **before, **after}
    state = {key: ended[key] for key in window.state}
    return loss, nested.add(gradients[:count], pulled), outputs, state


def _window(window, front, given, sources):
    """The `Window` of what a front has made."""
    model = Behind(window.model, front.body, window.inputs)
    inputs = keras.tree.pack_sequence_as(front.body.graph.inputs, given)
    batch_size, _ = model.extent(inputs)
    start = model.start_state(inputs, batch_size)
    state = {key: window.state.get(key, each) for key, each in start.items()}
    weights = targets.spread(window.sample_weight, model)
    return _opened(window, model, (inputs, window.y, weights), state, sources)


def _opened(window, model, data, state, given=()):
    """A `Window` of another model, run as a window is."""
    return Window(
        model,
        data,
        state,
        window.fresh,
        window.training,
        window.scaled,
        window.kernels,
        given,
    )
