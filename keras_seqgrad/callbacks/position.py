"""Where in its data a training is, and how to come there again.

Batches that a run has seen are drawn again, and dropped. Data that is another
in every pass (shuffled, cut at random) depends on the passes before: they are
begun again, and left.
"""

import dataclasses
import itertools
import warnings

import keras
import tensorflow as tf

from keras_seqgrad.state import by_rows
from keras_seqgrad.state.runs import all_arrays


@dataclasses.dataclass
class Position:
    """Where a training is.

    Attributes:
        epoch: Epochs done.
        batch: Batches done of the next one.
        passes: Iterators over the data that are behind.
        drawn: Batches drawn from the one in use.
    """

    epoch: int = 0
    batch: int = 0
    passes: int = 0
    drawn: int = 0

    def advance(self, first, last):
        """Counts the batches of an execution, by their numbers."""
        self.batch = last + 1
        self.drawn += last + 1 - first

    def end_epoch(self, epoch, steps, length):
        """Counts an epoch.

        Args:
            epoch: Its number.
            steps: `steps_per_epoch` of the `fit`, or None.
            length: Batches of a pass, or None where that is not known.
        """
        # An iterator goes on in the next epoch only where `steps_per_epoch`
        # says so, and as long as it has not run out.
        over = steps is None or self.batch < steps
        if over or (length and self.drawn >= length):
            self.passes, self.drawn = self.passes + 1, 0
        self.epoch, self.batch = epoch + 1, 0


def length_of_pass(given, size):
    """Batches of one pass over the data of a `fit`; None if not known.

    Args:
        given: The arguments of `fit` by name.
        size: Batches of an execution.

    Raises:
        ValueError: `steps_per_epoch` does not suit it.
    """
    x, steps = given.get("x"), given.get("steps_per_epoch")
    length = None
    if steps and steps % size:
        raise ValueError(
            "BackupAndRestore needs epochs of whole executions. Expected in "
            f"steps_per_epoch a multiple of steps_per_execution={size}, "
            f"received {steps}."
        )
    if isinstance(x, tf.data.Dataset):
        length = int(x.cardinality())
        length = length if length > 0 else None
        if steps and length and length % steps:
            raise ValueError(
                "BackupAndRestore needs epochs that begin at the same places "
                "of every pass over the data. Expected in steps_per_epoch a "
                f"divisor of the {length} batches, received {steps}. Or "
                "repeat() the dataset."
            )
    elif steps and (whole(x) or getattr(x, "num_batches", None)):
        raise ValueError(
            "BackupAndRestore cannot tell where in the data an epoch of "
            f"steps_per_epoch={steps} begins. Expected a tf.data.Dataset or "
            f"no steps_per_epoch, received {type(x).__name__}."
        )
    return length


def whole(x):
    """Whether data is given as arrays."""
    return all_arrays(keras.tree.flatten(x))


def come_again(given, position, length):
    """The data of a `fit` of which `position` is still to be drawn.

    Args:
        given: The arguments of `fit` by name.
        position: The `Position`; passes behind are brought behind again.
        length: Batches of a pass, or None.

    Returns:
        x, as it is to be given to `fit`.
    """
    x = given.get("x")
    shuffles = whole(x) or isinstance(x, keras.utils.PyDataset)
    if shuffles and given.get("shuffle"):
        warnings.warn(
            "The data is shuffled anew, since fit(shuffle=True) draws orders "
            "that cannot be drawn again: training goes on, though not as it "
            f"would have without the stop. In epoch {position.epoch + 1} "
            "some rows may come twice and some not at all. Expected "
            "shuffle=False, or a tf.data.Dataset with shuffle(..., seed=...).",
            stacklevel=2,
        )
    if not isinstance(x, tf.data.Dataset):
        return x
    for _ in range(position.passes):
        next(iter(x), None)
        if length and not given.get("steps_per_epoch"):
            # Keras makes one more at the end of each, and makes no use of it.
            iter(x)
    if given.get("steps_per_epoch") and length:
        # The first pass is shorter now, which Keras cannot know.
        return x.repeat()
    return x


class Skipping(by_rows.StandIn):
    """Stands for the function of a training until its data is there.

    The first execution is one of the step itself, which makes all variables
    that a step makes; then everything is restored.

    Args:
        model: The model.
        ahead: Batches to drop before the epoch's first.
        executions: How many executions the epoch has behind it.
        restore: Function () that makes the model what it was.
    """

    def __init__(self, model, ahead, executions, restore):
        super().__init__(model, "training")
        self.ahead = ahead
        self.executions = executions
        self.restore = restore
        self.done = 0

    def __call__(self, iterator):
        drop(iterator, self.ahead)
        self.ahead = 0
        if not self.executions:
            self.end()
            return self.function(iterator)
        if self.done == 0:
            self.function(iterator)
            # What compiles for rows has put itself here.
            self.begin()
            self.restore()
        elif not drop(iterator, self.model.steps_per_execution):
            raise StopIteration
        self.done += 1
        if self.done == self.executions:
            # Once more: callbacks have seen the batches pass.
            self.restore()
            self.end()
        return self.model.get_metrics_result()


def drop(iterator, count):
    """Draws batches; returns how many there were."""
    return sum(1 for _ in itertools.islice(iterator, count))
