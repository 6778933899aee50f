"""Which tensors of a graph have a time axis."""

import keras

from keras_seqgrad.network import spread
from keras_seqgrad.network.nodes import PoolingNode, RecurrentNode
from keras_seqgrad.network.replay import enter, filled
from keras_seqgrad.network.tracing import starts, tensors

# Steps to ask about where a model takes any number: enough for wide kernels.
LENGTH = 398


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
            mask = tensors([kwargs.get("mask")])
            temporal.update(id(t) for t in [tensors(args[0])[0], *mask])
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


def below_recurrent(calls):
    """Ids of the tensors of which recurrent layers' sequences are made."""
    below = set()
    for layer, _, args, kwargs, result in reversed(calls):
        if isinstance(layer, RecurrentNode):
            below.update(id(t) for t in tensors(args[0]))
        elif any(id(t) in below for t in tensors(result)):
            below.update(id(t) for t in tensors([args, kwargs]))
    return below


def keep_steps(calls, temporal, tensors_made):
    """Whether each of some tensors has a step for each step of the inputs.

    Every call is asked for what it makes of sequences of two lengths. What
    fails on one that it was not made for makes what it makes of its own.

    Args:
        calls: (layer, args, kwargs, result) of every call, in an order that
            runs.
        temporal: Keras tensors with a time axis that they begin with.
        tensors_made: The tensors asked about.
    """
    known = [t.shape[1] for t in temporal if t.shape[1] is not None]
    steps = known[0] if known else LENGTH
    made = [_of_length(calls, temporal, n) for n in (steps, steps + 1)]
    return [
        all(
            each.get(id(tensor), tensor).shape[1:2] == (n,)
            for each, n in zip(made, (steps, steps + 1), strict=True)
        )
        for tensor in tensors_made
    ]


def _of_length(calls, temporal, steps):
    """Specifications of what calls make of `steps` steps, by tensor id."""

    def of_these(tensor):
        shape = (tensor.shape[0], steps, *tensor.shape[2:])
        return keras.KerasTensor(shape, tensor.dtype)

    values = {id(tensor): of_these(tensor) for tensor in temporal}
    for layer, args, kwargs, result in calls:
        if not any(id(t) in values for t in tensors([args, kwargs])):
            continue
        args, kwargs = filled((args, kwargs), values)
        try:
            specs = layer.compute_output_spec(*args, **kwargs)
        # A layer may fail in any way on a length that it was not made for.
        except Exception:
            continue
        enter(values, result, specs)
    return values
