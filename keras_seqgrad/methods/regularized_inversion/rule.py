"""The recursion of displacements, put in place of that of gradients.

For one recurrent layer, δ_t the influence of h_t on the loss as the layer hands
it back:

    δ_t = dL/dh_t + J_t+1(δ_{t+1})        displacement of h_t: −rate·δ_t

J is the rule of the cell, where back-propagation has the transposed Jacobian.
What stands in `dL/dh_t` comes from above by the ordinary derivative, that of an
upper recurrent layer being the derivative of its local losses.

The layer runs as it always does. Its outputs then pass a function that changes
nothing forward and turns dL/dh into δ backward, and the scan's own links are
gated:

    local       0: δ_t reaches the weights through step t alone, which is the
                gradient of Σ ½‖h_t − v_t‖² with h_{t-1} held fixed
    not local   1: the same losses, differentiated through time

The link to the state that a sequence starts from is always open: that state is
a parameter of the first step taken.
"""

import dataclasses

import tensorflow as tf

from keras_seqgrad.layers.scan import scan
from keras_seqgrad.methods.regularized_inversion.inverse import Steps
from keras_seqgrad.ops import common, loops
from keras_seqgrad.ops.arguments import make_links
from keras_seqgrad.tensors.shape import shape_of


@dataclasses.dataclass
class Inversion:
    """What runs the cells of a model whose displacements are inverted.

    Attributes:
        rule: Function of `Steps` and `rate`: (series, back), see
            `simple_rnn.linearized`.
        rate: Displacement of a row's state for a gradient of 1 by it.
        local: Whether the links of the scan are cut.
        growth: Most by which a step back lengthens what it takes back, or None.
        visited: `Steps` of every layer run, filled by `scan`.
    """

    rule: object
    rate: tf.Tensor
    local: bool
    growth: float | None = None
    visited: list = dataclasses.field(default_factory=list)

    def scan(
        self, cell, sequences, state, *, mask, reset, reset_state, **options
    ):
        """`keras_seqgrad.layers.scan.scan` with displacements backward."""
        mask, reset = (
            None if flags is None else tf.cast(flags, "bool")
            for flags in (mask, reset)
        )
        if self.local:
            options["gates"] = local_links(sequences, mask, reset)
        outputs, _ = scan(
            cell,
            sequences,
            state,
            mask=mask,
            reset=reset,
            reset_state=reset_state,
            **options,
        )
        shape = outputs.shape[:2]
        links = make_links(mask, None, reset, shape, tf.float32)
        if reset is not None and reset_state is None:
            reset_state = [tf.zeros_like(state[0])]
        series = common.swap_time(tf.stop_gradient(outputs))
        dtype = common.wide(outputs.dtype)
        start = [tf.cast(state[0], series.dtype)]
        if reset is not None:
            reset_state = [tf.cast(reset_state[0], series.dtype)]
        before = common.previous(*start, series, links, reset_state or [])
        inputs, before, series = (
            tf.cast(tf.stop_gradient(tensor), dtype)
            for tensor in (common.swap_time(sequences), before, series)
        )
        if mask is not None:
            inputs = tf.where(links.mask, inputs, tf.zeros((), dtype))
        steps = Steps(cell, inputs, before, series, cell.units)
        self.visited.append((steps, links.mask))
        outputs = self.invert(outputs, steps, links)
        return outputs, [outputs[:, -1]]

    def invert(self, outputs, steps, links):
        """`outputs`, whose gradient becomes δ on its way back."""

        @common.first_derivative
        def identity(outputs):
            def gradient(d_outputs):
                return [self.displacements(d_outputs, steps, links)]

            return tf.identity(outputs), gradient

        return identity(outputs)

    def displacements(self, d_outputs, steps, links):
        """δ (batch, time, units) from dL/dh of the same shape."""
        given = common.swap_time(tf.cast(d_outputs, steps.outputs.dtype))
        series, back = self.rule(steps, rate=self.rate)
        if self.growth is not None:
            back = limited(back, self.growth)

        def pull(values, d_state):
            (delta,) = d_state
            return [delta], [back(*values, delta)]

        start = [tf.zeros_like(given[0])]
        (deltas,), *_ = loops.reverse_scan(
            pull, series, given, start, [given], links
        )
        return tf.cast(common.swap_time(deltas), d_outputs.dtype)


def limited(back, growth):
    """`back`, after which no row is longer than `growth` times before."""

    def limit(*values):
        delta, moved = values[-1], back(*values)
        # In parts of the largest number, since the square of a small one is 0.
        unit = tf.reduce_max(tf.abs(delta), axis=-1, keepdims=True)
        before, after = (
            tf.norm(tf.math.divide_no_nan(each, unit), axis=-1, keepdims=True)
            for each in (delta, moved)
        )
        share = tf.math.divide_no_nan(growth * before, after)
        return moved * tf.minimum(share, 1.0)

    return limit


def local_links(sequences, mask, reset):
    """Gates that are open up to the first step taken and shut after it.

    Args:
        sequences: (batch, time, features).
        mask: Boolean (batch, time), or None.
        reset: Boolean (batch, time), or None; each begins anew.

    Returns:
        Float (time,), or (batch, time) with a mask.
    """
    shape = shape_of(sequences)
    if mask is None:
        # A scan hands the gradient of a reset state on whatever the gate.
        return tf.cast(tf.range(shape[1]) == 0, "float32")
    taken = tf.cumsum(tf.cast(mask, "int32"), axis=1, exclusive=True)
    if reset is not None:
        piece = tf.cumsum(tf.cast(reset, "int32"), axis=1)
        count = shape[1] + 1
        piece += tf.range(shape[0])[:, tf.newaxis] * count
        first = tf.math.unsorted_segment_min(taken, piece, shape[0] * count)
        taken -= tf.gather(first, piece)
    return tf.cast(taken == 0, "float32")
