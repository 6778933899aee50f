"""What a recurrent layer did in a segment, as its traces need it."""

import dataclasses
from typing import Any

import tensorflow as tf

from keras_seqgrad.layers import cells as keras_cells
from keras_seqgrad.layers.scan import scan, state_is_output
from keras_seqgrad.methods.snap.cells import drops_inputs, row_value
from keras_seqgrad.ops import common
from keras_seqgrad.ops.arguments import Links, make_links
from keras_seqgrad.ops.loops import choose
from keras_seqgrad.tensors import masks, pieces
from keras_seqgrad.tensors.shape import shape_of


@dataclasses.dataclass
class Visit:
    """A recurrent layer's run over a segment, as its traces need it.

    All are constants, in float32 or float64: inputs and outputs (time, batch,
    ...), the state before the first step and the one that resets bring; `links`
    has the mask and the resets.
    """

    cell: Any
    inputs: Any
    outputs: Any
    start: list
    links: Links
    reset_state: list


class Recorder:
    """Runs the cells of a model as ever, and keeps what it has seen."""

    def __init__(self):
        self.visits = {}

    def visit(self, layer):
        """The `Visit` of a recurrent layer."""
        return self.visits[id(layer.cell)]

    def __call__(
        self, cell, sequences, state, *, training, mask, reset, reset_state,
        **options,
    ):  # fmt: skip
        """`keras_seqgrad.layers.scan.scan`."""
        sequences = tf.cast(sequences, cell.compute_dtype)
        if training and drops_inputs(cell):
            # All dropout there is, so that the scan has none left to draw.
            dropped = keras_cells.input_mask(cell, sequences)
            sequences = sequences if dropped is None else sequences * dropped
            training = False
        outputs, last = scan(
            cell,
            sequences,
            state,
            training=training,
            mask=mask,
            reset=reset,
            reset_state=reset_state,
            **options,
        )
        links = make_links(mask, None, reset, sequences.shape[:2], None)
        inputs = wide(common.swap_time(sequences))
        if links.mask is not None:
            inputs = masks.clear(inputs, links.mask)
        start = [wide(tensor) for tensor in state]
        if reset_state is None:
            reset_state = [tf.zeros_like(tensor) for tensor in start]
        reset_state = [wide(tensor) for tensor in reset_state]
        self.visits[id(cell)] = Visit(
            cell,
            inputs,
            wide(common.swap_time(outputs)),
            start,
            links,
            reset_state,
        )
        return outputs, last


def wide(tensor):
    """A constant in float32, or float64 where it is: traces are long sums."""
    return tf.stop_gradient(tf.cast(tensor, common.wide(tensor.dtype)))


def states_before(rule, visit):
    """Every state tensor before each step, a list of (time, batch, units)."""
    rows, step = rule
    known = [None] * len(visit.start)
    if state_is_output(visit.cell):
        known[0] = common.previous(
            visit.start[0], visit.outputs, visit.links, visit.reset_state
        )
    if None not in known:
        return known
    given = [row_value(row, visit.inputs, known) for row in rows]
    unknown = [
        [
            (source, weight)
            for source, weight in row
            if isinstance(source, int) and known[source] is None
        ]
        for row in rows
    ]
    steps = shape_of(visit.inputs)[0]
    rest = [k for k, tensor in enumerate(known) if tensor is None]
    arrays = [tf.TensorArray(visit.inputs.dtype, steps) for _ in rest]

    def body(time, carry):
        state, arrays = carry
        state = list(state)
        if visit.links.reset is not None:
            state = choose(visit.links.reset[time], visit.reset_state, state)
        arrays = [
            array.write(time, state[k])
            for array, k in zip(arrays, rest, strict=True)
        ]
        here = [tensor[tf.newaxis] for tensor in state]
        for k, tensor in enumerate(known):
            if tensor is not None:
                here[k] = tensor[time][tf.newaxis]
        inputs = visit.inputs[time][tf.newaxis]
        values = [
            each[time] + (row_value(row, inputs, here) if row else 0.0)
            for each, row in zip(given, unknown, strict=True)
        ]
        new = [tensor[0] for tensor in step(inputs, values, here)]
        if visit.links.mask is not None:
            new = choose(visit.links.mask[time], new, state)
        return new, arrays

    _, arrays = pieces.repeat(steps, body, (visit.start, arrays))
    for array, k in zip(arrays, rest, strict=True):
        shape = [*visit.inputs.shape[:2], None]
        known[k] = tf.ensure_shape(array.stack(), shape)
    return known
