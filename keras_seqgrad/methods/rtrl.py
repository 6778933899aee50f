"""Real-time recurrent learning: the whole influence, carried forward."""

import tensorflow as tf

from keras_seqgrad.methods.base import serializable
from keras_seqgrad.methods.online import Kept, OnlineMethod
from keras_seqgrad.methods.vectors import (
    as_variables,
    as_vectors,
    dtype_of,
    flat,
    refuse_joined_rows,
    refuse_unbuilt,
    sizes_of,
)
from keras_seqgrad.state.vector import join, split
from keras_seqgrad.tensors import arguments, pieces
from keras_seqgrad.tensors.shape import shape_of


@serializable
class RTRL(OnlineMethod):
    """Real-time recurrent learning: exact over all borders, and dear.

    Carries the derivative of the whole state by all parameters forward, for
    every row, where BPTT sends a gradient back. So there is an update every
    `length` steps, and the gradient reaches back to the start of the sequence
    however long it is. Use it for small models, as the measure of `SnAp` and
    others, and where few parameters move the state. Not for anything large.

    Rule, with s_0 and s_1 the state before and after a segment, d the gradient
    of its loss by s_0:

        gradient = dl/dtheta + sum over rows of d . J
        J = ds_1/ds_0 J + ds_1/dtheta

    theta are all trainable parameters, of all layers, and a learned initial
    state; s is the state of all layers. With stateful=True J is carried from
    window to window; it is 0 for rows that begin or are reset. Without it J is
    0 at every window's start. With one target per sequence there is one
    update, at the end, as for `TruncatedBPTT`.

    Gradient: exact for parameters that stand still; those that move leave J
    behind as they leave the state. Memory: units x parameters numbers for
    each row. Time: rows x units passes forward and back for each segment.

    Args:
        length: Steps of a segment; the last one of a window may be shorter.
        budget: Most numbers for each row, units x parameters.

    Raises:
        ValueError: `length` or `budget` is not a positive integer; on
            `compile`, a model has more units x parameters than `budget`,
            weights that are not built yet, or a BatchNormalization below a
            recurrent layer.

    Reference:
        Williams and Zipser, 1989. A learning algorithm for continually running
        fully recurrent neural networks.

    Example:

    >>> ksg.methods.RTRL(length=1)
    RTRL(length=1)
    """

    random = False

    def __init__(self, length: int, budget: int = 1_000_000) -> None:
        self.length = arguments.positive_integer(length, "length")
        self.budget = arguments.positive_integer(budget, "budget")

    def check(self, model):
        super().check(model)
        refuse_unbuilt(model, type(self).__name__)
        refuse_joined_rows(model, type(self).__name__)
        units, size = sizes_of(model)
        if units * size > self.budget:
            raise ValueError(
                "RTRL carries units x parameters numbers for each row. "
                f"Expected at most budget={self.budget}, received a model "
                f"with {units} units and {size} parameters, that is "
                f"{units * size}. Use ksg.methods.SnAp or TruncatedBPTT, or "
                "give a larger budget."
            )

    def build(self, model):
        spec = tf.TensorSpec(sizes_of(model), dtype_of(model))
        model.method_state.parts["influence"] = Kept(spec, model.stateful)

    def bring(self, window, influence, d_state):
        d = as_vectors(d_state, influence.dtype)
        found = tf.einsum("bn,bnp->p", d, influence)
        return as_variables(found, window.variables)

    def advance(self, run, influence):
        rows, units, size = shape_of(influence)
        dtype = influence.dtype

        def back(index, array):
            one = tf.one_hot(index, rows * units, dtype=dtype)
            one = tf.reshape(one, [rows, units])
            d_leaves, d_variables = run.pull(split(one, run.ends))
            row = index // units
            d = join(d_leaves, dtype)[row]
            new = tf.linalg.matvec(influence[row], d, transpose_a=True)
            return array.write(index, new + flat(d_variables, dtype))

        array = tf.TensorArray(
            dtype, rows * units, element_shape=influence.shape[2:]
        )
        array = pieces.repeat(rows * units, back, array, alone=True)
        new = tf.reshape(array.stack(), [rows, units, size])
        return tf.ensure_shape(new, influence.shape)

    def get_config(self):
        return {"length": self.length, "budget": self.budget}
