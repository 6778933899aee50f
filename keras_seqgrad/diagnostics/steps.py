"""Pulling back through a window one step at a time, several things at once.

What is to be pulled back stands side by side along the batch axis: every row
of a step is run in as many copies, its *tiles*, as there are cotangents.
"""

import copy
import dataclasses
import math

import keras
import tensorflow as tf

from keras_seqgrad.layers.scan import scan as cell_scan
from keras_seqgrad.layers.scan import state_is_output
from keras_seqgrad.network.passage import Passage
from keras_seqgrad.state.vector import differentiable, join
from keras_seqgrad.tensors import logits, masks, nested, pieces
from keras_seqgrad.window.loops import each_segment_kept
from keras_seqgrad.window.pullback import pull_loss

ALL = "all"


class Nudges:
    """A scan that adds zeros to what layers hand on, to differentiate by them.

    The gradient by the zeros is that by the state a layer has after the step,
    whoever reads it: the next step, or a layer above in the same one. Where
    the output of a cell is not its state it is one more thing handed on.

    Args:
        tape: The tape that records the step.

    Attributes:
        added: The zeros by the key of the recurrent node, in lists.
    """

    def __init__(self, tape):
        self.tape = tape
        self.added = {}

    def scan(self, cell, sequences, state, **options):
        """As `keras_seqgrad.layers.scan.scan`, of one step."""
        outputs, state = cell_scan(cell, sequences, state, **options)
        added = []

        def nudge(tensor):
            if not tensor.dtype.is_floating:
                return tensor
            added.append(tf.zeros_like(tensor))
            self.tape.watch(added[-1])
            return tensor + added[-1]

        state = keras.tree.map_structure(nudge, state)
        last = outputs[:, -1]
        last = last + added[0] if state_is_output(cell) else nudge(last)
        # The node that is running has read its state and left none yet.
        passage = Passage.current()
        [key] = passage.start_state.keys() - passage.new_state.keys()
        self.added[key] = added
        return last[:, None], state


def tile(structure, tiles):
    """Every tensor (batch, ...) repeated, (tiles * batch, ...)."""
    return keras.tree.map_structure(
        lambda t: (
            None
            if t is None
            else tf.tile(t, [tiles] + [1] * (len(t.shape) - 1))
        ),
        structure,
    )


class TiledSteps:
    """The steps of a window, each row of them in several copies.

    Args:
        window: The window.
        tiles: Number of copies.
    """

    def __init__(self, window, tiles):
        self.tiles = tiles
        self.window = copy.copy(window)
        self.window.batch_size = tiles * window.batch_size
        if window.fresh is not True:
            self.window.fresh = tile(window.fresh, tiles)

    def forward(self, step, state, scan=None):
        """(outputs, state) of one step from the tiled state before it."""
        segment = self.window.segment(step, 1)
        # Without targets: there is no loss to be asked for.
        segment = dataclasses.replace(
            segment,
            inputs=tile(segment.inputs, self.tiles),
            mask=tile(segment.mask, self.tiles),
            reset=tile(segment.reset, self.tiles),
            y=None,
            sample_weight=None,
        )
        return self.window.forward(segment, state, scan=scan)


def walk(window):
    """Runs a window step by step.

    Returns:
        (outputs, function from a step to the state before it).
    """
    _, outputs, trail = each_segment_kept(
        window, 1, window.forward, window.state
    )
    return outputs, lambda step: trail.before(step)[0]


def pull_steps(window, tiles, chosen, use, found):
    """Pulls losses of single steps back through all states of a window.

        D_t = d/d(state of a layer after step t) of the losses in a tile

    in units of a row's loss summed over steps; what layers add beside the loss
    of the targets is left out.

    Args:
        window: The window; its number of steps must be known.
        tiles: Number of sums of losses to pull back side by side.
        chosen: Function from a step to floats (tiles,): by what factor the
            loss of the step counts in each of them.
        use: Function (step, vectors, found) -> found, called from the last
            step to the first; D_t (tiles, batch, units) of each layer in the
            order of the graph, for instance for `norms_of`.
        found: What `use` is given first.

    Returns:
        What `use` returned last.
    """
    rows = window.batch_size
    outputs, before = walk(window)
    _, d_outputs, _ = pull_loss(window, outputs, window.target_loss)
    terms = window.count(window.whole(), outputs)
    steps, nodes = TiledSteps(window, tiles), window.model.graph.nodes

    def pull_back(step, carry):
        d_state, found = carry
        counts = chosen(step)
        start = tile(before(step), tiles)
        leaves = differentiable(start)
        with tf.GradientTape() as tape:
            tape.watch(leaves)
            nudges = Nudges(tape)
            made, state = steps.forward(step, start, nudges.scan)
        cotangents = []
        for d_output, temporal, output in zip(
            d_outputs,
            window.model.temporal_made,
            logits.leaves(made),
            strict=True,
        ):
            if temporal:
                d_output = d_output[:, step, None]
            else:
                last = tf.cast(step == window.steps - 1, d_output.dtype)
                d_output *= last
            d_output *= tf.cast(terms, d_output.dtype)
            shape = [tiles] + [1] * len(d_output.shape)
            tiled = tf.cast(tf.reshape(counts, shape), d_output.dtype)
            cotangents.append(tf.reshape(tiled * d_output, tf.shape(output)))
        sources = leaves, [nudges.added[name] for name in nodes]
        pulled = tape.gradient(
            [*logits.leaves(made), *differentiable(state)],
            sources,
            output_gradients=[*cotangents, *d_state],
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        vectors = [join(leaves) for leaves in pulled[1]]
        vectors = [tf.reshape(v, [tiles, rows, v.shape[1]]) for v in vectors]
        return pulled[0], use(step, vectors, found)

    zeros = nested.zeros_like(differentiable(tile(window.state, tiles)))
    _, found = pieces.repeat(
        window.steps, pull_back, (zeros, found), backwards=True
    )
    return found


def norms_of(vectors):
    """Norms (layers + 1, ...) along the units, and of all layers together."""
    norms = tf.stack([tf.norm(vector, axis=-1) for vector in vectors])
    whole = tf.norm(norms, axis=0, keepdims=True)
    return tf.concat([norms, whole], axis=0)


def sizes_of(window):
    """Units of each layer's D_t in `pull_steps`."""
    found = []
    for key, node in window.model.graph.nodes.items():
        cell = node.held[0].cell
        own, _ = node.split(window.state[key])
        size = sum(math.prod(t.shape[1:]) for t in differentiable(own))
        if not state_is_output(cell):
            size += math.prod(keras.tree.flatten(cell.output_size))
        found.append(size)
    return found


def layer_names(model):
    """Names of the rows of norms that `norms_of` gives.

    Raises:
        ValueError: The model's layers are its own affair.
    """
    if model.is_opaque:
        raise ValueError(
            "This asks for the states of recurrent layers. Expected a model "
            "made with SequenceModel.from_model(model) or "
            "SequenceModel(inputs, outputs), received a subclass with its own "
            "`call_segment`. ksg.diagnostics.state_jacobian_spectrum takes "
            "such models."
        )
    return [*model.graph.nodes, ALL]


def extent(model, x):
    """(batch size, number of steps) of the inputs of a window."""
    inputs = masks.unpack(model.arranged(x))[0]
    model.describe(inputs)
    return model.extent(keras.tree.map_structure(tf.convert_to_tensor, inputs))
