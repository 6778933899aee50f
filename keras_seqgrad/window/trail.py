"""What a forward loop over segments leaves for a backward one."""

import keras
import tensorflow as tf

from keras_seqgrad.tensors import logits, masks
from keras_seqgrad.tensors.shape import shape_of


class Trail:
    """What a forward loop over segments leaves for a backward one.

    Kept are, for every segment, the tensors before it (`before`), and the
    outputs of the whole window (`outputs`), masks included. Outputs without a
    time axis are the last segment's.

    Args:
        temporal: For each flattened output, whether it has a time axis.
        specs: (shape, dtype) of each in a full segment.
        before: Nested tensors as they are before the first segment.
        full: Number of full segments.
    """

    def __init__(self, temporal, specs, before, full):
        self.temporal = temporal
        self.structure = before
        self.masked = self.activations = None
        self.rest = None
        kept = []
        for flag, (shape, dtype) in zip(temporal, specs, strict=True):
            kept.append((shape, dtype))
            if flag:
                kept.append((shape[:2], "bool"))
        self.shapes = [shape for shape, _ in kept]
        kept = [(t.shape, t.dtype) for t in tf.nest.flatten(before)] + kept
        self.arrays = [
            tf.TensorArray(
                dtype,
                size=full,
                clear_after_read=False,
                element_shape=[
                    size if isinstance(size, int) else None for size in shape
                ],
            )
            for shape, dtype in kept
        ]

    def write(self, arrays, index, before, outputs):
        """`arrays` with what belongs to full segment `index`."""
        kept = tf.nest.flatten(before)
        kept += map(self._full, self._pieces(outputs), self.shapes)
        return [
            array.write(index, tensor)
            for array, tensor in zip(arrays, kept, strict=True)
        ]

    def keep(self, arrays):
        """Keeps the arrays as they are after the last full segment."""
        # TensorFlow reports one that nobody has looked at since its last write.
        self.arrays = [array.identity() for array in arrays]

    def _full(self, tensor, shape):
        """A piece as long as a full segment.

        XLA also compiles the body of a loop that a short window never runs, on
        pieces that are shorter.
        """
        length = shape[1] if len(shape) > 1 else None
        if not isinstance(length, int) or tensor.shape[1] is not None:
            return tensor
        missing = [[0, 0] for _ in tensor.shape]
        missing[1][1] = length - shape_of(tensor)[1]
        return tf.ensure_shape(
            tf.pad(tensor, missing),
            [*tensor.shape[:1], length, *tensor.shape[2:]],
        )

    def before(self, index):
        """The tensors kept from before full segment `index`."""
        count = len(tf.nest.flatten(self.structure))
        return tf.nest.pack_sequence_as(
            self.structure, [a.read(index) for a in self.arrays[:count]]
        )

    def outputs(self, structure):
        """Outputs of the window, in the structure of the model's outputs."""
        count = len(tf.nest.flatten(self.structure))
        rest = None if self.rest is None else self._pieces(self.rest)
        arrays = self.arrays[count:]
        joined = []
        for position, array in enumerate(arrays):
            joined.append((array, None if rest is None else rest[position]))
        result, place = [], 0
        for flag, masked, activation in zip(
            self.temporal, self.masked, self.activations, strict=True
        ):
            if not flag:
                array, tail = joined[place]
                last = array.stack()[-1] if tail is None else tail
                result.append(logits.made(activation, last))
                place += 1
                continue
            output = logits.made(activation, _join(*joined[place]))
            if masked:
                output = masks.attach(output, _join(*joined[place + 1]))
            result.append(output)
            place += 2
        return keras.tree.pack_sequence_as(structure, result)

    def _pieces(self, outputs):
        """Outputs, each of those with time followed by its mask."""
        pieces, self.masked, self.activations = [], [], []
        for flag, output in zip(
            self.temporal, keras.tree.flatten(outputs), strict=True
        ):
            # Else TensorFlow would look for a way back through the loop.
            activation, leaf = logits.read(output)
            self.activations.append(activation)
            pieces.append(tf.stop_gradient(leaf))
            masked = False
            if flag:
                mask, masked = _mask_of(output)
                pieces.append(mask)
            self.masked.append(masked)
        return pieces


class PiecesTrail:
    """The outputs of pieces of any length, put one behind another.

    Args:
        specs: Keras tensors like the outputs, which all have a time axis.
        count: Number of pieces.
    """

    def __init__(self, specs, count):
        self.structure = self.masked = self.activations = None
        # Time first: what is put together are first axes.
        self.arrays = [
            tf.TensorArray(
                dtype,
                size=count,
                infer_shape=False,
                element_shape=[None, None, *features],
            )
            for spec in specs
            for dtype, features in ((spec.dtype, spec.shape[2:]), ("bool", ()))
        ]

    def write(self, arrays, index, outputs):
        """`arrays` with the outputs of piece `index`."""
        self.structure, self.masked, self.activations = outputs, [], []
        kept = []
        for output in keras.tree.flatten(outputs):
            mask, masked = _mask_of(output)
            self.masked.append(masked)
            activation, leaf = logits.read(output)
            self.activations.append(activation)
            kept += [leaf, mask]
        return [
            array.write(index, _swapped(tensor))
            for array, tensor in zip(arrays, kept, strict=True)
        ]

    def outputs(self, arrays):
        """Outputs of the window, masks with them."""
        joined = [_swapped(array.concat()) for array in arrays]
        made = [
            masks.attach(
                logits.made(activation, leaf), mask if masked else None
            )
            for activation, leaf, mask, masked in zip(
                self.activations,
                joined[::2],
                joined[1::2],
                self.masked,
                strict=True,
            )
        ]
        return keras.tree.pack_sequence_as(self.structure, made)


def _mask_of(output):
    """(mask of an output with time, all True without one; whether it has)."""
    mask = masks.read(output)
    if mask is None:
        return tf.ones(shape_of(output)[:2], "bool"), False
    return tf.cast(mask, "bool"), True


def _swapped(tensor):
    """A tensor with its first two axes swapped."""
    return tf.transpose(tensor, [1, 0, *range(2, tensor.shape.rank)])


def _join(array, tail):
    """Segments of an array (segment, batch, time, ...) one after another."""
    stacked = _swapped(array.stack())
    rows, segments, steps, *others = shape_of(stacked)
    whole = tf.reshape(stacked, [rows, segments * steps, *others])
    return whole if tail is None else tf.concat([whole, tail], axis=1)
