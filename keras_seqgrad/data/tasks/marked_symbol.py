"""Marked symbol: an endless stream, asked about long after."""

import math
from collections.abc import Sequence

import numpy as np

from keras_seqgrad.data.tasks.base import Task, at_least
from keras_seqgrad.tensors import arguments


class MarkedSymbol(Task):
    """Tell the marked symbol of a stream when it is asked for, later on.

    Each row is a stream that never ends, without resets. A cycle of it is
    `shown` steps with a random symbol each, one of which is marked, then a
    delay of blank steps, drawn anew each time, then a step that asks for the
    marked symbol. So from the marker to its question there are more than
    `delay[0]` steps, and nothing nearer tells the answer. It shows who learns
    from what lies further back than the segments of an update.

    The windows of a dataset go on where the last ones ended; for a model with
    `stateful=True`. Every pass begins anew.

    Shapes:
        x: float32 (batch, length, symbols + 2): the symbol, the marker, and
            the question.
        y: int32 (batch, length): the symbol asked for, 0 where none is.
        sample_weight: float32 (batch, length): 1 at questions, else 0.

    `reference_error` is the crossentropy of not knowing, ln `symbols` at each
    question; `1 / symbols` of such answers are right.

    Args:
        length: Steps of a window.
        delay: Least and largest number of blank steps.
        symbols: Number of symbols.
        shown: Symbols of a cycle.

    Raises:
        ValueError: A number is not a positive integer, there is one symbol
            only, or the largest delay is below the least.

    Example:

    >>> task = ksg.data.tasks.MarkedSymbol(length=100, delay=(20, 30))
    >>> x, y, weight = next(iter(task.dataset(batch_size=4, steps=1, seed=0)))
    >>> x.shape, y.shape, weight.shape
    (TensorShape([4, 100, 10]), TensorShape([4, 100]), TensorShape([4, 100]))
    """

    def __init__(
        self,
        length: int,
        delay: Sequence[int] = (40, 50),
        symbols: int = 8,
        shown: int = 10,
    ) -> None:
        self.length = arguments.positive_integer(length, "length")
        if not isinstance(delay, (list, tuple)) or len(delay) != 2:
            arguments.refuse(delay, "delay", "two integers, (least, largest)")
        least, largest = delay
        least = arguments.positive_integer(least, "delay[0]")
        self.delay = (
            least,
            at_least(largest, least, "delay[1]", "it is the largest delay"),
        )
        reason = "of one there is nothing to tell"
        self.symbols = at_least(symbols, 2, "symbols", reason)
        self.shown = arguments.positive_integer(shown, "shown")

    @property
    def reference_error(self):
        return math.log(self.symbols)

    def draw(self, count, generator):
        return next(self.batches(count, generator))

    def batches(self, batch_size, generator):
        rows = [[np.zeros((0, self.symbols + 3))] for _ in range(batch_size)]
        while True:
            for row in rows:
                while sum(map(len, row)) < self.length:
                    row.append(self._cycle(generator))
                row[:] = [np.concatenate(row)]
            window = np.stack([row[0][: self.length] for row in rows])
            rows = [[row[0][self.length :]] for row in rows]
            x, y = window[..., :-1], window[..., -1]
            yield (
                x.astype("float32"),
                y.astype("int32"),
                x[..., -1].astype("float32"),
            )

    def _cycle(self, generator):
        """(steps, symbols + 3): the inputs of a cycle, and the target."""
        least, largest = self.delay
        blank = generator.integers(least, largest + 1)
        shown = generator.integers(0, self.symbols, self.shown)
        marked = generator.integers(self.shown)
        steps = np.zeros((self.shown + blank + 1, self.symbols + 3))
        steps[np.arange(self.shown), shown] = 1
        steps[marked, self.symbols] = 1
        steps[-1, self.symbols + 1] = 1
        steps[-1, -1] = shown[marked]
        return steps
