"""Loops over equal pieces of a sequence, with a shorter piece at the end."""

import keras
import tensorflow as tf

from keras_seqgrad import masks


def divide(steps, length):
    """Number of full pieces of `length` steps, and the steps left over.

    Where `steps` is a tensor at least one step is left over, so that the piece
    after the loop needs no condition.
    """
    if isinstance(steps, int):
        return steps // length, steps % length
    full = (steps - 1) // length
    return full, steps - full * length


def repeat(count, body, carry, backwards=False):
    """Runs `carry = body(index, carry)` for `count` indices.

    One compiled loop, so that the program does not grow with `count`. With
    several replicas an optimizer cannot be called inside a TensorFlow loop;
    the loop is then unrolled, for which `count` must be known.
    """
    known = isinstance(count, int)
    if known and count == 0:
        return carry
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if known and (count == 1 or replicas > 1):
        for index in reversed(range(count)) if backwards else range(count):
            carry = body(index, carry)
        return carry
    if replicas > 1:
        raise ValueError(
            "With more than one replica the number of time steps must be "
            "known. Give the dataset windows of a fixed length."
        )
    structure = carry
    carry = tf.nest.flatten(carry)

    def flat_body(index, flat):
        given = tf.nest.pack_sequence_as(structure, flat)
        at = count - 1 - index if backwards else index
        made = body(at, given)
        tf.nest.assert_same_structure(structure, made)
        return index + 1, [
            new
            if isinstance(new, tf.TensorArray)
            else tf.ensure_shape(new, old.shape)
            for new, old in zip(tf.nest.flatten(made), flat, strict=True)
        ]

    _, carry = tf.while_loop(
        lambda index, _: index < count,
        flat_body,
        (tf.constant(0), carry),
        maximum_iterations=count,
        parallel_iterations=1,
    )
    return tf.nest.pack_sequence_as(structure, carry)


def zeros_like(structure):
    """Zero tensors shaped as the leaves of `structure`."""
    return keras.tree.map_structure(tf.zeros_like, structure)


def fill(gradients, sources):
    """`gradients` with zeros where a source was not reached."""
    return [
        tf.zeros_like(tf.convert_to_tensor(source))
        if gradient is None
        else tf.convert_to_tensor(gradient)
        for gradient, source in zip(gradients, sources, strict=True)
    ]


def add(first, second):
    """Sums of the paired tensors of two lists."""
    return [a + b for a, b in zip(first, second, strict=True)]


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
        self.masked = None
        self.rest = None
        kept = [(t.shape, t.dtype) for t in tf.nest.flatten(before)]
        for flag, (shape, dtype) in zip(temporal, specs, strict=True):
            kept.append((shape, dtype))
            if flag:
                kept.append((shape[:2], "bool"))
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
        kept = tf.nest.flatten(before) + self._pieces(outputs)
        return [
            array.write(index, tensor)
            for array, tensor in zip(arrays, kept, strict=True)
        ]

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
        for flag, masked in zip(self.temporal, self.masked, strict=True):
            if not flag:
                array, tail = joined[place]
                result.append(array.stack()[-1] if tail is None else tail)
                place += 1
                continue
            output = _join(*joined[place])
            if masked:
                output = masks.attach(output, _join(*joined[place + 1]))
            result.append(output)
            place += 2
        return keras.tree.pack_sequence_as(structure, result)

    def _pieces(self, outputs):
        """Outputs, each of those with time followed by its mask."""
        pieces, self.masked = [], []
        for flag, output in zip(
            self.temporal, keras.tree.flatten(outputs), strict=True
        ):
            mask = masks.read(output) if flag else None
            self.masked.append(mask is not None)
            pieces.append(output)
            if flag and mask is None:
                mask = tf.ones(tf.shape(output)[:2], "bool")
            if flag:
                pieces.append(tf.cast(mask, "bool"))
        return pieces


def _join(array, tail):
    """Segments of an array (segment, batch, time, ...) one after another."""
    stacked = array.stack()
    stacked = tf.transpose(stacked, [1, 0, *range(2, stacked.shape.rank)])
    shape = tf.shape(stacked)
    whole = tf.reshape(
        stacked, tf.concat([shape[:1], [shape[1] * shape[2]], shape[3:]], 0)
    )
    return whole if tail is None else tf.concat([whole, tail], axis=1)
