"""The trace rules of Keras' own cells, and how others are refused.

A rule is a pair (rows, step) that says how each unit of a cell's state follows
from products and from its own past.

`rows` is a list of rows, (batch, width) at every step, width a multiple of the
units: place b · units + i belongs to unit i. A row is a list of its summands,
pairs (source, weight):

    ("inputs", W)   x_t · W, W (features, width)
    (k, U)          s_k · U, s_k the tensor k of the state, U (units, width)
    (None, b)       b, (width,)

A weight of three axes, W (heads, features / heads, units / heads), is the
block-diagonal matrix of these blocks.

`step(inputs, rows, states)` gives the new states. It is element-wise in the
units: unit i of its results depends on unit i of the states and of the rows
alone. All tensors it gets have a time axis, (time, batch, ...), and what it
does is differentiated, so that no rule writes a derivative down. A state that
no row reaches, as the input before, has no trace and may have any width, save
the first, whose width is the number of units.

A cell of the user's own has a method `trace_rule()` that returns such a pair.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.layers.cells import is_as_written
from keras_seqgrad.layers.scan import is_linear, uses_fast_scan
from keras_seqgrad.ops import common
from keras_seqgrad.tensors.shape import shape_of

ADVICE = (
    "Use ksg.methods.RTRL for a small model of any cells, or "
    "ksg.methods.TruncatedBPTT; a cell of your own may say its rule in a "
    "method `trace_rule` (see docs/methods/snap.md)"
)


def of_simple_rnn(cell):
    """h = φ(x·W + h·U + b)."""

    def step(inputs, rows, states):
        return [cell.activation(rows[0])]

    product = [("inputs", cell.kernel), (0, cell.recurrent_kernel)]
    return [product + biases(cell.bias)], step


def of_gru(cell):
    """z, r = σ(a + q), h = z·h + (1 − z)·g with g = φ(a_g + r·q_g)."""

    def step(inputs, rows, states):
        a, q = (tf.split(row, 3, axis=-1) for row in rows)
        z, r = (cell.recurrent_activation(a[k] + q[k]) for k in (0, 1))
        g = cell.activation(a[2] + r * q[2])
        return [z * states[0] + (1.0 - z) * g]

    first, second = [], []
    if cell.bias is not None:
        first, second = biases(cell.bias[0]), biases(cell.bias[1])
    given = [("inputs", cell.kernel), *first]
    return [given, [(0, cell.recurrent_kernel), *second]], step


def of_lstm(cell):
    """c = f·c + i·g, h = o·φ(c), gates in Keras' order i, f, g, o."""

    def step(inputs, rows, states):
        i, f, g, o = tf.split(rows[0], 4, axis=-1)
        i, f, o = (cell.recurrent_activation(gate) for gate in (i, f, o))
        c = f * states[1] + i * cell.activation(g)
        return [o * cell.activation(c), c]

    product = [("inputs", cell.kernel), (0, cell.recurrent_kernel)]
    return [product + biases(cell.bias)], step


def biases(bias):
    """The summands of a bias, which may be None."""
    return [] if bias is None else [(None, bias)]


RULES = {
    keras.layers.SimpleRNNCell: of_simple_rnn,
    keras.layers.GRUCell: of_gru,
    keras.layers.LSTMCell: of_lstm,
}


def rule_of(cell):
    """The rule of a cell: its own, or the one written here; None for none."""
    if hasattr(cell, "trace_rule"):
        return cell.trace_rule()
    kind = type(cell)
    if kind in RULES and is_as_written(cell, kind, "call"):
        return RULES[kind](cell)
    return None


