"""States between blocks as free variables, and the loss that binds them.

    L = loss of the window
        + unit * penalty / 2 * sum of ||f(h_b) + u_b - h_(b+1)||^2

summed over rows and boundaries: h are the targets, free but for the first; f
is the state that a block comes to from its target; u are scaled multipliers.
`unit` is such that L / unit is, for a row, the sum over its blocks of their
mean losses and penalties.
"""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from keras_seqgrad.ops import common
from keras_seqgrad.tensors import nested
from keras_seqgrad.tensors.shape import shape_of

STATE_OPTIMIZERS = ("adagrad", "sgd")
# As keras.optimizers.Adagrad has them.
FIRST_SQUARE, EPSILON = 0.1, 1e-7


@dataclasses.dataclass
class Pulled:
    """The Lagrangian at one place: what was run, and gradients.

    Attributes:
        loss: Loss of the window, the blocks started from their targets.
        outputs: Outputs of the window.
        end: State after the window.
        gradients: By the parameters, of the scaled L; or None.
        d_targets: By the targets, of L / unit; or None.
    """

    loss: Any
    outputs: Any
    end: Any
    gradients: Any = None
    d_targets: Any = None


def free_leaves(model):
    """For each flattened leaf of the state, whether it is a target.

    All floating ones are, but for outputs that are carried only so that a
    masked step can repeat them.
    """
    if model.is_opaque:
        state = keras.tree.flatten(model.initial_state(1))
        return [leaf.dtype.is_floating for leaf in state]
    marks = {}
    for key, carried in model.graph.zero_state(1).items():
        state, output = model.graph.nodes[key].split(carried)
        floating = keras.tree.map_structure(
            lambda leaf: leaf.dtype.is_floating, list(state)
        )
        marks[key] = [*floating, *(False for _ in output)]
    return keras.tree.flatten(marks)


def wide(tensor):
    """A state as a target: in float32, or float64 where it is."""
    return tf.cast(tensor, common.wide(tensor.dtype))


def run_in_order(blocks):
    """The window as it is.

    Returns:
        ((loss, outputs, state after), states between blocks).
    """
    window = blocks.window
    outputs, inner, end = blocks.run_in_order()
    loss = window.loss(window.whole(), outputs)
    return (loss, outputs, end), inner


def run_from_zeros(blocks, run):
    """States between blocks: zeros, or (`run`) what blocks make of them."""
    if blocks.is_single:
        return []
    inner = [
        tf.repeat(tf.zeros_like(leaf)[:, tf.newaxis], blocks.boundaries, 1)
        for leaf in keras.tree.flatten(blocks.window.state)
    ]
    return blocks.run(inner)[1] if run else inner


