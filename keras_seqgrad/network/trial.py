"""A graph tried on inputs: whole and in segments, here and in Keras.

Every tensor of the graph is computed once for a whole sequence and once for
two segments. The first that differs names the layer that mixes time steps,
whether we know that layer or not. Recurrent layers, which mix them by a state
that we carry, have a stand-in meanwhile (`step_alone`), which makes a long
sequence cheap; a short one then compares them with those of Keras.
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.layers.cells import draws_masks, parts
from keras_seqgrad.network import compared
from keras_seqgrad.network.nodes import RecurrentNode
from keras_seqgrad.network.passage import Passage
from keras_seqgrad.network.refusals import (
    CannotCut,
    each_result,
    refuse_losses_of_cells,
    refuse_other_shapes,
    steps_of,
)
from keras_seqgrad.network.replay import (
    NOISES,
    LayerFailure,
    filled,
    replay,
    step_alone,
)
from keras_seqgrad.network.tracing import is_own, tensors
from keras_seqgrad.tensors import masks

# Steps on which recurrent layers are compared with those of Keras: for drawn
# inputs, and for the user's, which may begin with padding. No segment of them
# has as many steps as the drawn inputs have rows: `keras.ops.add` (3.15) takes
# (rows, 1, 1) for a bias of steps then.
SHORT, LONG = 4, 24
OUTPUTS = "outputs"


class Trial:
    """What is found out about a graph on one example after the other.

    A number that is not finite tells nothing; nor does a tensor that is the
    same at all steps, in which a flip would not show.

    Args:
        graph: The `Graph`.
        thorough: Whether to compare more steps with Keras.

    Attributes:
        layers: All layers, those that recurrent nodes stand for too.
        untold: Names by tensor id of what no example has told of yet.
    """

    def __init__(self, graph, thorough=False):
        self.graph = graph
        self.short = LONG if thorough else SHORT
        self.layers = graph.layers
        own = [p for p in map(parts, self.layers) if any(map(acts_apart, p))]
        self.own = {id(part): part for found in own for part in found}
        own = self.own.values()
        self.counts = {id(v) for part in own for v in part.variables}
        self.seeds = {id(v) for part in own for v in seeds(part)}
        self.modes = [False, True] if own else [False]
        self.rounding = compared.roundings(graph)
        self.untold = {id(t): name for name, t in graph.results}
        self.untold[OUTPUTS] = OUTPUTS
        self.constant, self.noise, self.failure = set(), set(), None
        self.before = []

    @contextlib.contextmanager
    def undisturbed(self):
        """Keeps the variables, where layers run in training mode.

        Some move then: seeds, counters, even a kernel that is normed.
        """
        if len(self.modes) > 1:
            variables = self.graph.original.variables
            self.before = [(v, tf.convert_to_tensor(v)) for v in variables]
        try:
            yield
        finally:
            self.restore()

    def see_what_moves(self):
        """Enters which variables a run in training has moved."""
        self.graph.moved = (self.graph.moved or set()) | {
            id(variable)
            for variable, value in self.before
            if not np.array_equal(variable, value)
        }

    def restore(self, but=()):
        """Sets variables back, but for those with the ids `but`."""
        for variable, value in self.before:
            if id(variable) not in but:
                variable.assign(value)

    def run(self, inputs):
        """Tries `inputs`, and refuses the graph where they show its fault."""
        steps = steps_of(self.graph, inputs)
        try:
            if steps == 1 or self.graph.uncut is not None:
                self.untold = {OUTPUTS: OUTPUTS}
            else:
                for training in self.modes:
                    self.compare_cut(inputs, steps, training)
                steps = min(steps, self.short)
            self.compare_stock(inputs, steps)
        except LayerFailure as failure:
            refuse_other_shapes(self.graph, failure.values)
            # What fits the model best is tried first, and tells most.
            self.failure = self.failure or failure

    def reason(self):
        """Why some tensors were told of by no example, or None."""
        left = [n for i, n in self.untold.items() if i not in self.constant]
        if OUTPUTS in left and self.failure is not None:
            return f"layer {self.failure.name!r} fails ({self.failure})"
        return f"layer {left[0]!r} makes NaN or inf" if left else None

    def tell(self, key, value, has_time):
        """Enters that a tensor came out right with these numbers."""
        if compared.has_nan(value):
            return
        if not has_time or compared.varies(value):
            self.untold.pop(key, None)
        elif compared.is_finite(value):
            self.constant.add(key)

    # --- layers that act on single steps -----------------------------------

    def compare_cut(self, inputs, steps, training):
        """Compares a whole sequence with two segments, tensor by tensor."""
        graph = self.graph

        def values(start, length, but=self.counts):
            # What layers of Keras' own keep may move with every call, as the
            # estimate of a norm does; what others count must not show.
            self.restore(but)
            with Passage(scan=step_alone).open():
                return replay(graph, graph.cut(inputs, start, length), training)

        whole = values(0, steps)
        if training:
            self.see_what_moves()
        refuse_losses_of_cells(graph)
        try:
            pieces = values(0, steps - 1), values(steps - 1, 1)
        except LayerFailure as failure:
            refuse_other_shapes(graph, failure.values, whole)
            raise CannotCut(
                f"Layer {failure.name!r} cannot be cut in time: it fails on a "
                "part of the sequence. Leave it out of the SequenceModel. The "
                f"layer's own error: {failure}",
                failure.name,
            ) from failure
        again = None
        for call, name, tensor in each_result(graph):
            key, has_time = id(tensor), id(tensor) in graph.temporal
            found = compared.array(whole[key])
            joined = compared.joined([p[key] for p in pieces], has_time)
            right = not has_time or found.shape[1:2] == (steps,)
            near = compared.SAME_WAY
            if right and self.differs(key, found, joined, near):
                # Differs as well from itself, with other random numbers?
                counts = numbers(self.own)
                again = again or values(0, steps, self.seeds)
                right = self.differs(
                    key, found, compared.array(again[key]), near
                )
                right = right and counts == numbers(self.own)
                right = right and not self.mixes_steps(call, whole, training)
                self.noise.add(key)
            elif right and self.rounding[key] > compared.FINE:
                right = not self.mixes_steps(call, whole, training)
            if id(call[0]) in self.own and has_time and key not in self.noise:
                masked = [compared.mask(v[key]) for v in (whole, *pieces)]
                right = right and not compared.differs(
                    masked[0], compared.joined(masked[1:], True), 0.0
                )
            if not right:
                raise CannotCut(
                    f"Layer {name!r} cannot be cut in time: its output on a "
                    "whole sequence differs from that on two segments"
                    f"{' in training' if training else ''}. "
                    "Leave it out of the SequenceModel.",
                    name,
                )
            self.tell(key, found, has_time)

    def differs(self, key, first, second, share=1.0, least=0.0):
        """Whether two arrays of the tensor with the id `key` differ."""
        rounding = share * self.rounding[key]
        return compared.differs(first, second, rounding, least)

    def mixes_steps(self, call, values, training):
        """Whether what a layer gives at some steps depends on others."""
        layer, _, args, kwargs, result = call
        temporal = self.graph.temporal
        given = [t for t in tensors([args, kwargs]) if id(t) in temporal]
        given = [values[id(tensor)] for tensor in given]
        args, kwargs = filled((args, kwargs), values)
        if isinstance(layer, keras.layers.Layer):
            kwargs = {**kwargs, "training": training}

        def run():
            made = keras.tree.flatten(layer(*args, **kwargs))
            pairs = zip(keras.tree.flatten(result), made, strict=True)
            return [value for t, value in pairs if id(t) in temporal]

        with Passage(scan=step_alone).open():
            return compared.mixes_steps(
                run, [value for value in given if value.dtype.is_floating]
            )

    # --- recurrent layers ---------------------------------------------------

    def compare_stock(self, inputs, steps):
        """Compares two segments of the model with its layers in Keras."""
        graph = self.graph
        whole = inputs
        if graph.uncut is None:
            whole = graph.cut(inputs, 0, steps)
        stock = replay(graph, whole, training=False, stock=True)
        graph.masked |= any(masks.read(v) is not None for v in stock.values())
        least = compared.least_scale(given_to_recurrent(graph, stock))

        def segments(run):
            rows = keras.tree.flatten(whole)[0].shape[0]
            state = graph.initial_state(whole, rows)
            cut = [(0, steps - 1), (steps - 1, 1)]
            if graph.uncut is not None:
                cut = [(0, steps)]
            for start, length in cut:
                if length:
                    piece = whole
                    if length < steps:
                        piece = graph.cut(whole, start, length)
                    with Passage(state).open() as passage:
                        yield run(piece)
                    state = passage.new_state

        def run(x):
            return keras.tree.flatten(graph.model(x, training=False))

        found = [*segments(run)]
        outputs = keras.tree.flatten(graph.outputs)
        all_finite = True
        for place, tensor in enumerate(outputs):
            key, has_time = id(tensor), graph.temporal_made[place]
            wanted = compared.array(stock[key])
            all_finite &= compared.is_finite(wanted)
            joined = compared.joined([f[place] for f in found], has_time)
            differs = self.differs(key, wanted, joined, least=least)
            if key in self.noise or not differs:
                continue
            replays = [*segments(lambda x: replay(graph, x, False))]
            culprit = self.culprit(stock, replays, least)
            raise CannotCut(
                f"Layer {culprit!r} cannot be cut in time: what segments make "
                "of it differs from what Keras makes of the whole sequence. "
                "Leave it out of the SequenceModel.",
                culprit,
            )
        if all_finite:
            self.untold.pop(OUTPUTS, None)

    def culprit(self, stock, replays, least):
        """The first layer whose tensors in segments are not those of Keras."""
        for _, name, tensor in each_result(self.graph):
            key = id(tensor)
            joined = compared.joined(
                [values[key] for values in replays], key in self.graph.temporal
            )
            if key not in self.noise and self.differs(
                key, compared.array(stock[key]), joined, least=least
            ):
                return name
        return self.graph.original.name


def given_to_recurrent(graph, values):
    """What the recurrent layers of `graph` are given, as arrays."""
    return [
        compared.array(values[id(tensor)])
        for layer, _, args, kwargs, _ in graph.calls
        if isinstance(layer, RecurrentNode)
        for tensor in tensors([args, kwargs])
    ]


def numbers(layers):
    """Plain numbers that layers keep, in which they may count their calls."""
    return {
        (key, name): value
        for key, layer in layers.items()
        for name, value in vars(layer).items()
        if isinstance(value, (int, float))
    }


def acts_apart(part):
    """Whether a layer may act in training otherwise than it does else.

    Keras' own noises and cells act on single numbers.
    """
    known = isinstance(part, NOISES) or draws_masks(part)
    return is_own(part) or bool(not known and seeds(part))


def seeds(part):
    """Variables from which random numbers of a layer are drawn."""
    return [
        leaf.state
        for value in vars(part).values()
        for leaf in keras.tree.flatten(value)
        if isinstance(leaf, keras.random.SeedGenerator)
    ]