def refuse_model(model):
    """Refuses a model in which a weight has no trace of its own."""
    if model.is_opaque:
        raise ValueError(
            "SnAp follows the cells of recurrent layers. Expected a "
            "model made with SequenceModel.from_model(model) or "
            "SequenceModel(inputs, outputs), received a subclass with its own "
            "`call_segment`. Use ksg.methods.RTRL there."
        )
    nodes = model.graph.nodes
    owners = {}
    for layer in model.graph.layers:
        for variable in layer.trainable_variables:
            owners.setdefault(id(variable), {})[id(layer)] = layer.name
    layers = [node.held[0] for node in nodes.values()]
    for layer in layers:
        if sum(layer is other for other in layers) > 1:
            raise ValueError(
                f"Layer {layer.name!r} is called more than once, so that its "
                "weights move several states. Expected one call of each "
                "recurrent layer. Use ksg.methods.RTRL or TruncatedBPTT."
            )
        for variable in layer.trainable_variables:
            names = sorted(owners[id(variable)].values())
            if len(names) > 1:
                raise ValueError(
                    f"Weight {variable.path!r} of a recurrent layer is shared "
                    f"by the layers {names}; its trace would be that of one "
                    "of them. Expected weights of its own for each. Use "
                    "ksg.methods.RTRL or TruncatedBPTT."
                )


def refuse(cell, name):
    """Refuses a layer for whose cell there is no rule."""
    kind = type(cell).__name__
    if isinstance(cell, keras.layers.StackedRNNCells):
        raise ValueError(
            f"Layer {name!r} is a stack of cells, of which there is no trace. "
            "Expected a recurrent layer for each cell, one upon the other. "
            f"Received: {kind}"
        )
    if not getattr(cell, "reset_after", True):
        raise ValueError(
            f"Layer {name!r} ({kind}) has reset_after=False: a weight of its "
            "reset gate moves all units in one step, so that a trace of one "
            "unit leaves most of it out. Expected reset_after=True. "
            f"{ADVICE}. Received: reset_after=False"
        )
    if rule_of(cell) is None:
        raise ValueError(
            f"Layer {name!r} ({kind}) has no trace rule: how its units hang "
            "on each other is not known. Expected keras.layers.SimpleRNN, GRU "
            "or LSTM, or ksg.layers.MinGRU, MinLSTM, LRU, RGLRU or QRNN. "
            f"{ADVICE}. Received: {kind}"
        )
    if getattr(cell, "recurrent_dropout", 0):
        raise ValueError(
            f"Layer {name!r} has recurrent_dropout={cell.recurrent_dropout}, "
            "which changes the influence of every state. Leave it out."
        )
    if getattr(cell, "dropout", 0) and not drops_inputs(cell):
        raise ValueError(
            f"Layer {name!r} has dropout={cell.dropout}, and its trace needs "
            "the inputs that each gate has seen. Put a keras.layers.Dropout "
            "before the layer instead."
        )


def drops_inputs(cell):
    """Whether all that a cell may drop in training are its inputs."""
    return uses_fast_scan(cell, True) or is_linear(cell)


