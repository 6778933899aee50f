"""Models that cannot be cut in time, by what is known before they run.

What is not known here is judged by `cuttable.check`, which compares numbers.
"""

import keras

from keras_seqgrad.layers.cells import parts
from keras_seqgrad.network import statistics
from keras_seqgrad.network.nodes import RecurrentNode
from keras_seqgrad.network.refusals import CannotCut
from keras_seqgrad.network.tracing import (
    goes_forward,
    is_graph,
    starts,
    tensors,
)

# Layers known to mix time steps, and what to say about them.
MIXES_TIME = {
    "Bidirectional": "its backward half reads the sequence from the end",
    "MultiHeadAttention": "every step attends to other steps",
    "GroupedQueryAttention": "every step attends to other steps",
    "Attention": "every step attends to other steps",
    "AdditiveAttention": "every step attends to other steps",
    "Flatten": "it joins the steps to one vector",
    "Permute": "it moves the time axis",
    "RepeatVector": "it makes a time axis of a fixed length",
}
# Layers that look at the neighbours along the axes behind the rows. They are
# known before they run: some end Python where there are too few steps.
LOOKS_AROUND = tuple(
    getattr(keras.layers, f"{kind}{axes}D")
    for kind, most in {
        "Conv": 3,
        "DepthwiseConv": 2,
        "SeparableConv": 2,
        "AveragePooling": 3,
        "MaxPooling": 3,
    }.items()
    for axes in range(1, most + 1)
)


def reads_backwards(layer):
    """Whether a layer is recurrent, and reads a sequence from its end."""
    kinds = keras.layers.RNN, keras.layers.Bidirectional
    return isinstance(layer, kinds) and not goes_forward(layer)


def mixes_time(layer):
    """Why `layer` cannot be cut in time, if it is known to mix steps."""
    seen = {id(part) for part in statistics.run_at_once(layer)}
    if any(
        statistics.norms_unfrozen(part) and id(part) not in seen
        for part in parts(layer)
    ):
        return (
            "it runs a BatchNormalization, whose statistics in training are "
            "those of all steps, on parts of them; put that beside it, use "
            "LayerNormalization, or freeze it"
        )
    # With its channels first it looks along other axes than that of time.
    if type(layer) in LOOKS_AROUND and layer.data_format == "channels_last":
        size = getattr(layer, "kernel_size", None) or layer.pool_size
        if size[0] > 1 and layer.padding == "causal":
            return (
                "it looks back at steps before; ksg.layers.CausalConv1D, which "
                "has the weights of Conv1D, carries these to the next segment"
            )
        if size[0] > 1:
            return "it looks at the steps around a step"
    known = MIXES_TIME.get(type(layer).__name__)
    if known is None and reads_backwards(layer):
        return "it reads the sequence from the end"
    return known


def refuse_lengths(graph):
    """Refuses inputs with time that are declared of different lengths."""
    inputs = keras.tree.flatten(graph.original.input)
    pairs = zip(inputs, graph.temporal_inputs, strict=True)
    given = {t.name: t.shape[1] for t, has_time in pairs if has_time}
    if len({steps for steps in given.values() if steps is not None}) > 1:
        raise CannotCut(
            "The inputs of a SequenceModel that have a time axis share "
            f"its steps. Received inputs of these numbers of steps: {given}"
            ". Pad them to one length, behind a Masking layer or with a "
            "mask.",
            next(iter(given)),
        )


def known(graph, but=()):
    """`CannotCut` of layers known to mix steps, or to change their number.

    Args:
        graph: The `Graph`.
        but: Places of calls that are run in another way.
    """
    inputs = keras.tree.flatten(graph.inputs)
    lengths = {t.shape[1:2] for t in inputs if id(t) in graph.temporal}
    for place, (layer, name, args, kwargs, result) in enumerate(graph.calls):
        if isinstance(layer, RecurrentNode) or is_graph(layer) or place in but:
            continue
        layer = statistics.original(layer)
        kind = layer.__class__.__name__
        reason = mixes_time(layer)
        made = [t for t in tensors(result) if id(t) in graph.temporal]
        has_time = reads_backwards(layer) or bool(made)
        has_time |= any(
            id(t) in graph.temporal for t in tensors([args, kwargs])
        )
        behind = [1 - len(tensor.shape) for tensor in made]
        if kind == "Softmax" and made and layer.axis in (1, *behind):
            reason = (
                "it needs all steps at once; a mean by learned shares is two "
                "sums: with share = keras.ops.exp(scores), keras.ops.sum("
                "share * x, axis=1) / keras.ops.sum(share, axis=1)"
            )
        if not reason and any(t.shape[1:2] not in lengths for t in made):
            reason = (
                "its output has not one step for each step given (what is "
                "read at the end of a sequence is given by a recurrent "
                "layer with return_sequences=False, or by "
                "GlobalAveragePooling1D or GlobalMaxPooling1D)"
            )
            if kind == "Reshape":
                any_number = (-1, *layer.target_shape[1:])
                reason = (
                    "it makes a fixed number of steps; "
                    f"Reshape({any_number}) makes any"
                )
        if reason and has_time:
            yield CannotCut(
                f"Layer {name!r} ({kind}) cannot be cut in time: {reason}. "
                "Leave it out of the SequenceModel.",
                name,
            )


def late_tensors(graph):
    """Ids of tensors, without time, that are known at the end of a sequence."""
    late = set()
    for layer, _, args, kwargs, result in graph.calls:
        recurrent = isinstance(layer, RecurrentNode)
        if recurrent or depends_on(args, kwargs, late | graph.temporal):
            late.update(id(t) for t in tensors(result))
    return late


def depends_on(args, kwargs, known):
    """Whether a call is given a tensor of these ids."""
    return any(id(t) in known for t in tensors([args, kwargs]))


def refuse_late_start(graph):
    """Refuses to start from what is known at the end of a sequence."""
    known = late_tensors(graph) | graph.temporal
    for layer, name, args, kwargs, _ in graph.calls:
        recurrent = isinstance(layer, RecurrentNode)
        if recurrent and starts_in(args, kwargs, known):
            raise CannotCut(
                f"Layer {name!r} cannot be cut in time: its initial_state "
                "depends on a whole sequence, as that of a decoder does.",
                name,
            )


def starts_in(args, kwargs, known):
    """Whether a recurrent layer starts from tensors of these ids."""
    return any(id(t) in known for t in starts(args, kwargs))
