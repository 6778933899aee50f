"""A long sequence cut in pieces, so that some things are never whole."""

import tensorflow as tf

from keras_seqgrad.ops.arguments import Links
from keras_seqgrad.ops.common import swap_time

# Shorter ones are a single piece: pieces spare memory, not time.
LONG = 1024
LENGTHS = range(128, 60, -4)


def split_steps(steps):
    """(steps ahead, pieces after them, steps of each) of a sequence.

    The first are those left over. One piece, whose length may be None for
    unknown, is all that a short sequence has.
    """
    if steps is None or steps < LONG:
        return 0, 1, steps
    length = min(LENGTHS, key=lambda length: steps % length)
    return steps % length, steps // length, length


class Cut:
    """A sequence in `count` pieces of `length` steps, which may be None.

    Sequences are (batch, time, features), and pieces of them time-major.
    """

    def __init__(self, count, length):
        self.count, self.length = count, length

    def loop(self, body, carry):
        """Runs `carry = body(index, carry)` for each piece."""
        if self.count == 1:
            return body(0, carry)
        _, carry = tf.while_loop(
            lambda index, _: index < self.count,
            lambda index, carry: (index + 1, body(index, carry)),
            (0, carry),
            parallel_iterations=1,
        )
        return carry

    def read(self, sequence, index):
        """Piece `index`, (length, batch, features)."""
        if self.count > 1:
            shape = [-1, self.count, self.length, sequence.shape[-1]]
            sequence = tf.gather(tf.reshape(sequence, shape), index, axis=1)
        return swap_time(sequence)

    def kept(self, outputs):
        """Outputs as they are kept for `read`.

        A matrix of all steps, which is how a dense layer takes them: of two
        shapes XLA would make two copies.
        """
        if self.count == 1:
            return outputs
        return tf.reshape(outputs, [-1, outputs.shape[-1]])

    def links(self, links, index):
        """`Links` of piece `index`."""
        if self.count == 1:
            return links

        def piece(each):
            if each is None:
                return None
            pieces = tf.reshape(
                each, [self.count, self.length, each.shape[1] or -1, 1]
            )
            return tf.gather(pieces, index)

        return Links(*map(piece, links))

    def array(self, like, width):
        """What `write` fills with pieces of a sequence of that width."""
        return tf.TensorArray(
            like.dtype,
            self.count,
            element_shape=[like.shape[0], self.length, width],
        )

    def write(self, array, index, piece):
        """`array` with the time-major piece `index`."""
        return array.write(index, swap_time(piece))

    def joined(self, array):
        """The sequence of the pieces in `array`."""
        if self.count == 1:
            return array.read(0)
        stacked = array.stack()
        _, batch, _, width = stacked.shape
        shape = [batch or -1, self.count * self.length, width]
        return tf.reshape(swap_time(stacked), shape)