def check_rule(cell, name, shape):
    """Refuses a rule that is not that of its cell.

    One step of it is compared with the cell's, and that units do not hang on
    each other is tried out.
    """
    rows, step = rule_of(cell)
    draw = np.random.default_rng(0).uniform
    dtype = "float64" if cell.compute_dtype == "float64" else "float32"
    sizes = keras.tree.flatten(cell.state_size)
    units = sizes[0]

    def fail(expected, received):
        raise ValueError(
            f"The `trace_rule` of layer {name!r} ({type(cell).__name__}) is "
            f"not a rule of this cell. Expected {expected}, received "
            f"{received}. See docs/methods/snap.md."
        )

    inputs = tf.constant(draw(-1, 1, (1, 2, *shape)), dtype)
    states = [tf.constant(draw(-1, 1, (1, 2, size)), dtype) for size in sizes]
    values = [row_value(row, inputs, states) for row in rows]
    for row, value in zip(rows, values, strict=True):
        width = value.shape[-1]
        if width % units:
            fail(f"rows of a multiple of {units} units", width)
        blocks = any(len(weight.shape) == 3 for _, weight in row)
        if blocks and width != units:
            fail(f"{units} units in a row of a block-diagonal weight", width)
    made = step(inputs, values, states)
    if [tuple(each.shape) for each in made] != [(1, 2, n) for n in sizes]:
        fail(
            f"{len(sizes)} new states (time, batch, width), of widths {sizes}",
            [tuple(each.shape) for each in made],
        )
    traced = traced_states(cell, shape)
    if any(sizes[place] != units for place in traced):
        fail(f"states of {units} units, as the first", sizes)
    _, told = cell(inputs[0], [s[0] for s in states], training=False)
    close = 1e-3 if cell.compute_dtype in ("float32", "float64") else 0.1
    for ours, theirs in zip(made, keras.tree.flatten(told), strict=True):
        theirs = tf.cast(theirs, dtype)
        if not np.allclose(ours[0], theirs, close, close):
            fail("the cell's own new state", "another one")
    moved = tf.constant(np.arange(units) % 2 == 0)

    def move(tensor):
        blocks = tf.tile(moved, [tensor.shape[-1] // units])
        return tf.where(blocks, tensor + 1.0, tensor)

    others = [
        move(state) if place in traced else state
        for place, state in enumerate(states)
    ]
    again = step(inputs, [*map(move, values)], others)
    for place in traced:
        before, after = made[place], again[place]
        if np.any(tf.where(moved, before, after) != before):
            fail("units that depend on themselves", "some that do not")


def traced_states(cell, shape):
    """Places of the states that have traces: those that rows reach.

    Args:
        cell: The cell.
        shape: That of a step's inputs, without the batch.
    """
    rows, step = rule_of(cell)
    dtype = "float64" if cell.compute_dtype == "float64" else "float32"
    sizes = keras.tree.flatten(cell.state_size)
    inputs = tf.zeros((1, 1, *shape), dtype)
    states = [tf.zeros((1, 1, size), dtype) for size in sizes]
    values = [row_value(row, inputs, states) for row in rows]
    with tf.GradientTape(
        persistent=True, watch_accessed_variables=False
    ) as tape:
        tape.watch([values, states])
        made = step(inputs, values, states)
    traced, links = set(), {}
    for place, new in enumerate(made):
        by_row, by_state = tape.gradient(new, (values, states))
        if any(gradient is not None for gradient in by_row):
            traced.add(place)
        links[place] = {s for s, g in enumerate(by_state) if g is not None}
    for _ in made:
        traced |= {place for place in links if links[place] & traced}
    return sorted(traced)


def row_value(row, inputs, states):
    """The sum that a row is, (time, batch, width).

    A state given as None is left out.
    """
    width = width_of(row[0][1])
    total = tf.zeros([*shape_of(inputs)[:2], width], inputs.dtype)
    for source, weight in row:
        weight = tf.cast(weight, inputs.dtype)
        if source is None:
            total += weight
        elif source == "inputs":
            total += multiplied(inputs, weight)
        elif states[source] is not None:
            total += multiplied(states[source], weight)
    return total


def width_of(weight):
    """Width of the row that a weight makes."""
    blocks = weight.shape[0] if len(weight.shape) == 3 else 1
    return blocks * weight.shape[-1]


def multiplied(series, weight):
    """(time, batch, features) times a matrix, or times its blocks."""
    if weight.shape.rank == 2:
        # As the scans do it: XLA then finds that a product is there already.
        return common.project(series, weight)
    product = tf.einsum("tbhi,hio->tbho", in_blocks(series, weight), weight)
    return tf.reshape(product, [*shape_of(series)[:2], width_of(weight)])


def in_blocks(series, weight):
    """(time, batch, blocks · n) as (time, batch, blocks, n)."""
    blocks = weight.shape[-3]
    size = series.shape[-1] // blocks
    return tf.reshape(series, [*shape_of(series)[:2], blocks, size])
