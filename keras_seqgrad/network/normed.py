"""A model of which normalizations run on whole windows, for checkpoints.

What norms several steps at once would norm each segment by itself. So it is
left to the head, where no recurrent layer is behind it, or else to the front
with all that is before it; the rest can be cut.
"""

from keras_seqgrad.network import front, norming
from keras_seqgrad.network.refusals import CannotCut
from keras_seqgrad.network.segmented import SegmentedModel


def find(model, what, instead):
    """Finds the model that checkpoints run, for `graph.normed`.

    Args:
        model: The `SegmentedModel`. What other methods run of it stays as it
            is.
        what: Why segments are not what the window is, a sentence.
        instead: What to do.

    Raises:
        ValueError: Not all that norms several steps can run on the window.
    """
    cut = model
    if model.network_uncut is not None:
        cut = model.graph.front.body
    names = _names(cut)
    if not model.is_opaque:
        try:
            model.graph.normed = _view(model, names) if names else None
            return
        except ValueError as error:
            instead += f". On the window as a whole it cannot run: {error}"
    norming.refuse(names, what, instead.removesuffix("."))


def _names(model):
    """Names of the layers that norm several steps at once."""
    return norming.of_steps(model) + norming.of_steps(model, kernels=True)


def _cannot(names):
    """A `CannotCut` for each of these names."""
    text = "Layer {!r} norms all steps."
    return [CannotCut(text.format(name), name) for name in names]


def _view(model, names):
    """The model with what norms left to its head, or before what is cut."""
    found = _cannot(names)
    view = SegmentedModel(model.network, False)
    view.learn_initial_state = model.learn_initial_state
    view.initial_state_weights = model.initial_state_weights
    view.graph.moved = model.graph.moved
    view.graph.masked = model.graph.masked
    _leave(view.graph, [*model.graph.whole.values(), *found])
    while model.network_uncut is not None and view.network_uncut is None:
        view.graph.leave_to_head(model.network_uncut)
    cut = view
    if view.network_uncut is not None:
        front.find(view, {each.layer for each in found})
        cut = view.graph.front.body
        _leave(cut.graph, _cannot(_names(cut)))
        if cut.network_uncut is not None:
            raise cut.network_uncut
    anew = sorted(model.graph.poolings - cut.graph.nodes.keys())
    if anew and getattr(model, "stateful", False):
        raise ValueError(
            f"What {anew} pool behind it is carried from window to window "
            "(stateful=True), which they cannot do there."
        )
    return view


def _leave(graph, found):
    """Leaves layers to the head, until the graph runs on whole windows."""
    for each in found:
        if graph.uncut is None and each.layer not in graph.whole:
            graph.leave_to_head(each)
