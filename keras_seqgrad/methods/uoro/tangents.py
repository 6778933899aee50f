"""How a change of the state before a segment moves the state after it.

One pass forward, beside the one that is pulled back. The change is one number,
how far the state goes along its tangents; what runs recurrent layers steps
through state and tangents at once, and TensorFlow's forward accumulator takes
all other layers.
"""

import dataclasses

import tensorflow as tf

from keras_seqgrad.layers import cells
from keras_seqgrad.layers.scan import state_is_output
from keras_seqgrad.ops.rnn import rnn
from keras_seqgrad.state.vector import differentiable
from keras_seqgrad.tensors import nested


def pushed(run, tangents):
    """The tangents of the leaves of the state after a segment.

    Args:
        run: The segment's `Run`; what its layers drew is drawn once more.
        tangents: Those of the leaves of the state before it.
    """
    way = tf.zeros(())
    with tf.autodiff.ForwardAccumulator(way, tf.ones(())) as accumulator:
        moving = dataclasses.replace(run, state=moved(run.state, tangents, way))
        try:
            end = moving.again(Pushing(accumulator, way))
        except (LookupError, TypeError) as error:
            # The same layers have run before, without tangents.
            raise ValueError(
                "UORO takes tangents through what layers compute, and "
                "TensorFlow has none of an operation that one of these uses. "
                "Known to have none are softsign (write x / (1 + abs(x))) and "
                "tf.ensure_shape to a shape with unknown sizes (leave it out). "
                "Or use ksg.methods.RTRL. TensorFlow's own error is above."
            ) from error
        return [jvp(accumulator, leaf) for leaf in differentiable(end)]


def moved(structure, tangents, way):
    """Nested tensors, the floating ones moved along their tangents."""
    tangents = iter(tangents)

    def move(tensor):
        if not tensor.dtype.is_floating:
            return tensor
        return tensor + tf.cast(way, tensor.dtype) * next(tangents)

    made = [move(tensor) for tensor in nested.leaves(structure)]
    return nested.packed(structure, made)


def jvp(accumulator, tensor):
    """The tangent of a tensor."""
    return accumulator.jvp(
        tensor, unconnected_gradients=tf.UnconnectedGradients.ZERO
    )


def pair(accumulator, structure):
    """(structure, tangents of its floating leaves), as constants."""
    if structure is None:
        return None
    leaves = differentiable(structure)
    found = structure, [jvp(accumulator, leaf) for leaf in leaves]
    # The accumulator is not to follow what is made of them.
    return tf.nest.map_structure(tf.stop_gradient, found)


class Pushing:
    """A scan that takes tangents along, for the layers of one pass.

    Args:
        accumulator: The forward accumulator of the pass.
        way: What it watches.
    """

    def __init__(self, accumulator, way):
        self.accumulator, self.way = accumulator, way

    def __call__(
        self, cell, sequences, state, *, training, mask, reset, reset_state,
        previous_output, **options,
    ):  # fmt: skip
        """`keras_seqgrad.layers.scan.scan`, without a gradient."""
        state, reset_output = list(state), None
        if reset is not None and reset_state is None:
            reset_state = tf.nest.map_structure(tf.zeros_like, state)
        if state_is_output(cell):
            previous_output = state[0]
            reset_output = None if reset is None else reset_state[0]

        def step(inputs, state):
            (x, d_x), (s, d_s) = inputs, state
            with tf.autodiff.ForwardAccumulator(
                [*differentiable(x), *differentiable(s)], [*d_x, *d_s]
            ) as accumulator:
                output, new = cell(x, s, training=training)
                return pair(accumulator, output), pair(accumulator, list(new))

        def around(inputs, state):
            return cells.prepared_masks(cell, inputs[0], state[0], training)

        sequences = cast(sequences, cell.compute_dtype)
        given = [sequences, state, reset_state, previous_output, reset_output]
        given = [pair(self.accumulator, each) for each in given]
        outputs, last = rnn(
            step,
            *given[:2],
            mask=mask,
            reset=reset,
            reset_state=given[2],
            previous_output=given[3],
            reset_output=given[4],
            random_state=cells.changing_variables(cell),
            around=around,
        )
        return tuple(moved(*each, self.way) for each in (outputs, last))


def cast(structure, dtype):
    """Floating tensors in a dtype, all others as they are."""
    return tf.nest.map_structure(
        lambda t: tf.cast(t, dtype) if t.dtype.is_floating else t, structure
    )
