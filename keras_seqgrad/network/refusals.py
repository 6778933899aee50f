"""What a trial of a graph refuses by what it has seen of its layers."""

import keras

from keras_seqgrad.layers.scan import state_is_output
from keras_seqgrad.network.tracing import is_graph, tensors


class CannotCut(ValueError):
    """What a layer says against being cut in time.

    Attributes:
        layer: Its name in the model; of what is inside of a nested model, the
            name of that.
    """

    def __init__(self, text, name):
        super().__init__(text)
        self.layer = name.split("/")[0]


def each_result(graph):
    """(call, name of its layer, tensor) of every tensor that a layer gives."""
    for call in graph.calls:
        if not is_graph(call[0]):
            for tensor in tensors(call[-1]):
                yield call, call[1], tensor


def steps_of(graph, inputs):
    """Number of steps of the inputs that have time."""
    return next(
        tensor.shape[1]
        for tensor, has_time in zip(
            keras.tree.flatten(inputs), graph.temporal_inputs, strict=True
        )
        if has_time
    )


def refuse_other_shapes(graph, values, whole=None):
    """Refuses a layer that made another number of steps than it was given.

    Or steps of other sizes than of a whole sequence.

    Args:
        graph: The `Graph`.
        values: Values of its first tensors, by their ids.
        whole: The same of a whole sequence, or None.
    """
    inputs = keras.tree.flatten(graph.inputs)
    steps = steps_of(graph, [values[id(tensor)] for tensor in inputs])
    for call, name, tensor in each_result(graph):
        made = values.get(id(tensor))
        if made is None or id(tensor) not in graph.temporal:
            continue
        if made.shape[1:2] not in ((steps,), (1,)):
            raise CannotCut(
                f"Layer {name!r} ({type(call[0]).__name__}) cannot be cut in "
                f"time: of {steps} steps it makes {tuple(made.shape)}, which "
                "has not one step for each step given. Leave it out of the "
                "SequenceModel.",
                name,
            )
        if whole is not None and made.shape[2:] != whole[id(tensor)].shape[2:]:
            raise CannotCut(
                f"Layer {name!r} ({type(call[0]).__name__}) cannot be cut in "
                f"time: of {steps} steps it makes {tuple(made.shape)}, of "
                f"others {tuple(whole[id(tensor)].shape)}. Leave it out of the "
                "SequenceModel.",
                name,
            )


def refuse_losses_of_cells(graph):
    """Refuses cells that add losses, which a scan cannot hand out."""
    for name, node in graph.nodes.items():
        cell = node.held[0].cell
        if state_is_output(cell):
            continue
        regularised = [
            v for v in cell.trainable_variables if v.regularizer is not None
        ]
        if len(cell.losses) > len(regularised):
            raise ValueError(
                f"The cell of layer {name!r} adds losses at each step, which "
                "do not reach the gradient. Give what they need as an output "
                "and add them in a layer behind."
            )
