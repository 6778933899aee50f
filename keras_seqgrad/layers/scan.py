"""The scan for a Keras RNN cell: a fast one where there is one."""

import keras
import tensorflow as tf

from keras_seqgrad.layers import cells
from keras_seqgrad.layers.linear_cell import LinearCell, run_series
from keras_seqgrad.layers.pooling import PoolingCell, pool_series
from keras_seqgrad.ops.fast_cell import DESCRIBED
from keras_seqgrad.ops.fast_scan import fast_scan
from keras_seqgrad.ops.rnn import rnn


def scan(
    cell,
    sequences,
    state,
    *,
    training=False,
    mask=None,
    gates=None,
    reset=None,
    reset_state=None,
    previous_output=None,
    twin=None,
):
    """Runs `cell` over the time axis of `sequences`.

    Where `uses_fast_scan(cell, training)` the scan is that of the cell's
    description in `keras_seqgrad.ops`, as `ksg.ops.lstm`, on its weights; for
    a `LinearCell` it is `ksg.ops.linear_scan`; without a mask
    `keras.layers.StackedRNNCells` run one after another, each by its own scan;
    a `PoolingCell`, of whose outputs there is the last alone, needs no loop;
    otherwise it is `ksg.ops.rnn` on the cell itself. All give the cell's own
    outputs and gradients; the meaning of `mask`, `gates`, `reset`,
    `reset_state` and `previous_output` is that of `ksg.ops.rnn`.

    Random numbers drawn in the cell are drawn again in the backward pass. So
    they must come from the cell's own generators: Keras' dropout layers, or
    a `keras.random.SeedGenerator` that is an attribute of the cell.

    Args:
        cell: A built Keras RNN cell: a `keras.layers.Layer` with a
            `state_size` and a `call(inputs, states)`.
        sequences: Nested tensors (batch, time, ...).
        state: The cell's state as a list of (nested) tensors.
        training: Whether the cell runs in training mode.
        mask: Boolean (batch, time), True = valid, or None.
        gates: Float (time,) or (batch, time), or None.
        reset: Boolean (batch, time), or None.
        reset_state: In the structure of `state`, None for zeros.
        previous_output: What a masked first step repeats, None for zeros.
            Not used where `state_is_output(cell)`: a masked step then repeats
            the state, which may be `state` or `reset_state`.
        twin: [sequences, *state] once more, or None: with it outputs and
            state are returned once more (see `ksg.ops.lstm`). For fast scans
            alone.

    Returns:
        outputs (batch, time, ...) in the cell's compute dtype, and the last
        state in the structure of `state`.

    Raises:
        ValueError: `cell` is not a Keras layer.

    Example:

    >>> from keras_seqgrad.layers.scan import scan
    >>> cell = keras.layers.GRUCell(4)
    >>> cell.build((None, 3))
    >>> outputs, state = scan(
    ...     cell, tf.ones((2, 5, 3)), cell.get_initial_state(2)
    ... )
    >>> outputs.shape, state[0].shape
    (TensorShape([2, 5, 4]), TensorShape([2, 4]))
    """
    if not isinstance(cell, keras.layers.Layer):
        raise ValueError(
            "`cell` must be a keras.layers.Layer, so that the backward pass "
            "can run it once more in the same mode and precision. "
            f"Received: cell={cell!r} of type {type(cell).__name__}. "
            "Derive its class from keras.layers.Layer."
        )
    sequences, state, reset_state, previous_output, twin = _cast(
        (sequences, list(state), reset_state, previous_output, twin),
        cell.compute_dtype,
    )
    mask, reset = (
        None if flags is None else tf.cast(flags, "bool")
        for flags in (mask, reset)
    )
    described = _description(cell, training)
    if described is not None:
        links = mask, gates, reset, reset_state
        return _fast(cell, described, sequences, state, links, twin, training)
    if twin is not None:
        raise ValueError(
            "`twin` is for cells with a scan of their own (see "
            f"`uses_fast_scan`). Received: twin={twin} with cell={cell!r}"
        )
    if is_stack(cell) and mask is None:
        links = {"gates": gates, "reset": reset, "training": training}
        return _one_by_one(
            cell.cells, sequences, state, reset_state, previous_output, links
        )
    links = {
        "mask": mask,
        "gates": gates,
        "reset": reset,
        "reset_state": reset_state,
    }
    if isinstance(cell, PoolingCell):
        return pool_series(cell, sequences, state, **links)
    if is_linear(cell):
        return run_series(
            cell,
            sequences,
            state,
            training=training,
            previous_output=previous_output,
            **links,
        )

    def step(inputs, state):
        return cell(inputs, state, training=training)

    reset_output = None
    if state_is_output(cell):
        previous_output = state[0]
        reset_output = None if reset_state is None else reset_state[0]
    return rnn(
        step,
        sequences,
        state,
        **links,
        previous_output=previous_output,
        reset_output=reset_output,
        random_state=cells.changing_variables(cell),
        around=lambda inputs, state: cells.prepared_masks(
            cell, inputs, state, training
        ),
    )


