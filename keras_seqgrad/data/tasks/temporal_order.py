"""Temporal order: in which order did a few rare symbols appear?"""

import math

import numpy as np

from keras_seqgrad.data.tasks.base import Task, at_least
from keras_seqgrad.tensors import arguments

DISTRACTORS = 4
# Where the symbols lie, as parts of the sequence.
PLACES = {2: (0.1, 0.5), 3: (0.1, 0.33, 0.66)}
WIDTH = 0.1


class TemporalOrder(Task):
    """Tell the order of two (or three) rare symbols, X or Y each.

    All steps show one of four distractors, except that X or Y appears once in
    each of `symbols` places: at a random step of [0.1, 0.2] and [0.5, 0.6] of
    the sequence for two symbols, of [0.1, 0.2], [0.33, 0.43] and [0.66, 0.76]
    for three ("3-bit temporal order"). The class is the sequence of symbols:
    4 or 8 classes. A test of memory for order over half the length; the
    distractors carry nothing.

    Shapes: x float32 (batch, length, 6), one-hot: four distractors, X, Y;
    y int32 (batch,), the class with the first symbol as its highest bit (X is
    0, Y is 1): XX 0, XY 1, YX 2, YY 3.

    `reference_error` is the cross-entropy of guessing, ln(classes);
    `chance_accuracy` is 1 / classes.

    Args:
        length: Number of steps, 10 or more.
        symbols: 2 or 3.

    Raises:
        ValueError: `length` is too small or `symbols` is neither 2 nor 3.

    Reference:
        Hochreiter and Schmidhuber, 1997. Long short-term memory; here with a
        fixed length and without start and end symbols, as in Pascanu, Mikolov
        and Bengio, 2013, arXiv:1211.5063.

    Example:

    >>> task = ksg.data.tasks.TemporalOrder(length=60)
    >>> x, y = next(iter(task.dataset(batch_size=20, steps=1, seed=0)))
    >>> x.shape, y.shape, task.classes
    (TensorShape([20, 60, 6]), TensorShape([20]), 4)
    """

    def __init__(self, length: int, symbols: int = 2) -> None:
        if not arguments.is_integer(symbols) or symbols not in PLACES:
            arguments.refuse(
                symbols, "symbols", "2 (four classes) or 3 (eight classes)"
            )
        self.symbols = int(symbols)
        self.length = at_least(
            length, 10, "length", "each symbol has a tenth of the sequence"
        )

    @property
    def classes(self) -> int:
        return 2**self.symbols

    @property
    def chance_accuracy(self) -> float:
        return 1 / self.classes

    @property
    def reference_error(self):
        return math.log(self.classes)

    def draw(self, count, generator):
        shown = generator.integers(0, DISTRACTORS, (count, self.length))
        target = np.zeros(count, dtype="int32")
        for place in PLACES[self.symbols]:
            start = int(place * self.length)
            stop = int((place + WIDTH) * self.length)
            step = generator.integers(start, stop, count, endpoint=True)
            symbol = generator.integers(0, 2, count)
            shown[np.arange(count), step] = DISTRACTORS + symbol
            target = 2 * target + symbol.astype("int32")
        return np.eye(DISTRACTORS + 2, dtype="float32")[shown], target
