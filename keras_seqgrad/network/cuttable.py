"""Proof by numbers that a graph may be cut in time."""

import itertools

from keras_seqgrad.network import example as examples
from keras_seqgrad.network.refusals import CannotCut
from keras_seqgrad.network.replay import without_dropout
from keras_seqgrad.network.trial import Trial
from keras_seqgrad.tensors import masks

# Stands for the unknown example on which a saved model passed.
PASSED = object()


class NoExample(ValueError):
    """There are no inputs to check a model with."""


def check_model(model, example=None):
    """Refuses a model whose network cannot be cut in time.

    Args:
        model: The `SegmentedModel`.
        example: Inputs as `fit` takes them; None to draw some; or `PASSED`,
            to leave the check out where none can be drawn.
    """
    if model.is_opaque:
        return
    passed = example is PASSED
    if passed or example is None:
        example = None
    else:
        example, _, _ = masks.unpack(model.arranged(example))
    try:
        check(model.graph, example)
    except NoExample:
        if not passed:
            raise


def check(graph, example=None):
    """Refuses a graph whose layers mix time steps, by layer name.

    Those that have no recurrent layer behind them it leaves to a `Head`.

    Args:
        graph: The `Graph` of the model.
        example: Inputs that its model accepts, or None to draw some.

    Raises:
        NoExample: On no inputs does the model run and give finite numbers.
        ValueError: A layer's outputs change when the sequence is cut, or
            segments do not give the outputs of Keras.
    """
    while True:
        try:
            return _try(graph, example)
        except CannotCut as found:
            graph.leave_to_head(found)


def _try(graph, example):
    if example is None:
        tried, which = examples.drawn(graph), "all inputs that were drawn"
    else:
        tried, which = [examples.given(graph, example)], "the example"
    trial = Trial(graph, thorough=example is not None)
    with without_dropout(trial.layers), trial.undisturbed():
        for inputs in tried:
            trial.run(inputs)
            if trial.reason() is None:
                break
        else:
            raise NoExample(
                "The check that this model may be cut in time found no "
                f"answer: on {which}, {trial.reason()}. Give it one batch of "
                "inputs on which all layers make finite numbers, some rows of "
                "your data: compile(..., example=x)."
            ) from trial.failure
        if example is None:
            reveal(graph, trial)


def reveal(graph, trial):
    """Tries what may change tensors that have been the same at all steps."""
    draws = examples.drawn(graph, examples.REVEALING)
    for inputs in itertools.islice(draws, len(examples.REVEALING)):
        if trial.untold:
            trial.run(inputs)