def uses_fast_scan(cell, training):
    """Whether `scan` runs `cell` by a scan written for its kind."""
    return _description(cell, training) is not None


def state_is_output(cell):
    """Whether the output of `cell` is the first tensor of its new state."""
    # A class or an object whose `call` was replaced is a cell of its own.
    if is_linear(cell):
        return cell.state_is_output
    kind = type(cell)
    if kind is PoolingCell:
        return True
    return kind in DESCRIBED and cells.is_as_written(cell, kind, "call")


def is_linear(cell):
    """Whether a series of steps of `cell` is a linear recurrence."""
    return (
        isinstance(cell, LinearCell)
        and type(cell).call is LinearCell.call
        and cells.is_as_written(cell, LinearCell, "call")
    )


def is_stack(cell):
    """Whether `cell` is made of cells that can run one after another.

    They hand on outputs at the same step, so that each can go through all the
    steps before the next one does. What a masked step repeats is a matter of
    the whole stack.
    """
    kind = keras.layers.StackedRNNCells
    return (
        type(cell) is kind
        and cells.is_as_written(cell, kind, "call")
        and all(isinstance(one, keras.layers.Layer) for one in cell.cells)
        and {one.compute_dtype for one in cell.cells} == {cell.compute_dtype}
    )


def _one_by_one(stack, outputs, state, reset_state, previous_output, links):
    """Runs the cells of a stack over all steps, each on the other's outputs."""
    last = []
    for place, cell in enumerate(stack):
        is_top = place == len(stack) - 1
        given = [
            None if states is None else _listed(states[place])
            for states in (state, reset_state)
        ]
        outputs, new = scan(
            cell,
            outputs,
            given[0],
            reset_state=given[1],
            previous_output=previous_output if is_top else None,
            **links,
        )
        last.append(new if keras.tree.is_nested(state[place]) else new[0])
    return outputs, last


def _listed(state):
    return list(state) if keras.tree.is_nested(state) else [state]


def _description(cell, training):
    """The `FastCell` that does what `cell` does, None where there is none."""
    if type(cell) not in DESCRIBED or not state_is_output(cell):
        return None
    if training and not cells.drops_inputs_alone(cell):
        return None
    return DESCRIBED[type(cell)](cell)


def _fast(cell, described, sequences, state, links, twin, training):
    weights = _cast(
        (cell.kernel, cell.recurrent_kernel, cell.bias), cell.compute_dtype
    )
    sequences = tf.cast(sequences, cell.compute_dtype)
    shape = [*sequences.shape[:2], cell.units]
    dropped = cells.input_mask(cell, sequences) if training else None
    if dropped is not None:
        sequences *= dropped
        if twin is not None:
            twin = [twin[0] * dropped, *twin[1:]]
    outputs, *others = fast_scan(
        described, sequences, state, weights, links, twin
    )
    return tf.ensure_shape(outputs, shape), *others


def _cast(structure, dtype):
    """Floating tensors of `structure` in `dtype`, all others as they are."""

    def cast(leaf):
        if leaf is None:
            return None
        tensor = tf.convert_to_tensor(leaf)
        return tf.cast(tensor, dtype) if tensor.dtype.is_floating else tensor

    return keras.tree.map_structure(cast, structure)
