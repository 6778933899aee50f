"""What a recurrent cell is that is linear in its state, and its step.

    h_t = a_t · h_{t-1} + b_t

A `LinearCell` says a, b and the outputs of a whole series of inputs, by
ordinary operations that act on each step alone. One step in a loop, a layer
and a node in a network are all made of that: `LinearCell.call` runs it on a
series of one step, `run_series` on all of them.
"""

from typing import Any

import keras
import tensorflow as tf

from keras_seqgrad.layers import cells
from keras_seqgrad.ops import common
from keras_seqgrad.ops.arguments import make_links
from keras_seqgrad.ops.linear_scan import carry_dtype, linear_series
from keras_seqgrad.tensors import arguments

KINDS = {
    "initializer": keras.initializers,
    "regularizer": keras.regularizers,
    "constraint": keras.constraints,
}


class LinearCell(cells.WithMasks, keras.layers.Layer):
    """A Keras recurrent cell, linear in its state.

    A subclass makes its weights in `build` and writes `recurrence`; the rest
    where it differs. Everything in there is time-major, (time, batch,
    features), and runs in the compute dtype unless it says otherwise.

    Args:
        units: Number of units.
        dropout: Share of the inputs to drop, the same at all steps.
        seed: Of the dropout.
        **kwargs: For each kind of weight its initializer, regularizer and
            constraint, as `kernel_initializer`; and what every layer takes.

    Attributes:
        weight_kinds: Kinds of weights, with their default initialisers.
        scanned: How many tensors of the state the scan runs over; the others
            hold what the cell remembers of the inputs before.
        delays: For how many steps it remembers each of these.
        state_is_output: Whether the output is the first tensor of the state.
    """

    weight_kinds = {}
    scanned = 1
    delays = 1
    state_is_output = True
    recurrent_dropout = 0.0

    def __init__(
        self,
        units: int,
        *,
        dropout: float = 0.0,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        options = {}
        for weight, initial in self.weight_kinds.items():
            for kind, module in KINDS.items():
                name = f"{weight}_{kind}"
                default = initial if kind == "initializer" else None
                options[name] = module.get(kwargs.pop(name, default))
        super().__init__(**kwargs)
        units = arguments.positive_integer(units, "units")
        self.units = self.state_size = self.output_size = units
        for name, value in options.items():
            setattr(self, name, value)
        self.dropout = arguments.number(dropout, "dropout", least=0, most=1)
        self.seed = arguments.seed(seed, most=2**32 - 1)
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def adapt_to(self, features):
        """Sets the sizes that depend on the inputs, before `build`."""

    # --- what a cell says ---------------------------------------------------

    def recurrence(self, inputs, earlier):
        """a and b of all steps.

        Args:
            inputs: (time, batch, features).
            earlier: Of each series of `remembered` what it was at the last
                step before each, at the one before that, and so on.

        Returns:
            a, (units,) or (time, batch, units), or None where every step
            forgets all; b (time, batch, units); and whatever `outputs` takes.
        """
        raise NotImplementedError

    def coefficients(self, rows, inputs, earlier):
        """a and b from what the weights make of the inputs.

        Element-wise in the units.

        Args:
            rows: What the rows of `trace_rows` are.
            inputs: As for `recurrence`.
            earlier: As for `recurrence`.
        """
        raise NotImplementedError

    def trace_rows(self):
        """All that the state takes from weights, as rows of `trace_rule`."""
        raise NotImplementedError

    def outputs(self, states, *passed):
        """Outputs of all steps from their states h."""
        return states

    def remembered(self, inputs):
        """Series that the steps after may look at."""
        return []

    def moved_on(self, inputs, earlier):
        """What is remembered after the steps of `inputs`, in order."""
        found, delays = [], self.delays
        for place, each in enumerate(self.remembered(inputs)):
            start = place * delays
            found += [each, *earlier[start : start + delays - 1]]
        return found

    def joined(self, parts):
        """h from the tensors of the state."""
        return parts[0]

    def parted(self, h):
        """Tensors of the state from h."""
        return [h]

    # --- what it is made of -------------------------------------------------

    def add_weights(self, name, shape, kind=None, **options):
        """A weight under the options of its kind."""
        for option in KINDS:
            chosen = getattr(self, f"{kind or name}_{option}")
            options.setdefault(option, chosen)
        return self.add_weight(name=name, shape=shape, **options)

    def cast(self, value):
        """A weight or tensor in the compute dtype."""
        return tf.cast(tf.convert_to_tensor(value), self.compute_dtype)

    def project(self, inputs, kernel, bias=None):
        """All inputs times a kernel, in one product."""
        rows = common.project(inputs, self.cast(kernel))
        return rows if bias is None else rows + self.cast(bias)

    def get_initial_state(self, batch_size=None):
        sizes = self.state_size
        sizes = [sizes] if isinstance(sizes, int) else sizes
        if None in sizes:
            raise ValueError(
                f"{type(self).__name__} {self.name!r} keeps inputs in its "
                "state and does not know yet how wide they are. Call "
                "cell.build((None, features)) before get_initial_state."
            )
        return [tf.zeros((batch_size, n), self.compute_dtype) for n in sizes]

    def get_config(self):
        config = {
            "units": self.units,
            "dropout": self.dropout,
            "seed": self.seed,
        }
        for weight in self.weight_kinds:
            for kind, module in KINDS.items():
                name = f"{weight}_{kind}"
                config[name] = module.serialize(getattr(self, name))
        return {**super().get_config(), **config}

    def trace_rule(self):
        """How weights move the state, for `ksg.methods.SnAp`."""

        def step(inputs, rows, states):
            earlier = states[self.scanned :]
            link, added = self.coefficients(rows, inputs, earlier)
            h = link * self.joined(states[: self.scanned]) + added
            return [*self.parted(h), *self.moved_on(inputs, earlier)]

        return self.trace_rows(), step

    # --- one step -----------------------------------------------------------

    def call(self, inputs, states, training=False):
        states = list(states) if isinstance(states, (list, tuple)) else [states]
        if training and self.dropout:
            inputs *= self.get_dropout_mask(inputs)
        series = inputs[tf.newaxis]
        earlier = [held[tf.newaxis] for held in states[self.scanned :]]
        link, added, *passed = self.recurrence(series, earlier)
        h = added[0]
        if link is not None:
            link = link if link.shape.rank == 1 else link[0]
            carried = carry_dtype(added.dtype)
            before = tf.cast(self.joined(states[: self.scanned]), carried)
            h = tf.cast(link, carried) * before + tf.cast(h, carried)
            h = tf.cast(h, added.dtype)
        [output] = tf.unstack(self.outputs(h[tf.newaxis], *passed))
        held = [each[0] for each in self.moved_on(series, earlier)]
        parts = [self.cast(part) for part in self.parted(h)]
        return output, [*parts, *held]


class LooksBack(LinearCell):
    """A linear cell that sees inputs of `delays` steps before its own."""

    def adapt_to(self, features):
        if self.delays:
            self.state_size = [self.units, *[features] * self.delays]

    def remembered(self, inputs):
        return [inputs] if self.delays else []


def wide(tensor):
    """`tensor` in the precision in which a state is carried."""
    return tf.cast(tensor, carry_dtype(tensor.dtype))


def run_series(
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
):
    """`keras_seqgrad.layers.scan.scan` for a `LinearCell`."""
    sequences = tf.cast(sequences, cell.compute_dtype)
    carried = carry_dtype(sequences.dtype)
    links = make_links(mask, gates, reset, sequences.shape[:2], carried)
    dropped = cells.input_mask(cell, sequences) if training else None
    if dropped is not None:
        sequences *= dropped
    series = common.swap_time(sequences)
    if links.mask is not None:
        # Before all products: 0 · NaN would reach the gradient of a weight.
        series = tf.where(links.mask, series, tf.zeros((), series.dtype))
    if reset is not None and reset_state is None:
        reset_state = [tf.zeros_like(tensor) for tensor in state]
    fresh = reset_state or state  # not looked at without resets
    count = cell.scanned
    ends = zip(state[count:], fresh[count:], strict=True)
    earlier, held = [], []
    for each in cell.remembered(series):
        for _ in range(cell.delays):
            start, restart = next(ends)
            kept, last = hold(each, start, links, restart)
            # Of what is handed on, the next one remembers what was before it.
            each = before(kept, start, links, restart)
            earlier.append(each)
            held.append(last)
    coefficients, inputs, *passed = cell.recurrence(series, earlier)
    ends = cell.joined(state[:count]), links, cell.joined(fresh[:count])
    if coefficients is None:
        states, last = hold(inputs, *ends)
    else:
        states, last = linear_series(coefficients, inputs, *ends)
    outputs = cell.outputs(states, *passed)
    if mask is not None and not cell.state_is_output:
        nothing = tf.zeros_like(outputs[0])
        if previous_output is None:
            previous_output = nothing
        outputs, _ = hold(outputs, previous_output, links, nothing)
    parts = [cell.cast(part) for part in cell.parted(last)]
    return common.swap_time(outputs), [*parts, *held]


def hold(series, start, links, restart):
    """A series that masked steps repeat, and its last row.

    Args:
        series: (time, batch, width).
        start: (batch, width), what is repeated before the first step taken.
        links: `Links`.
        restart: The same after a reset.
    """
    if links.mask is None:
        return series, series[-1]
    # The state of a recurrence that forgets at every step it takes.
    forget = tf.zeros([series.shape[-1]], series.dtype)
    return linear_series(forget, series, start, links, restart)


def before(series, start, links, restart):
    """What each step finds of a series that the steps hand on."""
    found = tf.concat([start[tf.newaxis], series[:-1]], axis=0)
    if links.gates is not None:
        found = common.gated(found, tf.cast(links.gates, found.dtype))
    if links.reset is not None:
        found = tf.where(links.reset, restart, found)
    return common.with_shape(found, series.shape)
