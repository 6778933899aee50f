"""A linear recurrence over time, with a backward pass written by hand.

    h_t = a_t · h_{t-1} + b_t

A mask makes a = 1 and b = 0 of a step; a reset makes a = 0 of it, and adds
a_t · r to b_t. So every step is one *link*, which multiplies, and something
added; the way back is the same recurrence from the end,

    d_t = dh_t + gate_{t+1} · conj(link_{t+1}) · d_{t+1}
    db_t = d_t,    da_t = d_t · conj(h_{t-1})

for which of all series only h is kept. Both ways run by one of two forms, a
loop over steps or a few passes over all of them at once. Links are only ever
multiplied with each other: a product of many that is 0 is no trouble, as the
difference of two logarithms would be.

Time-major within, as all scans are.
"""

from typing import Any, Literal

import tensorflow as tf

from keras_seqgrad.ops import common
from keras_seqgrad.ops.arguments import (
    checked,
    checked_state,
    make_links,
    refuse_unused,
)
from keras_seqgrad.ops.documentation import filled
from keras_seqgrad.ops.linear_forms import by_chunks, by_steps, is_constant
from keras_seqgrad.tensors import arguments, devices
from keras_seqgrad.tensors.shape import shape_of

# Steps from which passes over all of them take less time than a loop, on a
# device where every turn of a loop is a launch: measured on an H100.
MANY_STEPS = 16
FORMS = {"sequential": by_steps, "chunked": by_chunks}


@filled(
    links="""
mask: bool (batch, time). Where False, the row's state passes
    unchanged, the output repeats it, and coefficients and inputs may
    be NaN.
gates: Float (time,) or (batch, time): factors of the gradient that
    crosses from step t to the state before it; gates[0] is the link
    to `state`. No effect on the forward pass, no gradient.
reset: bool (batch, time). Where True, the row's state is replaced by
    `reset_state` before the step, masked or not; its gradient goes
    there, whatever the gate, and nothing goes further back.
reset_state: A list like `state`; None means zeros.
"""
)
def linear_scan(
    coefficients: Any,
    inputs: Any,
    state: Any,
    *,
    mask: Any = None,
    gates: Any = None,
    reset: Any = None,
    reset_state: Any = None,
    method: Literal["auto", "sequential", "chunked"] = "auto",
) -> tuple:
    """Linear recurrence over the time axis of `inputs`.

    What is inside of LRU, minGRU, minLSTM, RG-LRU and QRNN, whose layers are
    in `ksg.layers`. Use it for a recurrence of your own in which neither a_t
    nor b_t depends on the state. Not for one in which they do: that is
    `ksg.ops.rnn`.

    Rule, element by element:

        h_t = a_t · h_{t-1} + b_t

    The gradient is exact where `gates` is None or all ones; otherwise the
    gradient of the state on its way from step t to the state before it is
    multiplied by gates[t]. First derivatives only. Kept for the way back is
    the series of h, beside the coefficients. Time is linear in the number of
    steps under XLA as without it.

    Args:
        coefficients: a, (batch, time, units), or (units,) if they are the same
            at all steps. Of the inputs' dtype; float32 goes with inputs in
            half precision, in which .999 is 1.
        inputs: b, (batch, time, units), floating or complex. The state is
            carried in their dtype, for half precision in float32.
        state: [h], (batch, units), of a dtype that coefficients may have.
        {links}
        method: "sequential": one step after the other. "chunked": pairs
            (a, b) of 16 neighbours are joined in four passes over all steps
            at once, then the chunks in the same way. Both give the same but
            for rounding. "auto" takes the second for 16 steps and more where
            there is a GPU, for which a loop is a launch each turn; on a CPU
            the first is faster.

    Returns:
        Outputs h (batch, time, units), of the inputs' dtype, and the last
        state, a list like `state`.

    Raises:
        ValueError: A shape or `method` does not fit, or `reset_state` comes
            without `reset`.
        TypeError: A dtype does not fit.

    Reference:
        Blelloch, 1990. Prefix sums and their applications. For the use in
        recurrent layers: Martin and Cundy, 2018. Parallelizing linear
        recurrent neural nets over sequence length. arXiv:1709.04057.

    Example:

    >>> inputs, state = tf.ones((1, 3, 1)), [tf.zeros((1, 1))]
    >>> outputs, (h,) = ksg.ops.linear_scan(tf.constant([0.5]), inputs, state)
    >>> outputs[0, :, 0].numpy().tolist()
    [1.0, 1.5, 1.75]
    """
    inputs = arguments.tensor(inputs, "inputs")
    if inputs.shape.rank != 3 or not _is_inexact(inputs.dtype):
        raise ValueError(
            "`inputs` must be a floating or complex tensor of shape (batch, "
            f"time, units). Received: shape {inputs.shape}, dtype "
            f"{inputs.dtype.name}"
        )
    arguments.choice(method, "method", ["auto", *FORMS])
    refuse_unused(reset, reset_state)
    batch, _, units = inputs.shape

    def dtype_for(value):
        carried = carry_dtype(inputs.dtype)
        return carried if value.dtype == carried else inputs.dtype

    coefficients = arguments.tensor(coefficients, "coefficients")
    constant = is_constant(coefficients)
    coefficients = checked(
        coefficients,
        "coefficients",
        [units] if constant else inputs.shape,
        dtype_for(coefficients),
    )

    def checked_row(value, name):
        first = tf.nest.flatten(value)[:1] or [inputs]
        dtype = dtype_for(arguments.tensor(first[0], name))
        return checked_state(value, name, ["h"], [batch, units], dtype)

    state = checked_row(state, "state")
    if reset_state is not None:
        reset_state = checked_row(reset_state, "reset_state")
    links = make_links(
        mask, gates, reset, inputs.shape[:2], carry_dtype(inputs.dtype)
    )
    outputs, last = linear_series(
        coefficients if constant else common.swap_time(coefficients),
        common.swap_time(inputs),
        state[0],
        links,
        None if reset_state is None else reset_state[0],
        method,
    )
    return common.swap_time(outputs), [last]


