"""Stacked cells, run one after another instead of step by step."""

import keras
import pytest
import tensorflow as tf

from keras_seqgrad.layers.scan import is_stack
from tests.layers.problem import (
    BATCH,
    STEPS,
    Problem,
    assert_close,
    mask_from,
    random,
    stack,
)


class StepByStep(keras.layers.StackedRNNCells):
    """A class of its own, of which nothing is known."""


def as_one(cells):
    return StepByStep(cells.cells)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"dropout": 0.4}])
def test_is_the_stack_step_by_step(options):
    ours = Problem(stack(**options))
    whole = Problem(as_one(stack(**options)))
    whole.cell.set_weights(ours.cell.get_weights())
    assert is_stack(ours.cell) and not is_stack(whole.cell)
    links = {
        "gates": random(BATCH, STEPS, seed=5),
        "reset": ~mask_from(0),
        "reset_state": keras.tree.map_structure(lambda s: s + 1, ours.state),
        "training": bool(options),
    }
    found = ours.gradients(ours.scan, **links)
    assert_close(found, whole.gradients(whole.scan, **links))
    for name in ("gates", "reset_state"):
        with pytest.raises(AssertionError):
            others = whole.gradients(whole.scan, **{**links, name: None})
            assert_close(found, others)


def test_masked_steps_repeat_the_output_of_the_whole():
    """So a stack with a mask is run step by step."""
    ours, whole = Problem(stack()), Problem(as_one(stack()))
    whole.cell.set_weights(ours.cell.get_weights())
    links = {"mask": mask_from(0), "previous_output": random(BATCH, 5, seed=8)}
    found = ours.gradients(ours.scan, **links)
    assert_close(found, whole.gradients(whole.scan, **links))


def test_no_stack():
    cells = [keras.layers.GRUCell(2), keras.layers.GRUCell(2, dtype="float64")]
    assert not is_stack(keras.layers.StackedRNNCells(cells))
    changed = keras.layers.StackedRNNCells(cells[:1])
    changed.call = lambda inputs, states: (inputs, states)
    assert not is_stack(changed)
    assert not is_stack(cells[0])


@pytest.mark.compiled
def test_keras_equals_it_compiled():
    problem = Problem(stack())
    expected = problem.gradients(problem.keras)
    run = tf.function(problem.gradients, autograph=False)
    assert_close(run(problem.scan), expected)
