"""Which tensors of a graph have a time axis."""

from keras_seqgrad.network import spread
from keras_seqgrad.network.nodes import PoolingNode, RecurrentNode
from keras_seqgrad.network.tracing import starts, tensors


def temporal_tensors(calls):
    """Ids of the tensors of a graph that have one, by unification.

    Args:
        calls: (layer, name, args, kwargs, result) of every call of a layer.
    """
    temporal, static = set(), set()
    for layer, _, args, kwargs, result in calls:
        if isinstance(layer, PoolingNode):
            static.update(id(t) for t in tensors(result))
        elif isinstance(layer, RecurrentNode):
            first, *state = tensors(result)
            temporal.add(id(tensors(args[0])[0]))
            sequences = layer.held[0].return_sequences
            (temporal if sequences else static).add(id(first))
            static.update(id(t) for t in [*state, *starts(args, kwargs)])
    before = None
    while len(temporal) != before:
        before = len(temporal)
        for layer, _, args, kwargs, result in calls:
            if isinstance(layer, RecurrentNode):
                continue
            given, made = tensors([args, kwargs]), tensors(result)
            if any(id(t) in temporal for t in given):
                temporal.update(id(t) for t in made)
            if spread.is_repeated(layer, args):
                continue
            # A size of its own, as 1, is broadcast over time.
            sizes = [t.shape[1:2] for t in made if id(t) in temporal]
            temporal.update(
                id(t)
                for t in given
                if t.shape[1:2] in sizes and id(t) not in static
            )
    return temporal