def linear_series(
    coefficients, inputs, state, links, reset_state=None, method="auto"
):
    """`linear_scan` of what has been checked and is time-major.

    Args:
        coefficients: (units,) or (time, batch, units).
        inputs: (time, batch, units).
        state: (batch, units).
        links: `Links`.
        reset_state: (batch, units), or None for zeros.
        method: As for `linear_scan`.

    Returns:
        The outputs, time-major, and the last state in the dtype of `state`.
    """
    run_links = FORMS[method if method != "auto" else _method_for(inputs)]
    carried = carry_dtype(inputs.dtype)
    if links.reset is None:
        reset_state = []
    else:
        given = tf.zeros_like(state) if reset_state is None else reset_state
        reset_state = [given]

    def wide(tensor):
        return tf.cast(tensor, carried)

    @common.first_derivative
    def run(coefficients, inputs, state, reset_state):
        restart = [wide(tensor) for tensor in reset_state]

        def step(pick):
            link = link_of(pick)
            added = wide(pick(inputs))
            if links.mask is not None:
                added = tf.where(pick(links.mask), added, _zero(added))
            if links.reset is not None:
                replaced = pick(links.reset)
                added = tf.where(replaced, link * restart[0] + added, added)
                link = tf.where(replaced, _zero(link), link)
            return link, added

        def link_of(pick):
            """What multiplies the state, whether or not it is replaced."""
            link = wide(pick(coefficients))
            if links.mask is None:
                return link
            return tf.where(pick(links.mask), link, tf.ones((), link.dtype))

        outputs, last = run_links(
            step,
            wide(state),
            shape_of(inputs),
            cuts=links.reset is not None,
            dtype=inputs.dtype,
        )

        def gradient(d_outputs, d_last):
            def step_back(pick):
                link = link_of(pick)
                if links.reset is not None:
                    link = tf.where(pick(links.reset), _zero(link), link)
                if links.gates is not None:
                    link *= tf.cast(pick(links.gates), link.dtype)
                return _conj(link), wide(pick(d_outputs))

            # A cut link stays cut when the gradient behind it has exploded.
            cuts = links.gates is not None or links.reset is not None
            back = run_links(
                step_back, wide(d_last), shape_of(inputs), cuts, reverse=True
            )
            d_inputs = back.series
            before = tf.concat([wide(state)[tf.newaxis], wide(outputs)], 0)
            before = before[:-1]
            d_restart = []
            if links.reset is not None:
                before = tf.where(links.reset, restart[0], before)
                caught = d_inputs * _conj(link_of(lambda series: series))
                caught = tf.where(links.reset, caught, _zero(caught))
                d_restart = [tf.reduce_sum(caught, axis=0)]
            if links.mask is not None:
                d_inputs = tf.where(links.mask, d_inputs, _zero(d_inputs))
            d_coefficients = d_inputs * _conj(before)
            if is_constant(coefficients):
                d_coefficients = tf.reduce_sum(d_coefficients, axis=[0, 1])
            return [
                tf.cast(d_coefficients, coefficients.dtype),
                tf.cast(d_inputs, inputs.dtype),
                tf.cast(back.last, state.dtype),
                *[tf.cast(d, reset_state[0].dtype) for d in d_restart],
            ]

        return [outputs, tf.cast(last, state.dtype)], gradient

    outputs, last = run(coefficients, inputs, state, reset_state)
    return tf.ensure_shape(outputs, inputs.shape), last


def carry_dtype(dtype):
    """In what the state is carried: no half precision adds up many steps."""
    return tf.float32 if dtype in (tf.float16, tf.bfloat16) else dtype


def _method_for(inputs):
    steps = inputs.shape[0]
    long = steps is None or steps >= MANY_STEPS
    return "sequential" if devices.only_cpus() or not long else "chunked"


def _is_inexact(dtype):
    return dtype.is_floating or dtype.is_complex


def _conj(tensor):
    return tf.math.conj(tensor) if tensor.dtype.is_complex else tensor


def _zero(tensor):
    return tf.zeros((), tensor.dtype)
