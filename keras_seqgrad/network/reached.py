"""What a loss on some of the outputs depends on."""

import keras

from keras_seqgrad.layers.cells import parts
from keras_seqgrad.network.nodes import Node
from keras_seqgrad.network.tracing import is_graph, is_own, tensors


def not_reached(graph, judged):
    """Ids of the trainable variables that no loss depends on.

    Those that nothing but outputs without a loss is made of. A weight with a
    regulariser has a loss of its own, and what runs before a layer that may
    add losses is in them.

    Args:
        graph: The `Graph`.
        judged: For each flattened output, whether it has a loss.
    """
    made, head = graph.outputs, graph.head
    calls = [
        (None if is_graph(layer) else layer, args, kwargs, result)
        for layer, _, args, kwargs, result in graph.calls
    ]
    if head is not None:
        made = head.outputs
        given = zip(tensors(graph.outputs), head.given, strict=True)
        calls += [(None, [a], {}, b) for a, b in given] + head.calls
    pairs = zip(keras.tree.flatten(made), judged, strict=True)
    alive = {id(tensor) for tensor, has_loss in pairs if has_loss}
    found, left = set(), set()
    for layer, args, kwargs, result in reversed(calls):
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
        if counts:
            alive.update(id(tensor) for tensor in tensors([args, kwargs]))
        for variable in variables:
            reached = counts or variable.regularizer is not None
            (found if reached else left).add(id(variable))
    return left - found
