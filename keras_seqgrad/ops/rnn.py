"""The time scan over any step function, with a backward pass of its own.

Forward, only the state before each step is kept. Backward, each step is run
once more under a small tape and pulled back, from the last to the first:

    (dx_t, ds, dθ_t) = (do_t, ds) · ∂step(x_t, s_t; θ)
    ds = gates[t] · ds

so that memory is one state for each step, whatever the step computes inside,
and time is linear in the number of steps, under XLA as without it.
"""

import contextlib

import keras
import tensorflow as tf

from keras_seqgrad.ops.rows import (
    add,
    choose,
    floating,
    scale,
    shaped_as,
    split,
    spread,
    swap,
    zeros,
)


def rnn(
    step,
    inputs,
    state,
    *,
    mask=None,
    gates=None,
    reset=None,
    reset_state=None,
    previous_output=None,
    random_state=(),
    around=None,
):
    """Runs `step` over the time axis of `inputs`.

    For every recurrent step that has no scan of its own; `ksg.ops.lstm`,
    `gru` and `simple_rnn` are several times faster for what they cover.

    Rule: output_t, s_{t+1} = step(x_t, s_t). The gradient is exact where
    `gates` is None or all ones; otherwise the gradient on its way from step t
    to the state before it is multiplied by gates[t], and bias or its absence
    is the choice of whoever made the gates. First derivatives only.

    Gradient reaches `inputs`, `state`, `reset_state`, `previous_output` and
    the trainable variables that `step` reads. It does not reach tensors that
    `step` closes over: hand them over in `state`. A step that draws random
    numbers must do so through the variables in `random_state`, and one that
    reads Keras variables under mixed precision must be a Keras layer, because
    both are run again in the backward pass.

    Args:
        step: Callable (x_t, state) -> (output, new_state). A masked step is
            computed and its result dropped.
        inputs: Nested tensors (batch, time, ...), of any rank and dtype.
        state: Nested tensors (batch, ...): the state before the first step.
        mask: Boolean (batch, time), True = valid. At a masked step the row's
            state passes unchanged and the output repeats the one before it.
        gates: Float (time,) or (batch, time), see above. gates[0] belongs to
            the link to `state`. It covers all that crosses: every tensor of
            the state, masked rows, repeated outputs.
        reset: Boolean (batch, time): before this step, masked or not, the
            row's state is replaced by `reset_state` and the output to repeat
            by zeros; no gradient crosses.
        reset_state: In the structure of `state`, None for zeros. Its gradient
            is not gated.
        previous_output: What a masked first step repeats, None for zeros.
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
            tensors or in a dtype.

    Reference:
        Gruslys et al., 2016. Memory-efficient backpropagation through time.
        arXiv:1606.03401 (storing states, recomputing steps).

    Example:

    >>> from keras_seqgrad.ops.rnn import rnn
    >>> weight = tf.Variable(0.5)
    >>> def step(x, state):
    ...     total = weight * state[0] + x
    ...     return total, [total]
    >>> with tf.GradientTape() as tape:
    ...     outputs, state = rnn(step, tf.ones((1, 3)), [tf.zeros((1,))])
    >>> outputs.numpy().tolist()
    [[1.0, 1.5, 1.75]]
    >>> float(tape.gradient(state[0], weight))  # 1 + 2 · weight
    2.0
    """
    if reset is not None and reset_state is None:
        reset_state = keras.tree.map_structure(tf.zeros_like, state)
    scan = _Scan(step, mask, gates, reset, random_state, around)
    arguments = (
        inputs,
        state,
        () if reset is None else reset_state,
        () if mask is None or previous_output is None else previous_output,
    )
    arguments = keras.tree.map_structure(tf.convert_to_tensor, arguments)

    @tf.custom_gradient
    def run(*flat):
        results = scan.forward(keras.tree.pack_sequence_as(arguments, flat))
        return results, scan.backward

    results = run(*keras.tree.flatten(arguments))
    structure = scan.output_structure, arguments[1]
    return keras.tree.pack_sequence_as(structure, results)