class Lagrangian:
    """The augmented Lagrangian of a window.

    What moves beside the parameters is a dict, the memory, of lists of tensors
    (batch, boundaries, ...): "targets"; "squares", AdaGrad's sums of squared
    gradients, empty for SGD; "multipliers".

    Args:
        blocks: The `Blocks` of the window.
        inner: For each leaf of the state (batch, boundaries, ...): where the
            blocks but the first start at first.
        penalty: Weight of the squared violations.
        optimizer: Of the targets, one of `STATE_OPTIMIZERS`.
        rate: Its learning rate.
    """

    def __init__(self, blocks, inner, penalty, optimizer, rate):
        self.blocks, self.window = blocks, blocks.window
        self.inner = [tf.stop_gradient(leaf) for leaf in inner]
        self.penalty = penalty
        self.optimizer, self.rate = optimizer, rate
        self.free = free_leaves(self.window.model) if inner else []

    def start(self):
        """The memory before the first step."""
        targets = [wide(leaf) for leaf in self._choose(self.inner)]
        squares = []
        if self.optimizer == "adagrad":
            squares = [tf.fill(tf.shape(t), FIRST_SQUARE) for t in targets]
            squares = [
                tf.cast(s, t.dtype)
                for s, t in zip(squares, targets, strict=True)
            ]
        return {
            "targets": targets,
            "squares": squares,
            "multipliers": nested.zeros_like(targets),
        }

    def _choose(self, leaves):
        """Those leaves that are targets."""
        pairs = zip(leaves, self.free, strict=True)
        return [leaf for leaf, free in pairs if free]

    def run(self, targets):
        """(outputs, f(h) - h for each target, state after the window).

        Where a row's sequence does not go on over a boundary the difference is
        0: nothing binds there.
        """
        given = iter(targets)
        inner = [
            tf.cast(next(given), leaf.dtype) if free else leaf
            for leaf, free in zip(self.inner, self.free, strict=True)
        ]
        outputs, met, end = self.blocks.run(inner)
        rows = self.blocks.crossed
        gaps = []
        for state, target in zip(self._choose(met), targets, strict=True):
            axes = [1] * (len(target.shape) - 2)
            crossed = tf.reshape(rows, [*shape_of(rows), *axes])
            gap = wide(state) - target
            gaps.append(tf.where(crossed, gap, tf.zeros_like(gap)))
        return outputs, gaps, end

    def unit(self, outputs):
        """What makes a row's own loss one of the window's."""
        window = self.window
        terms = window.count(window.whole(), outputs)
        length = 1.0 if window.one_target else float(self.blocks.length)
        return length / terms

    def pull(self, memory, parameters=True, targets=True):
        """The Lagrangian and its gradients by parameters and targets.

        Args:
            memory: The memory.
            parameters: Whether the parameters' gradient is wanted.
            targets: Whether the targets' is.

        Returns:
            (`Pulled`, f(h) - h).
        """
        window = self.window
        restore = window.learner.keep_output_losses()
        with tf.GradientTape() as tape:
            tape.watch(memory["targets"] if targets else [])
            outputs, gaps, end = self.run(memory["targets"])
            loss = window.loss(window.whole(), outputs)
            unit = self.unit(outputs)
            total = window.scale(loss + self._bound(gaps, memory, unit, loss))
        if not parameters:  # a step that is not logged
            restore()
        pulled = Pulled(loss, outputs, end)
        sources = {
            "gradients": window.variables if parameters else [],
            "d_targets": memory["targets"] if targets else [],
        }
        found = tape.gradient(total, sources)
        if parameters:
            pulled.gradients = nested.fill(found["gradients"], window.variables)
        if targets:
            scale = window.scale(unit)
            pulled.d_targets = [
                gradient / tf.cast(scale, gradient.dtype)
                for gradient in nested.fill(
                    found["d_targets"], memory["targets"]
                )
            ]
        return pulled, [tf.stop_gradient(gap) for gap in gaps]

    def _bound(self, gaps, memory, unit, loss):
        """The penalty, in units of the window's loss."""
        total = tf.zeros((), loss.dtype)
        for gap, multiplier in zip(gaps, memory["multipliers"], strict=True):
            square = tf.reduce_sum(tf.square(gap + multiplier))
            total += tf.cast(square, loss.dtype)
        return tf.cast(unit, loss.dtype) * self.penalty / 2 * total

    def move(self, memory, d_targets):
        """`memory` after a step of the targets along their gradient."""
        squares, steps = memory["squares"], d_targets
        if self.optimizer == "adagrad":
            squares = [
                s + tf.square(d)
                for s, d in zip(squares, d_targets, strict=True)
            ]
            steps = [
                d * tf.math.rsqrt(s + EPSILON)
                for s, d in zip(squares, d_targets, strict=True)
            ]
        targets = [
            target - self.rate * step
            for target, step in zip(memory["targets"], steps, strict=True)
        ]
        return memory | {"targets": targets, "squares": squares}

    def violation(self, gaps):
        """(mean of ||f(h) - h|| over rows and boundaries, their number)."""
        crossed = tf.cast(self.blocks.crossed, "float32")
        count = tf.reduce_sum(crossed)
        square = tf.zeros_like(crossed)
        for gap in gaps:
            axes = list(range(2, len(gap.shape)))
            gap = tf.cast(gap, "float32")
            square += tf.reduce_sum(tf.square(gap), axis=axes)
        total = tf.reduce_sum(tf.sqrt(square))
        return tf.math.divide_no_nan(total, count), count
