"""Where a model norms by what runs through it, and what that refuses.

What such a layer makes of a row depends on other rows and steps.
"""

import keras

from keras_seqgrad.layers.cells import parts
from keras_seqgrad.network import statistics
from keras_seqgrad.network.nodes import RecurrentNode
from keras_seqgrad.network.statistics import norms_unfrozen
from keras_seqgrad.network.tracing import is_graph, tensors
from keras_seqgrad.network.uncuttable import late_tensors


def everywhere(model):
    """Names of layers that norm by what they are given in training.

    Args:
        model: The `SegmentedModel`. Of a subclass with a `call_segment` of its
            own all that norm are found, wherever they are.
    """
    if model.is_opaque:
        return _inside(model, norms_unfrozen)
    return [name for _, name, _ in _norming(model.graph)]


def _inside(model, norms):
    """Names of such layers of a subclass with its own `call_segment`."""
    found = [part for layer in model.layers for part in parts(layer)]
    return [*{part.name for part in found if norms(part)}]


def _norming(graph, norms=norms_unfrozen):
    """(layer, name, what it makes) of the calls of such layers."""
    if not graph.keepers:  # asked with every segment, mostly for nothing
        return []
    return [
        (layer, name, {id(tensor) for tensor in tensors(result)})
        for layer, name, _, _, result in graph.calls
        if isinstance(layer, keras.layers.Layer)
        and not is_graph(layer)
        and any(map(norms, parts(statistics.original(layer))))
    ]


def _at_once(graph, made_of, norms=norms_unfrozen):
    """Names of those that make one of some tensors; no cell does at once."""
    return [
        name
        for layer, name, made in _norming(graph, norms)
        if made & made_of and not isinstance(layer, RecurrentNode)
    ]


def of_steps(model, kernels=False):
    """Those of `everywhere` that norm several steps at once.

    Args:
        model: The `SegmentedModel`.
        kernels: Whether to name those instead that norm their own kernel anew
            whenever they run, as `SpectralNormalization`.
    """
    norms = statistics.norms_kernel if kernels else norms_unfrozen
    if model.is_opaque:
        return _inside(model, norms)
    return _at_once(model.graph, model.graph.temporal, norms)


def below_states(model):
    """Those of `everywhere` on which a recurrent layer's state depends."""
    if model.is_opaque:
        return everywhere(model)
    below = set()
    for layer, _, args, kwargs, result in reversed(model.graph.calls):
        met = any(id(tensor) in below for tensor in tensors(result))
        if met or isinstance(layer, RecurrentNode):
            below.update(id(tensor) for tensor in tensors([args, kwargs]))
    return [
        name
        for layer, name, made in _norming(model.graph)
        if made & below or isinstance(layer, RecurrentNode)
    ]


def at_ends(model):
    """Those of `everywhere` that norm what is known at a sequence's end."""
    if model.is_opaque or not model.graph.keepers:
        return []
    graph = model.graph
    return _at_once(graph, late_tensors(graph) - graph.temporal)


def refuse(names, what, instead):
    """Refuses layers that norm by what they are given in training.

    Args:
        names: Their names; nothing is refused if there are none.
        what: What does not go together with them, a sentence.
        instead: What to do.

    Raises:
        ValueError: There are some.
    """
    if names:
        raise ValueError(
            f"{what} Expected no normalization there but LayerNormalization, "
            f"which norms each step by itself, or a frozen one "
            f"(trainable=False), received {names}. {instead}."
        )


def refuse_beside_mask(model):
    """Refuses layers of the user's own that norm steps, with a mask beside."""
    told = {
        name
        for layer, name, *_ in model.graph.calls
        if isinstance(layer, statistics.NormalizationNode)
    }
    refuse(
        [name for name in of_steps(model) if name not in told],
        "A layer of your own is not told of the mask beside the inputs, and "
        "would norm by the steps that it leaves out, too.",
        "Put BatchNormalization beside your layer, or make the mask by Masking",
    )
