"""Checks the arguments of the time scans."""

import dataclasses
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_seqgrad.ops.common import swap_time
from keras_seqgrad.tensors import arguments


class Links(NamedTuple):
    """How step t hangs on the state before it; time-major, None if unused.

    Attributes:
        mask: bool (time, batch, 1), True where the step is taken.
        gates: float (time, 1, 1) or (time, batch, 1), factors of the gradient.
        reset: bool (time, batch, 1), True where the state is replaced first.
    """

    mask: tf.Tensor | None
    gates: tf.Tensor | None
    reset: tf.Tensor | None


@dataclasses.dataclass(frozen=True)
class Given:
    """The checked arguments of a scan; `twin` may be empty."""

    inputs: tf.Tensor
    twin: list
    state: list
    weights: list
    links: Links
    reset_state: list


def prepare(cell, inputs, state, weights, links, twin):
    """Checks the arguments of `fast_scan`."""
    kernel, recurrent_kernel, bias = weights
    mask, gates, reset, reset_state = links
    inputs = arguments.tensor(inputs, "inputs")
    if inputs.shape.rank != 3 or not inputs.dtype.is_floating:
        raise ValueError(
            "`inputs` must be a floating tensor of shape (batch, time, "
            f"features). Received: shape {inputs.shape}, dtype "
            f"{inputs.dtype.name}"
        )
    dtype = inputs.dtype
    features = inputs.shape[2]
    recurrent_kernel = arguments.tensor(recurrent_kernel, "recurrent_kernel")
    if recurrent_kernel.shape.rank != 2:
        raise ValueError(
            "`recurrent_kernel` must be a tensor of shape (units, "
            f"{cell.blocks} * units). Received: shape {recurrent_kernel.shape}"
        )
    units = recurrent_kernel.shape[0]
    width = cell.blocks * units

    def weight(value, name, shape):
        return checked(value, name, shape, dtype)

    weights = [
        weight(kernel, "kernel", [features, width]),
        weight(recurrent_kernel, "recurrent_kernel", [units, width]),
    ]
    if bias is not None:
        weights.append(weight(bias, "bias", [*cell.bias_rows, width]))

    refuse_unused(reset, reset_state)
    batch, names = inputs.shape[0], cell.state_names
    row = [batch, units]
    state = checked_state(state, "state", names, row, dtype)
    # A batch size known from either side spares the loops a dynamic shape.
    batch = batch or state[0].shape[0]
    row = [batch, units]
    state = [tf.ensure_shape(tensor, row) for tensor in state]
    inputs = tf.ensure_shape(inputs, [batch, *inputs.shape[1:]])
    if reset is None:
        reset_state = []
    elif reset_state is None:
        reset_state = [tf.zeros_like(tensor) for tensor in state]
    else:
        reset_state = checked_state(
            reset_state, "reset_state", names, row, dtype
        )
    links = make_links(mask, gates, reset, inputs.shape[:2], dtype)
    if twin is None:
        twin = []
    else:
        if not isinstance(twin, (list, tuple)) or not twin:
            raise ValueError(
                "`twin` must be None or a list [inputs, *state], once more. "
                f"Received: twin={twin!r}"
            )
        again, *others = twin
        again = checked(again, "twin[0]", inputs.shape, dtype)
        others = checked_state(others, "twin[1:]", names, row, dtype)
        twin = [again, *others]
    return Given(inputs, twin, state, weights, links, reset_state)


def refuse_unused(reset, reset_state):
    """Refuses a state to reset to where nothing is reset."""
    if reset is None and reset_state is not None:
        raise ValueError(
            "`reset_state` is used where `reset` is True. Pass `reset` with "
            "it, a bool tensor (batch, time). Received: reset=None"
        )


def check_rnn(step, inputs, states, links, random_state, around):
    """Refuses arguments of `ksg.ops.rnn` before anything is run.

    Args:
        step: As for `rnn`; so are inputs, random_state and around.
        states: What stands for states and outputs, by name.
        links: (mask, gates, reset), batch-major.

    Returns:
        `links` as tensors.
    """
    arguments.function(step, "step", "a callable (x_t, state) -> (output, new)")
    if around is not None:
        arguments.function(around, "around", "a callable (x_0, state) or None")
    if not isinstance(random_state, (list, tuple)) or not all(
        hasattr(variable, "assign") for variable in random_state
    ):
        arguments.refuse(random_state, "random_state", "a list of variables")
    leaves = [
        arguments.tensor(leaf, "inputs") for leaf in keras.tree.flatten(inputs)
    ]
    if not leaves or any(leaf.shape.rank in (0, 1) for leaf in leaves):
        arguments.refuse(inputs, "inputs", "nested tensors (batch, time, ...)")
    if states["state"] is None:
        arguments.refuse(None, "state", "nested tensors (batch, ...)")
    for name, structure in states.items():
        if structure is not None:
            for leaf in keras.tree.flatten(structure):
                arguments.tensor(leaf, name)
    make_links(*links, leaves[0].shape[:2], tf.float32)
    return [None if x is None else tf.convert_to_tensor(x) for x in links]


def make_links(mask, gates, reset, shape, dtype):
    """`Links` from batch-major arguments; `shape` is (batch, time)."""

    def flags(value, name):
        if value is None:
            return None
        value = checked(value, name, shape, tf.bool)
        value = tf.ensure_shape(value, shape)
        return tf.expand_dims(swap_time(value), -1)

    if gates is not None:
        gates = arguments.tensor(gates, "gates")
        if not gates.dtype.is_floating or gates.shape.rank not in (1, 2):
            raise ValueError(
                "`gates` must be floating numbers of shape (time,) or (batch, "
                f"time). Received: shape {gates.shape}, dtype "
                f"{gates.dtype.name}"
            )
        sizes = shape[-gates.shape.rank :]
        gates = tf.ensure_shape(checked(gates, "gates", sizes, None), sizes)
        gates = tf.stop_gradient(tf.cast(gates, dtype))
        if gates.shape.rank == 1:
            gates = gates[tf.newaxis]
        gates = swap_time(gates)[..., tf.newaxis]
    return Links(flags(mask, "mask"), gates, flags(reset, "reset"))


def checked(value, name, shape, dtype):
    value = arguments.tensor(value, name)
    if dtype is not None and value.dtype != dtype:
        raise TypeError(
            f"`{name}` must have dtype {dtype.name}; the numbers of a scan "
            "share the dtype of its inputs, and flags are bool. Cast it first. "
            f"Received: {value.dtype.name}"
        )
    if not value.shape.is_compatible_with(shape):
        raise ValueError(
            f"`{name}` must have shape {tuple(shape)}. "
            f"Received: shape {value.shape}"
        )
    return value


def checked_state(state, name, state_names, shape, dtype):
    if not isinstance(state, (list, tuple)) or len(state) != len(state_names):
        raise ValueError(
            f"`{name}` must be a list of {len(state_names)} tensors, "
            f"[{', '.join(state_names)}]. Received: {name}="
            f"{arguments.told(state)}"
        )
    return [
        checked(tensor, f"{name}[{index}]", shape, dtype)
        for index, tensor in enumerate(state)
    ]


def check_new_state(new, state):
    """Refuses a state that is of another kind than that before the step."""
    if [s.dtype for s in new] != [s.dtype for s in state]:
        raise ValueError(
            "A step must return a new state of as many tensors, and of the "
            "same dtypes, as the state it is given. Expected: "
            f"{[s.dtype.name for s in state]}. "
            f"Received: {[s.dtype.name for s in new]}. "
            "Cast the initial state or the result of the step."
        )
