"""What a loss on some of the outputs depends on."""

import keras

from keras_seqgrad.layers.cells import parts
from keras_seqgrad.network.nodes import Node
from keras_seqgrad.network.tracing import is_graph, is_own, tensors


def not_reached(graph, judged):
    """Ids of the trainable variables that no loss depends on.

    Those that nothing but outputs without a loss is made of, or what
    `keras.ops.stop_gradient` lets nothing back through. A weight with a
    regulariser has a loss of its own, and what runs before a layer that may
    add losses is in them.

    Args:
        graph: The `Graph`.
        judged: For each flattened output, whether it has a loss.
    """
    calls = _calls(graph)
    if all(judged) and not any(map(_stops, calls)):
        return set()
    made = graph.outputs if graph.head is None else graph.head.outputs
    pairs = zip(keras.tree.flatten(made), judged, strict=True)
    alive = {id(tensor) for tensor, has_loss in pairs if has_loss}
    found, left = set(), set()
    for call in reversed(calls):
        layer, args, kwargs, result = call
        counts = any(id(tensor) in alive for tensor in tensors(result))
        variables = []
        if isinstance(layer, keras.layers.Layer):
            if isinstance(layer, Node):
                layer = layer.original
            counts |= any(
                is_own(part) or part.activity_regularizer is not None
                for part in parts(layer)
            )
            variables = layer.trainable_variables
        if counts and not _stops(call):
            alive.update(id(tensor) for tensor in tensors([args, kwargs]))
        for variable in variables:
            reached = counts or variable.regularizer is not None
            (found if reached else left).add(id(variable))
    return left - found


def _calls(graph):
    """(layer, args, kwargs, result) of all calls, those of a head behind."""
    head = graph.head
    calls = [
        (None if is_graph(layer) else layer, args, kwargs, result)
        for layer, _, args, kwargs, result in graph.calls
    ]
    if head is not None:
        given = zip(tensors(graph.outputs), head.given, strict=True)
        calls += [(None, [a], {}, b) for a, b in given] + head.calls
    return calls


def _stops(call):
    """Whether no gradient goes back through a call."""
    return type(call[0]).__name__ == "StopGradient"
