"""Pieces of a sequence: how it is divided, cut, and gone through in a loop."""

import tensorflow as tf

from keras_seqgrad.tensors import logits, masks, replicas
from keras_seqgrad.tensors.shape import shape_of


def divide(steps, length):
    """Number of full pieces of `length` steps, and the steps left over.

    Where `steps` is a tensor at least one step is left over, so that the piece
    after the loop needs no condition; of no steps none is.
    """
    if isinstance(steps, int):
        return steps // length, steps % length
    full = tf.maximum(steps - 1, 0) // length
    return full, steps - full * length


def dividing(steps, near, least=1):
    """A length near `near` that leaves nothing of `steps` over.

    A shorter last piece is all of a piece's program, compiled and kept once
    more.

    Args:
        steps: Steps to divide, or a tensor.
        near: The length that would be best.
        least: What the length must not be below.

    Returns:
        Of the lengths within a factor of two the nearest by its ratio to
        `near`; `near` itself if there is none, or `steps` is not known.
    """
    if not isinstance(steps, int):
        return near
    lengths = [
        length
        for length in range(max(least, near // 2 + 1), min(2 * near, steps + 1))
        if steps % length == 0
    ]
    return min(
        lengths,
        key=lambda length: max(length / near, near / length),
        default=near,
    )


def is_left(rest):
    """Whether steps are left over, as far as `divide` knows."""
    return not isinstance(rest, int) or rest > 0


def repeat(count, body, carry, backwards=False, alone=False):
    """Runs `carry = body(index, carry)` for `count` indices.

    One compiled loop, so that the program does not grow with `count`. With
    several replicas an optimizer cannot be called inside a TensorFlow loop;
    the loop is then unrolled, for which `count` must be known (it always is
    where it runs eagerly), unless `body` is known to run `alone`, asking
    nothing of other replicas.
    """
    several = replicas.count() > 1 and not alone
    if several and tf.executing_eagerly():
        count = int(count)
    known = isinstance(count, int)
    if known and count == 0:
        return carry
    if known and (count == 1 or several):
        for index in reversed(range(count)) if backwards else range(count):
            carry = body(index, carry)
        return carry
    if several:
        raise ValueError(
            "With more than one replica the number of time steps must be "
            "known. Give the dataset windows of a fixed length, or compile "
            "with run_eagerly=True."
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


def steps(tensor, start, length):
    """Steps `start` to `start + length` of (batch, time, ...)."""
    if isinstance(start, int) and isinstance(length, int):
        return tensor[:, start : start + length]
    shape = shape_of(tensor)
    if tensor.shape[1] is None:
        # XLA also compiles the loop bodies that a short window never runs.
        length = tf.minimum(length, shape[1])
    begin = [0, start] + [0] * (len(shape) - 2)
    return tf.slice(tensor, begin, [shape[0], length, *shape[2:]])


def cut(tensor, start, length):
    """`steps` of a tensor, its mask and its logits with it."""
    mask = masks.read(tensor)
    piece = logits.mapped(lambda leaf: steps(leaf, start, length), tensor)
    return (
        piece
        if mask is None
        else masks.attach(piece, steps(mask, start, length))
    )
