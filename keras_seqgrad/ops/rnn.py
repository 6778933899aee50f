"""The time scan over any step function, with a backward pass of its own.

Forward, only the state before each step is kept. Backward, each step is run
once more under a small tape and pulled back, from the last to the first:

    (dx_t, ds, dθ_t) = (do_t, ds) · ∂step(x_t, s_t; θ)
    ds = gates[t] · ds

so that memory is one state for each step, whatever the step computes inside,
and time is linear in the number of steps, under XLA as without it.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_seqgrad.ops import changes, loops, rows
from keras_seqgrad.ops.arguments import (
    check_new_state,
    check_rnn,
    refuse_unused,
)
from keras_seqgrad.ops.common import last, swap_time
from keras_seqgrad.ops.stop import steps_to_run
from keras_seqgrad.tensors import masks, nested, readings
from keras_seqgrad.tensors.shape import shape_of


def rnn(
    step: Callable[..., Any],
    inputs: Any,
    state: Any,
    *,
    mask: Any = None,
    gates: Any = None,
    reset: Any = None,
    reset_state: Any = None,
    previous_output: Any = None,
    reset_output: Any = None,
    random_state: Sequence[Any] = (),
    around: Callable[..., Any] | None = None,
) -> tuple:
    """Runs `step` over the time axis of `inputs`.

    For every recurrent step that has no scan of its own; `ksg.ops.lstm`,
    `gru` and `simple_rnn` are several times faster for what they cover.

    Rule: output_t, s_{t+1} = step(x_t, s_t). The gradient is exact where
    `gates` is None or all ones; otherwise the gradient on its way from step t
    to the state before it is multiplied by gates[t], and bias or its absence
    is the choice of whoever made the gates. First derivatives only.

    Gradient reaches the given tensors and the trainable variables that `step`
    reads. It does not reach other tensors that `step` closes over: hand them
    over in `state`. A step that draws random numbers must do so through the
    variables in `random_state`, and one that reads Keras variables under mixed
    precision must be a Keras layer, because it is run again in the backward
    pass.

    Args:
        step: Callable (x_t, state) -> (output, new_state). A masked step is
            computed and its result dropped; NaN, infinity and integers among
            its inputs are taken for 0, since 0 · NaN would reach gradients.
        inputs: Nested tensors (batch, time, ...), of any rank and dtype.
        state: Nested tensors (batch, ...): the state before the first step.
        mask: Boolean (batch, time), True = valid. At a masked step the row's
            state passes unchanged and the output repeats the one before it.
        gates: Float (time,) or (batch, time), see above. gates[0] belongs to
            the link to `state`. It covers all that crosses: every tensor of
            the state, masked rows, repeated outputs.
        reset: Boolean (batch, time): before this step, masked or not, the
            row's state is replaced by `reset_state` and the output to repeat
            by `reset_output`; no gradient crosses.
        reset_state: In the structure of `state`, None for zeros. Its gradient
            is not gated.
        previous_output: What a masked first step repeats, None for zeros.
        reset_output: As `reset_state`: what a masked step repeats after one.
        random_state: Non-trainable variables that `step` changes, such as the
            state of a `keras.random.SeedGenerator`. The backward pass sets
            them to what they were before each step, and back at its end.
        around: None, or a callable (x_0, state) that returns a context
            manager; each of the two loops runs inside one. For what must be
            prepared outside a loop, such as the dropout masks of Keras cells.

    Returns:
        outputs, nested (batch, time, ...), and the state after the last step,
        in the structure of `state`.

    Raises:
        ValueError: The new state differs from `state` in its number of
            tensors or in a dtype, or `reset_state` comes without `reset`.
        NotImplementedError: A derivative of the gradient is asked for.

    Reference:
        Gruslys et al., 2016. Memory-efficient backpropagation through time.
        arXiv:1606.03401 (storing states, recomputing steps).

    Example:

    >>> weight = tf.Variable(0.5)
    >>> def step(x, state):
    ...     total = weight * state[0] + x
    ...     return total, [total]
    >>> with tf.GradientTape() as tape:
    ...     outputs, state = ksg.ops.rnn(step, tf.ones((1, 3)), [tf.zeros(1)])
    >>> outputs.numpy().tolist()
    [[1.0, 1.5, 1.75]]
    >>> float(tape.gradient(state[0], weight))  # 1 + 2 · weight
    2.0
    """
    states = {
        "state": state,
        "reset_state": reset_state,
        "previous_output": previous_output,
        "reset_output": reset_output,
    }
    mask, gates, reset = check_rnn(
        step, inputs, states, (mask, gates, reset), random_state, around
    )
    refuse_unused(reset, reset_state)
    if reset is not None and reset_state is None:
        reset_state = keras.tree.map_structure(tf.zeros_like, state)
    if mask is None:
        previous_output = reset_output = None
    elif previous_output is None and reset_output is not None:
        previous_output = keras.tree.map_structure(tf.zeros_like, reset_output)
    elif reset_output is None and previous_output is not None:
        reset_output = keras.tree.map_structure(tf.zeros_like, previous_output)
    # What one step hands to the next: the state and the output to repeat.
    start = state, () if previous_output is None else previous_output
    restart = reset_state, () if reset_output is None else reset_output
    arguments = inputs, start, () if reset is None else restart
    arguments = keras.tree.map_structure(tf.convert_to_tensor, arguments)
    scan = _Scan(step, mask, gates, reset, random_state, around)

    @tf.custom_gradient
    def run(*flat):
        results = scan.forward(keras.tree.pack_sequence_as(arguments, flat))
        return results, scan.backward

    results = run(*keras.tree.flatten(arguments))
    structure = scan.output_structure, arguments[1][0]
    return keras.tree.pack_sequence_as(structure, results)


class _Scan:
    """One run of a scan: what its backward pass keeps from the forward one.

    Inside, tensors are flat lists, and sequences are (time, batch, ...).
    """

    def __init__(self, step, mask, gates, reset, random_state, around):
        self.step = step
        self.mask = None if mask is None else swap_time(mask)
        by_row = gates is not None and gates.shape.rank == 2
        self.gates = swap_time(gates) if by_row else gates
        self.reset = None if reset is None else swap_time(reset)
        self.random_state = list(random_state)
        self.around = around or (lambda *_: contextlib.nullcontext())

    def forward(self, arguments):
        inputs, (state, _), _ = arguments
        self.arguments = arguments
        self.inputs, self.start, self.restart = (
            keras.tree.flatten(each) for each in arguments
        )
        self.inputs = [swap_time(x) for x in self.inputs]
        if self.mask is not None:
            self.inputs = [masks.clear(x, self.mask) for x in self.inputs]
        first = [x[0] for x in self.inputs]
        self.first = keras.tree.pack_sequence_as(inputs, first), state
        steps = shape_of(self.inputs[0])[0]
        self.live = self.steps = steps
        self.random_start = readings.of(self.random_state)
        place = changes.mark()
        with self.around(*self.first):
            return self._forward_loop(place)

    def backward(self, *cotangents, variables=None):
        # Other code may have drawn from the same generators since.
        random_now = readings.of(self.random_state)
        readings.put_back(self.random_state, self.random_start)
        with self.around(*self.first):
            gradients, d_variables = self._backward_loop(
                cotangents, variables or []
            )
        readings.put_back(self.random_state, random_now)
        found = [d for d in gradients if d is not None] + d_variables
        found = iter(last(*found) if found else [])
        gradients = [None if d is None else next(found) for d in gradients]
        return (gradients, list(found)) if variables else gradients

    def _forward_loop(self, place):
        count = len(keras.tree.flatten(self.first[1]))

        def advance(t, carry):
            if self.reset is not None:
                carry = rows.choose(self.reset[t], self.restart, carry)
            state = carry[:count]
            drawn = readings.of(self.random_state)
            inputs = [x[t] for x in self.inputs]
            output, new = self._call_step(inputs, state)
            if self.mask is not None:
                if len(carry) == count:
                    # The first step shows the shape of what it repeats.
                    carry = carry + nested.zeros_like(output)
                    self.restart = self.restart + nested.zeros_like(output)
                new = rows.choose(self.mask[t], new + output, carry)
                output = new[count:]
            return [state, drawn, output], new

        def body(t, carry, arrays):
            kept, new = advance(t, carry)
            new = rows.shaped_as(new, carry)
            return t + 1, new, loops.write(arrays, t, sum(kept, []))

        # Outside the loop: it shows what the output is, and what weights move.
        kept, carry = advance(0, self.start)
        self.random_state, self.random_start, kept[1] = changes.moving(
            place, self.random_state, self.random_start, kept[1]
        )
        # Behind the end, too, a step that is computed and dropped may draw.
        if not self.random_state:
            self.live = steps_to_run(self.steps, self.mask, self.reset)
        carry[:count] = rows.shaped_as(carry[:count], self.start[:count])
        arrays = [
            tf.TensorArray(tensor.dtype, self.steps).write(0, tensor)
            for tensor in sum(kept, [])
        ]
        end, carry, arrays = tf.while_loop(
            lambda t, *_: t < self.live,
            body,
            (1, carry, arrays),
            parallel_iterations=1,
        )
        if self.live is not self.steps:

            def pass_on(t, arrays):
                return t + 1, loops.write(arrays, t, carry)

            _, arrays = tf.while_loop(
                lambda t, _: t < self.steps, pass_on, (end, arrays)
            )
        stacked = [array.stack() for array in arrays]
        self.states, stacked = stacked[:count], stacked[count:]
        places = len(self.random_state)
        self.random, outputs = stacked[:places], stacked[places:]
        return [swap_time(tensor) for tensor in outputs] + carry[:count]

    def _backward_loop(self, cotangents, variables):
        places = len(cotangents) - len(self.states)
        d_outputs = [swap_time(d) for d in rows.floating(cotangents[:places])]
        d_carry = rows.floating(cotangents[places:])
        count = len(d_carry)
        if self.mask is not None:
            d_carry += nested.zeros_like([d[0] for d in d_outputs])
        d_restart = nested.zeros_like(rows.floating(self.restart))
        d_variables = [tf.zeros(v.shape, v.dtype) for v in variables]
        floats = rows.floating(self.inputs)
        arrays = [tf.TensorArray(x.dtype, self.steps) for x in floats]

        def output_of(t, d_carry):
            d_output = [d[t] for d in d_outputs]
            if self.mask is not None:
                d_output = nested.add(d_output, d_carry[count:])
            return d_output

        first = 0
        if self.live is not self.steps:
            first = self.steps - tf.maximum(self.live, 1)
            nothing = nested.zeros_like([x[0] for x in floats])

            def pass_on(turn, d_carry, arrays):
                t = self.steps - 1 - turn
                d_new = d_carry[:count] + output_of(t, d_carry)
                if self.gates is not None:
                    d_new = rows.scale(self.gates[t], d_new)
                d_new = rows.shaped_as(d_new, d_carry)
                return turn + 1, d_new, loops.write(arrays, t, nothing)

            _, d_carry, arrays = tf.while_loop(
                lambda turn, *_: turn < first, pass_on, (0, d_carry, arrays)
            )

        def body(turn, d_carry, d_restart, d_variables, arrays):
            # Counted up, as XLA knows how often such a loop turns.
            t = self.steps - 1 - turn
            d_new, d_passed = d_carry[:count], nested.zeros_like(d_carry)
            d_output = output_of(t, d_carry)
            if self.mask is not None:
                d_new, d_passed = rows.split(self.mask[t], d_new + d_output)
                d_new, d_output = d_new[:count], d_new[count:]
            d_inputs, d_state, d_step = self._pull_back(
                t, d_output + d_new, variables
            )
            d_new = nested.add(d_state, d_passed[:count]) + d_passed[count:]
            if self.reset is not None:
                d_fresh, d_new = rows.split(self.reset[t], d_new)
                d_restart = nested.add(d_restart, d_fresh)
            if self.gates is not None:
                d_new = rows.scale(self.gates[t], d_new)
            arrays = loops.write(arrays, t, d_inputs)
            d_new = rows.shaped_as(d_new, d_carry)
            d_variables = nested.add(d_variables, d_step)
            return turn + 1, d_new, d_restart, d_variables, arrays

        _, d_carry, d_restart, d_variables, arrays = tf.while_loop(
            lambda turn, *_: turn < self.steps,
            body,
            (first, d_carry, d_restart, d_variables, arrays),
            parallel_iterations=1,
        )
        d_inputs = [swap_time(array.stack()) for array in arrays]
        found = d_inputs, d_carry, d_restart
        gradients = []
        for each, argument in zip(found, self.arguments, strict=True):
            gradients += rows.spread(each, argument)
        return gradients, d_variables

    def _pull_back(self, t, cotangents, variables):
        """Gradients of step t for its inputs, its state and `variables`."""
        drawn = [values[t] for values in self.random]
        readings.put_back(self.random_state, drawn)
        inputs = [x[t] for x in self.inputs]
        state = [values[t] for values in self.states]
        sources = rows.floating(inputs), rows.floating(state), variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            output, new = self._call_step(inputs, state)
        gradients = tape.gradient(
            rows.floating(output + new),
            sources,
            output_gradients=cotangents,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return tf.nest.map_structure(tf.convert_to_tensor, gradients)

    def _call_step(self, inputs, state):
        output, new = self.step(
            keras.tree.pack_sequence_as(self.arguments[0], inputs),
            keras.tree.pack_sequence_as(self.first[1], state),
        )
        self.output_structure = keras.tree.map_structure(lambda _: 0, output)
        output = [tf.convert_to_tensor(o) for o in keras.tree.flatten(output)]
        new = [tf.convert_to_tensor(s) for s in keras.tree.flatten(new)]
        check_new_state(new, state)
        return output, new
