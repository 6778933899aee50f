"""Proof by numbers that a graph may be cut in time.

Every tensor of the graph is computed once for a whole sequence and once for
two segments with the state carried between them. The first that differs names
the layer that mixes time steps, whether we know that layer or not.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.network.passage import Passage

STEPS = 11


def check(graph):
    """Refuses a graph whose layers mix time steps, by layer name.

    Args:
        graph: The `Graph` of the model.

    Raises:
        ValueError: A layer's outputs change when the sequence is cut, or the
            traced graph does not give the outputs of the model it is made from.
    """
    network = graph.original
    inputs = example(graph)
    made = graph.results
    probe = keras.Model(graph.inputs, [tensor for _, tensor in made])

    def run(part, state, model=probe):
        with Passage(state).open() as passage:
            found = model(part, training=False)
        return keras.tree.flatten(found), passage.new_state

    start = graph.initial_state(inputs, 2)
    steps = max(
        t.shape[1]
        for t, has_time in zip(
            keras.tree.flatten(inputs), graph.temporal_inputs, strict=True
        )
        if has_time
    )
    cut = max(1, steps // 2)
    whole, _ = run(inputs, start)
    begin, end = graph.cut(inputs, 0, cut), graph.cut(inputs, cut, steps - cut)
    try:
        first, state = run(begin, start)
        second, _ = run(end, state)
    except Exception:
        # Once more, one result after the other, to find whose fault it is.
        for name, tensor in made:
            try:
                run(begin, start, keras.Model(graph.inputs, tensor))
            except Exception as error:
                raise ValueError(
                    f"Layer {name!r} cannot be cut in time: it fails on a "
                    "part of the sequence. Leave it out of the SequenceModel. "
                    f"The layer's own error: {error}"
                ) from error
        raise
    for (name, tensor), a, b, c in zip(made, whole, first, second, strict=True):
        has_time = id(tensor) in graph.temporal
        joined = tf.concat([b, c], axis=1) if has_time else c
        same = a.shape == joined.shape and not differs(a, joined)
        # One step in, one step out: targets are cut where inputs are.
        if not same or (has_time and a.shape[1] != steps):
            raise ValueError(
                f"Layer {name!r} cannot be cut in time: its output on a whole "
                "sequence differs from that on two segments with the state "
                "carried between them. Leave it out of the SequenceModel."
            )
    outputs = keras.tree.flatten(network(inputs, training=False))
    with Passage(start).open():
        traced = keras.tree.flatten(graph.model(inputs, training=False))
    for name, a, b in zip(network.output_names, outputs, traced, strict=True):
        if differs(a, b):
            raise ValueError(
                f"Output {name!r} of the SequenceModel differs from that of "
                "the network it was made from. Please report this model."
            )


def example(graph):
    """Small random inputs that the original model accepts, with two rows."""
    network = graph.original
    generator = np.random.default_rng(0)

    # Embeddings cast what they get, so their inputs may be floats.
    vocabulary = {}
    for layer, _, args, _, _ in graph.calls:
        if isinstance(layer, keras.layers.Embedding):
            vocabulary[id(args[0])] = layer.input_dim

    def draw(given, has_time):
        shape = [2, *given.shape[1:]]
        if has_time and shape[1] is None:
            shape[1] = STEPS
        shape = [3 if size is None else size for size in shape]
        if id(given) in vocabulary or np.dtype(given.dtype).kind in "iu":
            high = min(3, vocabulary.get(id(given), 3))
            drawn = generator.integers(min(1, high - 1), high, shape)
        else:
            drawn = generator.normal(size=shape)
        return tf.cast(drawn, given.dtype)

    originals = keras.tree.flatten(network.input)
    drawn = []
    for tensor, original, has_time in zip(
        keras.tree.flatten(graph.inputs),
        originals,
        graph.temporal_inputs,
        strict=True,
    ):
        known = tensor if None in original.shape[1:2] else original
        if id(tensor) in vocabulary:
            vocabulary[id(known)] = vocabulary[id(tensor)]
        drawn.append(draw(known, has_time))
    return keras.tree.pack_sequence_as(network.input, drawn)


def differs(first, second):
    """Whether two tensors differ by more than rounding in their dtype."""
    rounding = 1e-4 if first.dtype in (tf.float32, tf.float64) else 0.03
    first = np.asarray(tf.cast(first, "float64"))
    second = np.asarray(tf.cast(second, "float64"))
    scale = max(1e-6, np.abs(first).max(initial=0.0))
    return np.abs(first - second).max(initial=0.0) > rounding * scale
