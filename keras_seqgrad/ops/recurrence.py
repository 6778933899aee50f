"""A described cell with its weights, over pieces of a sequence."""

import tensorflow as tf

from keras_seqgrad.ops import common, loops


class Recurrence:
    """A described cell with its weights, over pieces of a sequence.

    All tensors are time-major.

    Args:
        cell: `FastCell`.
        weights: [kernel, recurrent_kernel], and a bias if there is one.
        reset_state: List like the state; empty without resets.
    """

    def __init__(self, cell, weights, reset_state):
        self.cell, self.reset_state = cell, reset_state
        self.kernel, self.recurrent_kernel, *self.bias = weights
        self.units = self.recurrent_kernel.shape[0]
        self.to_rows, *self.step_weights = cell.step_weights(
            self.kernel, self.recurrent_kernel, *self.bias or [None]
        )
        self.pull_weights = cell.pull_weights(self.recurrent_kernel)

    def widths(self, blocks):
        """Sizes in units as numbers."""
        return [self.units * each for each in blocks]

    def counted(self, inputs, links):
        """The inputs with zeros in masked steps."""
        if links.mask is None:
            return inputs
        # Before all products, for the gradient of the kernel is one: rows of
        # zeros in it do not make up for NaN in a masked step.
        return tf.where(links.mask, inputs, tf.zeros((), inputs.dtype))

    def forward(self, rows, state, links, saved, first):
        """Outputs, last state and `saved`, filled; see `forward_scan`."""

        def step(row, state):
            return self.cell.step(row, state, *self.step_weights)

        return loops.forward_scan(
            step, rows, state, links, self.reset_state, saved, first
        )

    def back(self, inputs, start, outputs, links, saved, gradients, buffers):
        """The way back over a piece.

        Args:
            inputs: What `counted` made of the inputs.
            start: The first tensor of the state before the piece.
            outputs: Of the piece.
            links: `Links` of the piece.
            saved: (series that `forward` saved, turn of them where the piece
                starts).
            gradients: (d_outputs, d_states), each a list of one or, with
                twins, of two.
            buffers: As in `reverse_scan`.

        Returns:
            Lists like `gradients`, of the inputs and of the state before;
            (d_weights, d_reset); and what may serve as buffers for another
            piece.
        """
        cell = self.cell
        before = common.previous(start, outputs, links, self.reset_state[:1])

        def pull(values, d_state):
            before, output, *values = values
            return cell.pull(
                values, before, output, d_state, *self.pull_weights
            )

        (d_outputs, *twin), (d_state, *twin_state) = gradients
        if twin:
            twin += twin_state[0]
        inner, d_state, d_reset, (inner_twin, d_twin_state) = (
            loops.reverse_scan(
                pull,
                [before, outputs],
                d_outputs,
                d_state,
                buffers,
                links,
                twin,
                *saved,
            )
        )
        inners, d_states = [inner], [d_state]
        if twin:
            inners.append(inner_twin)
            d_states.append(d_twin_state)
        d_rows = [cell.d_rows(each) for each in inners]
        d_weights = [
            common.kernel_gradient(inputs, d_rows[0]),
            cell.d_recurrent_kernel(before, inner, self._piece(saved, before)),
            *[cell.d_bias(inner) for _ in self.bias],
        ]
        to_inputs = tf.transpose(self.kernel)
        d_inputs = [common.project(each, to_inputs) for each in d_rows]
        return d_inputs, d_states, (d_weights, d_reset), inner

    def _piece(self, saved, before):
        """What was saved, for the piece alone."""
        series, turn = saved
        length = before.shape[0]
        if not series or series[0].shape[0] == length:
            return series
        first = turn * loops.steps_a_turn(length)
        return [
            tf.slice(each, [first, 0, 0], [length, -1, -1]) for each in series
        ]

    def nothing(self):
        """(d_weights, d_reset) before the first piece, wide enough for all."""
        weights = [self.kernel, self.recurrent_kernel, *self.bias]
        return tf.nest.map_structure(
            lambda tensor: tf.zeros_like(tensor, common.wide(tensor.dtype)),
            (weights, self.reset_state),
        )

    def sums(self, total):
        """Sums in the dtype of the weights."""
        return tf.nest.map_structure(
            lambda tensor: tf.cast(tensor, self.kernel.dtype), total
        )
