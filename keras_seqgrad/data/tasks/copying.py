"""Copy and repeat copy: store a random pattern, then write it out."""

import math

import numpy as np

from keras_seqgrad.data.tasks.base import Task
from keras_seqgrad.tensors import arguments


class RepeatCopy(Task):
    """Read a random pattern of bits, then write it out several times.

    A sequence is n steps of `bits` random bits, one step that marks the end of
    the pattern and says how often to repeat it (r), then n * r steps without
    input, in which the pattern is the target. n and r are drawn anew for each
    example from 1 … `length` and 1 … `repeats`, or are always the largest
    with `varied=False`; shorter examples are padded at the end. For a
    curriculum, make a new task with larger numbers.

    There is no end marker among the targets: which steps count is said by the
    sample weights.

    Shapes:
        x: float32 (batch, time, bits + 2): the bits, the marker, and at the
            marker the number of repeats divided by `repeats`;
            time = length + 1 + length * repeats.
        y: float32 (batch, time, bits): the bits to write, 0 where none counts.
        sample_weight: float32 (batch, time): 0 where nothing is to be written,
            else (batch * time) / (number of target steps in the batch). So
            the loss of a batch is the mean over its target steps.

    `reference_error` is the binary cross-entropy of the answer 1/2 for every
    bit, the best without memory: ln 2 nats, 1 bit per bit. A sequence costs
    `bits_per_sequence` bits then; the literature reports that scale, so
    multiply a measured loss, in bits, by it.

    Args:
        length: Longest pattern in steps.
        repeats: Largest number of repeats.
        bits: Bits in a step.
        varied: Whether lengths and repeats are drawn for each example.

    Raises:
        ValueError: A number is not a positive integer.

    Reference:
        Graves, Wayne and Danihelka, 2014. Neural Turing machines.
        arXiv:1410.5401.

    Example:

    >>> task = ksg.data.tasks.RepeatCopy(length=3, repeats=2, bits=8)
    >>> x, y, weight = next(iter(task.dataset(batch_size=4, steps=1, seed=0)))
    >>> x.shape, y.shape, weight.shape
    (TensorShape([4, 10, 10]), TensorShape([4, 10, 8]), TensorShape([4, 10]))
    """

    reference_error = math.log(2)

    def __init__(
        self, length: int, repeats: int = 2, bits: int = 8, varied: bool = True
    ) -> None:
        self.length = arguments.positive_integer(length, "length")
        self.repeats = arguments.positive_integer(repeats, "repeats")
        self.bits = arguments.positive_integer(bits, "bits")
        self.varied = arguments.flag(varied, "varied")

    @property
    def time(self) -> int:
        """Steps of a sequence, padding included."""
        return self.length + 1 + self.length * self.repeats

    @property
    def bits_per_sequence(self) -> float:
        """Mean number of bits to be written in one sequence."""
        if self.varied:
            return self.bits * (self.length + 1) * (self.repeats + 1) / 4
        return self.bits * self.length * self.repeats

    def draw(self, count, generator):
        lengths = np.full(count, self.length)
        repeats = np.full(count, self.repeats)
        if self.varied:
            lengths = generator.integers(1, self.length + 1, count)
            repeats = generator.integers(1, self.repeats + 1, count)
        pattern = generator.integers(0, 2, (count, self.length, self.bits))
        lengths, repeats = lengths[:, np.newaxis], repeats[:, np.newaxis]
        rows = np.arange(count)[:, np.newaxis]
        step = np.arange(self.time)
        writing = step - lengths - 1
        counts = (writing >= 0) & (writing < lengths * repeats)

        x = np.zeros((count, self.time, self.bits + 2), dtype="float32")
        x[:, : self.length, : self.bits] = pattern
        x[step >= lengths] = 0
        x[rows, lengths, -2] = 1
        x[rows, lengths, -1] = repeats / self.repeats
        y = np.where(
            counts[..., np.newaxis], pattern[rows, writing % lengths], 0
        )
        weight = counts * (counts.size / counts.sum())
        return x, y.astype("float32"), weight.astype("float32")


def copy(length: int, bits: int = 8, varied: bool = True) -> RepeatCopy:
    """Read a random pattern of bits, then write it out once.

    `RepeatCopy` with one repeat: see there for shapes and weights.

    Args:
        length: Longest pattern.
        bits: Bits of each symbol.
        varied: Whether each sequence draws its own length up to `length`.

    Raises:
        ValueError: A number is below 1.

    Example:

    >>> ksg.data.tasks.copy(length=20, varied=False).bits_per_sequence
    160
    """
    return RepeatCopy(length, repeats=1, bits=bits, varied=varied)
