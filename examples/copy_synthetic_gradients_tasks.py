"""The levels of `copy_synthetic_gradients.py`, and streams of each."""

import numpy as np

import keras_seqgrad as ksg


def make_task(name, level, bits):
    """The task of a level of the curriculum, counted from 0."""
    pattern, repeats = level + 1, 1
    if name == "repeat_copy":
        pattern, repeats = level // 2 + 1, (level + 3) // 2
    return ksg.data.tasks.RepeatCopy(pattern, repeats, bits, varied=False)


def draw_stream(task, rows, steps, generator):
    """Rows of sequences one after another, each row from a random phase.

    A row may begin within a sequence: what it should write of a pattern it has
    not read has no weight. All other targets have the same weight, such that
    the mean loss over steps is about the mean loss over targets.

    Returns:
        ({"inputs": (rows, steps, bits + 2), "reset": (rows, steps)},
        targets (rows, steps, bits), weights (rows, steps)).
    """
    count = steps // task.time + 2
    drawn = task.draw(rows * count, generator)
    at = generator.integers(0, task.time, (rows, 1)) + np.arange(steps)
    row = np.arange(rows)[:, np.newaxis]
    inputs, y, weight = (
        part.reshape(rows, count * task.time, *part.shape[2:])[row, at]
        for part in drawn
    )
    reset = at % task.time == 0
    begun = np.logical_or.accumulate(reset, axis=1)
    return {"inputs": inputs, "reset": reset}, y, weight * begun
