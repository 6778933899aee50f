"""The blocks of a window, run side by side as the rows of one batch.

Once the states between blocks are given, no block has to wait for another: a
window of T steps is one scan of B steps over T / B times as many rows.
"""

import keras
import tensorflow as tf

from keras_seqgrad.tensors import logits, masks, pieces
from keras_seqgrad.tensors.shape import shape_of
from keras_seqgrad.window import added
from keras_seqgrad.window.loops import each_segment_kept
from keras_seqgrad.window.window import Window


def regroup(tensor, leading, axes):
    """`tensor` with its first `axes` axes reshaped to `leading`; mask too."""
    shape = shape_of(tensor)
    made = logits.mapped(
        lambda leaf: tf.reshape(leaf, [*leading, *shape[axes:]]), tensor
    )
    mask = masks.read(tensor) if axes == 2 else None
    if mask is None:
        return made
    return masks.attach(made, tf.reshape(mask, leading))


def append(first, second):
    """Two pieces of a sequence as one; masks with them."""
    joined = logits.mapped(
        lambda *leaves: tf.concat(leaves, axis=1), first, second
    )
    marks = [masks.read(first), masks.read(second)]
    if any(mask is None for mask in marks):
        return joined
    return masks.attach(joined, tf.concat(marks, axis=1))


class Blocks:
    """The blocks of a window.

    A last block that is shorter than the others runs after them, by itself.

    Args:
        window: The `Window`.
        length: Steps of a block.

    Attributes:
        boundaries: Number of boundaries between blocks, one less than blocks.
        crossed: Boolean (batch, boundaries): boundaries over which a row's
            sequence goes on. It does not where the step behind is a reset, or
            where masks leave no further step.
    """

    def __init__(self, window, length):
        self.window, self.length = window, length
        self.full, self.rest = pieces.divide(window.steps, length)
        self.has_rest = pieces.is_left(self.rest)
        self.boundaries = self.full - 1 + self.has_rest
        self.folded = self._fold() if not self.is_single else None
        self.crossed = self._crossed()

    @property
    def is_single(self):
        """Whether the window is known to be one block."""
        return isinstance(self.boundaries, int) and self.boundaries == 0

    def _fold(self):
        """The full blocks as one window: row r of block b is row r * full + b.

        It has inputs and no targets.
        """
        window, full, length = self.window, self.full, self.length
        rows, steps = window.batch_size, full * length
        model = window.model

        def fold(tensor):
            if tensor is None:
                return None
            cut = pieces.cut(tensor, 0, steps)
            return regroup(cut, [rows * full, length], 2)

        given = keras.tree.flatten(window.inputs)
        temporal = [True] * len(given)
        if not model.is_opaque:
            temporal = model.graph.temporal_inputs
        flat = [
            fold(tensor) if has_time else tf.repeat(tensor, full, axis=0)
            for tensor, has_time in zip(given, temporal, strict=True)
        ]
        x = {
            "inputs": keras.tree.pack_sequence_as(window.inputs, flat),
            "reset": fold(window.reset),
            "mask": fold(window.mask),
        }
        begins = tf.reshape(window.fresh, [-1, 1]) & (tf.range(full) == 0)
        begins = tf.broadcast_to(begins, [rows, full])
        return Window(
            model,
            (x, None, None),
            window.state,
            tf.reshape(begins, [rows * full]),
            window.training,
            window.scaled,
            window.kernels,
        )

    def _crossed(self):
        window, length = self.window, self.length
        crossed = tf.fill([window.batch_size, self.boundaries], True)
        if window.reset is not None:
            crossed &= ~window.reset[:, length::length]
        if window.lengths is not None:
            starts = length * tf.range(1, self.boundaries + 1)
            crossed &= window.lengths[:, tf.newaxis] > starts
        return crossed

    def _of_last(self, blocks, rest=None):
        """What the last block of each row has, (batch, ...).

        Args:
            blocks: (batch, full, ...), that of the full blocks.
            rest: (batch, ...), that of the shorter one behind them, or None.
        """
        lengths = self.window.lengths
        if lengths is None:
            return blocks[:, -1] if rest is None else rest
        if rest is not None:
            blocks = tf.concat([blocks, rest[:, tf.newaxis]], axis=1)
        place = (lengths - 1) // self.length
        return tf.gather(blocks, place, axis=1, batch_dims=1)

    def run(self, inner):
        """Runs all blocks, each from the state given for it.

        Args:
            inner: For each leaf of the state (batch, boundaries, ...): where
                all blocks but the first start.

        Returns:
            (outputs of the window, inner states (batch, boundaries, ...) that
            the blocks came to, state after the window).
        """
        window, full = self.window, self.full
        if self.is_single:
            outputs, end = window.forward(window.whole(), window.state)
            return outputs, inner, end
        rows = window.batch_size
        begin = keras.tree.flatten(window.state)
        starts = [
            tf.concat([first[:, tf.newaxis], states], axis=1)
            for first, states in zip(begin, inner, strict=True)
        ]
        state = [regroup(start[:, :full], [rows * full], 2) for start in starts]
        state = keras.tree.pack_sequence_as(window.state, state)
        outputs, ends = self.folded.forward(self.folded.whole(), state)
        ends = [
            regroup(end, [rows, full], 1) for end in keras.tree.flatten(ends)
        ]
        # Layers may add losses of their own, means over other rows and steps.
        added.refuse_more(window)
        tail, rests = None, [None] * len(ends)
        if self.has_rest:
            segment = window.segment(full * self.length, self.rest)
            state = [start[:, full] for start in starts]
            state = keras.tree.pack_sequence_as(window.state, state)
            tail, rests = window.forward(segment, state)
        last = map(self._of_last, ends, keras.tree.flatten(rests))
        last = keras.tree.pack_sequence_as(window.state, [*last])
        met = [end[:, : self.boundaries] for end in ends]
        return self._unfold(outputs, tail), met, last

    def _unfold(self, outputs, tail):
        """Outputs of the window from those of the blocks."""
        flat = keras.tree.flatten(outputs)
        tails = [None] * len(flat)
        if tail is not None:
            tails = keras.tree.flatten(tail)
        joined = []
        rows, full, length = self.window.batch_size, self.full, self.length
        temporal = self.window.model.temporal_outputs
        for output, rest, has_time in zip(flat, tails, temporal, strict=True):
            if has_time:
                output = regroup(output, [rows, full * length], 2)
                output = output if rest is None else append(output, rest)
            else:
                output = regroup(output, [rows, full], 1)
                output = logits.mapped(self._of_last, output, rest)
            joined.append(output)
        return keras.tree.pack_sequence_as(outputs, joined)

    def run_in_order(self):
        """Runs the blocks one after another, as the model is used.

        Returns:
            As `run`.
        """
        window = self.window
        if self.is_single:
            return self.run([])
        end, outputs, trail = each_segment_kept(
            window, self.length, window.forward, window.state
        )
        added.refuse_more(window)
        inner = []
        for place, last in enumerate(keras.tree.flatten(trail.before_rest[0])):
            states = trail.arrays[place].stack()
            if self.has_rest:
                states = tf.concat([states, last[tf.newaxis]], axis=0)
            states = states[1:]
            axes = [1, 0, *range(2, states.shape.rank)]
            inner.append(tf.transpose(states, axes))
        return outputs, inner, end
