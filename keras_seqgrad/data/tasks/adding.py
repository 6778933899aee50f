"""The adding problem: remember two numbers among many."""

import numpy as np

from keras_seqgrad.data.tasks.base import Task, at_least


class Adding(Task):
    """Add the two marked numbers of a long sequence.

    Each step has a value, uniform in [0, 1], and a marker. The marker is 1 at
    one step of the first half and at one step of the second half, 0 elsewhere.
    The target is the sum of the two marked values, after the last step. A test
    of memory over about `length` / 2 steps; not one of precise timing.

    Shapes: x (batch, length, 2), y (batch, 1), both float32.

    `reference_error`, the mean squared error of always answering 1, is the
    variance of the sum of two uniform numbers: 2 / 12 = 1/6.

    Args:
        length: Number of steps, 2 or more.

    Raises:
        ValueError: `length` is too small.

    Reference:
        Hochreiter and Schmidhuber, 1997. Long short-term memory; here in the
        form of Le, Jaitly and Hinton, 2015, arXiv:1504.00941 (fixed length,
        values in [0, 1]).

    Example:

    >>> task = ksg.data.tasks.Adding(length=30)
    >>> x, y = next(iter(task.dataset(batch_size=20, steps=1, seed=0)))
    >>> x.shape, y.shape
    (TensorShape([20, 30, 2]), TensorShape([20, 1]))
    """

    reference_error = 1 / 6

    def __init__(self, length: int) -> None:
        self.length = at_least(length, 2, "length", "two steps are marked")

    def draw(self, count, generator):
        values = generator.random((count, self.length), dtype="float32")
        half = self.length // 2
        first = generator.integers(0, half, count)
        second = generator.integers(half, self.length, count)
        markers = np.zeros_like(values)
        rows = np.arange(count)
        markers[rows, first] = 1
        markers[rows, second] = 1
        target = values[rows, first] + values[rows, second]
        return np.stack([values, markers], axis=-1), target[:, np.newaxis]
