"""The traces of a model: which there are, and what they bring back."""

import keras
import tensorflow as tf

from keras_seqgrad.methods.snap import traces
from keras_seqgrad.methods.snap.cells import rule_of, traced_states
from keras_seqgrad.tensors import nested


def specs_of(cell, shape, variables):
    """What `traces.advance` takes for a cell, as `tf.TensorSpec` of a row.

    A weight has a trace if one of the `variables` moves it.

    Args:
        cell: The cell.
        shape: That of a step's inputs, without the batch.
        variables: The variables.
    """
    with tf.GradientTape(persistent=True) as tape:
        rows = weights_of(cell)
    traced = traced_states(cell, shape)
    dtype = "float64" if cell.compute_dtype == "float64" else "float32"

    # Where there are several replicas, they are read on the first.
    strategy = tf.distribute.get_strategy()
    read = [
        strategy.experimental_local_results(variable.value)[0]
        for variable in variables
    ]

    def learns(weight):
        found = tape.gradient(weight, read)
        return any(gradient is not None for gradient in found)

    return [
        [
            {place: tf.TensorSpec(weight.shape, dtype) for place in traced}
            if learns(weight)
            else {}
            for weight in row
        ]
        for row in rows
    ]


def weights_of(cell):
    """The weights of a cell's rule as tensors, by row and summand."""
    return [
        [tf.convert_to_tensor(weight) for _, weight in row]
        for row in rule_of(cell)[0]
    ]


def pull(nodes, carried, d_state, variables):
    """Gradient of the variables that all traces bring back.

    Args:
        nodes: The recurrent nodes by key.
        carried: Their traces before a segment.
        d_state: Gradient of the loss by the state before it.
        variables: The variables.
    """
    weights, gradients = [], []
    with tf.GradientTape() as tape:
        for (key, node), each in zip(nodes.items(), carried, strict=True):
            own, _ = node.split(d_state[key])
            found = traces.pulled(each, own)
            flat = zip(
                keras.tree.flatten(weights_of(node.held[0].cell)),
                [trace for row in each for trace in row],
                [gradient for row in found for gradient in row],
                strict=True,
            )
            for weight, trace, gradient in flat:
                if trace:
                    weights.append(weight)
                    gradients.append(tf.cast(gradient, weight.dtype))
    found = tape.gradient(weights, variables, output_gradients=gradients)
    return nested.fill(found, variables)