class _Scan:
    """One run of a scan: what its backward pass keeps from the forward one.

    Inside, tensors are flat lists, and sequences are (time, batch, ...).
    """

    def __init__(self, step, mask, gates, reset, random_state, around):
        self.step = step
        self.mask = None if mask is None else swap(tf.cast(mask, "bool"))
        self.gates = None if gates is None else tf.convert_to_tensor(gates)
        if gates is not None and self.gates.shape.rank == 2:
            self.gates = swap(self.gates)
        self.reset = None if reset is None else swap(tf.cast(reset, "bool"))
        self.random_state = list(random_state)
        self.around = around or (lambda *_: contextlib.nullcontext())

    def forward(self, arguments):
        inputs, state, reset_state, previous = arguments
        self.arguments = arguments
        self.inputs = [swap(x) for x in keras.tree.flatten(inputs)]
        self.state = keras.tree.flatten(state)
        self.reset_state = keras.tree.flatten(reset_state)
        first = self.inputs[0]
        self.steps = first.shape[0] or tf.shape(first)[0]
        self.random_start = self._random_values()
        with self._around():
            return self._forward_loop(keras.tree.flatten(previous) or None)

    def backward(self, *cotangents, variables=None):
        # Other code may have drawn from the same generators since.
        random_now = self._random_values()
        self._set_random(self.random_start)
        with self._around():
            gradients, d_variables = self._backward_loop(
                cotangents, variables or []
            )
        self._set_random(random_now)
        return (gradients, d_variables) if variables else gradients

    def _forward_loop(self, previous):
        def advance(t, state, previous):
            if self.reset is not None:
                state = choose(self.reset[t], self.reset_state, state)
            kept = [*state, *self._random_values()]
            output, new = self._call_step([x[t] for x in self.inputs], state)
            if self.mask is None:
                return kept, output, new, []
            if previous is None:
                previous = zeros(output)
            if self.reset is not None:
                previous = choose(self.reset[t], zeros(output), previous)
            output = choose(self.mask[t], output, previous)
            return kept, output, choose(self.mask[t], new, state), output

        def body(t, state, previous, arrays):
            kept, output, new, repeated = advance(t, state, previous)
            arrays = [
                array.write(t, tensor)
                for array, tensor in zip(arrays, kept + output, strict=True)
            ]
            return t + 1, shaped_as(new, state), repeated, arrays

        # The first step runs outside the loop: it shows what the output is.
        kept, output, state, previous = advance(0, self.state, previous)
        arrays = [
            tf.TensorArray(tensor.dtype, self.steps).write(0, tensor)
            for tensor in kept + output
        ]
        _, state, _, arrays = tf.while_loop(
            lambda t, *_: t < self.steps,
            body,
            (1, shaped_as(state, self.state), previous, arrays),
            maximum_iterations=self.steps,
            parallel_iterations=1,
        )
        stacked = [array.stack() for array in arrays]
        count = len(self.state)
        self.states = stacked[:count]
        self.random = stacked[count : len(kept)]
        return [swap(tensor) for tensor in stacked[len(kept) :]] + state

    def _backward_loop(self, cotangents, variables):
        count = len(cotangents) - len(self.state)
        d_outputs = [swap(d) for d in floating(cotangents[:count])]
        d_state = floating(cotangents[count:])
        d_previous = zeros([d[0] for d in d_outputs])
        d_reset_state = zeros(floating(self.reset_state))
        d_variables = [tf.zeros(v.shape, v.dtype) for v in variables]
        arrays = [
            tf.TensorArray(x.dtype, self.steps) for x in floating(self.inputs)
        ]

        def body(t, d_state, d_previous, d_reset_state, d_variables, arrays):
            start = d_state
            d_output = add([d[t] for d in d_outputs], d_previous)
            d_previous, d_passed = zeros(d_output), zeros(d_state)
            if self.mask is not None:
                d_output, d_previous = split(self.mask[t], d_output)
                d_state, d_passed = split(self.mask[t], d_state)
            d_inputs, d_state, d_step = self._pull_back(
                t, d_output + d_state, variables
            )
            d_state = add(d_state, d_passed)
            if self.reset is not None:
                d_fresh, d_state = split(self.reset[t], d_state)
                d_reset_state = add(d_reset_state, d_fresh)
                d_previous = split(self.reset[t], d_previous)[1]
            if self.gates is not None:
                d_state = scale(self.gates[t], d_state)
                d_previous = scale(self.gates[t], d_previous)
            arrays = [
                array.write(t, d)
                for array, d in zip(arrays, d_inputs, strict=True)
            ]
            return (
                t - 1,
                shaped_as(d_state, start),
                d_previous,
                d_reset_state,
                add(d_variables, d_step),
                arrays,
            )

        carry = d_state, d_previous, d_reset_state, d_variables, arrays
        _, d_state, d_previous, d_reset_state, d_variables, arrays = (
            tf.while_loop(
                lambda t, *_: t >= 0,
                body,
                (self.steps - 1, *carry),
                maximum_iterations=self.steps,
                parallel_iterations=1,
            )
        )
        d_inputs = [swap(array.stack()) for array in arrays]
        found = d_inputs, d_state, d_reset_state, d_previous
        gradients = []
        for each, argument in zip(found, self.arguments, strict=True):
            gradients += spread(each, argument)
        return gradients, d_variables

    def _pull_back(self, t, cotangents, variables):
        """Gradients of step t for its inputs, its state and `variables`."""
        self._set_random([values[t] for values in self.random])
        inputs = [x[t] for x in self.inputs]
        state = [values[t] for values in self.states]
        sources = floating(inputs), floating(state), variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            output, new = self._call_step(inputs, state)
        gradients = tape.gradient(
            floating(output + new),
            sources,
            output_gradients=cotangents,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return tf.nest.map_structure(tf.convert_to_tensor, gradients)

    def _call_step(self, inputs, state):
        output, new = self.step(
            keras.tree.pack_sequence_as(self.arguments[0], inputs),
            keras.tree.pack_sequence_as(self.arguments[1], state),
        )
        self.output_structure = keras.tree.map_structure(lambda _: 0, output)
        output = [tf.convert_to_tensor(o) for o in keras.tree.flatten(output)]
        new = [tf.convert_to_tensor(s) for s in keras.tree.flatten(new)]
        if [s.dtype for s in new] != [s.dtype for s in state]:
            raise ValueError(
                "A step must return a new state of as many tensors, and of "
                "the same dtypes, as the state it is given. Expected: "
                f"{[s.dtype.name for s in state]}. "
                f"Received: {[s.dtype.name for s in new]}. "
                "Cast the initial state or the result of the step."
            )
        return output, new

    def _around(self):
        inputs, state = self.arguments[:2]
        first = keras.tree.map_structure(lambda x: x[:, 0], inputs)
        return self.around(first, state)

    def _random_values(self):
        return [tf.identity(v) for v in self.random_state]

    def _set_random(self, values):
        for variable, value in zip(self.random_state, values, strict=True):
            variable.assign(value)
