"""Thousands of calls with one bad argument: each is refused by its name."""

import inspect
import re

import pytest

from tests.calls.kinds import VALUES, bad, legal
from tests.calls.of_data import DATA
from tests.calls.of_diagnostics import DIAGNOSTICS
from tests.calls.of_layers import LAYERS, OPS, OTHERS
from tests.calls.of_methods import CALLBACKS, METHODS
from tests.calls.of_model import MODEL
from tests.public_names import public_names

CALLS = METHODS | CALLBACKS | DATA | DIAGNOSTICS | LAYERS | OPS | OTHERS | MODEL

# What Keras checks itself, and what a diagnostic makes and no user.
OTHERS_CHECK = {"args", "kwargs", "options"}
RESULTS = {
    "data.text.Corpus",
    "diagnostics.Advice",
    "diagnostics.BoundaryGradients",
    "diagnostics.GradientComparison",
    "diagnostics.GradientQuality",
    "diagnostics.InfluenceProfile",
    "diagnostics.JacobianSpectrum",
}
# These need a data set that is not there.
NEED_DATA = {"data.tasks.SequentialMNIST", "data.text.tiny_shakespeare"}
# What an error of a Python comparison or conversion would say.
OBSCURE = re.compile(
    "not supported between|object is not|has no attribute|unhashable|"
    "could not convert|invalid literal|Invalid dtype|expected str, bytes"
)


def refusals(call, argument, kind):
    """(name of the value, what is wrong with its refusal)."""
    named = call.said.get(argument, argument)
    for name in bad(kind):
        try:
            call.make(**call.good | {argument: VALUES[name]})
        except (ValueError, TypeError, FileNotFoundError) as error:
            text = str(error)
            if named not in text or "eceived" not in text:
                yield name, text
            elif OBSCURE.search(text):
                yield name, text
        else:
            yield name, "accepted"


@pytest.mark.parametrize("name", CALLS)
def test_bad_arguments_are_refused_by_name(name):
    call = CALLS[name]
    wrong = {
        (argument, value): text
        for argument, kind in call.kinds.items()
        for value, text in refusals(call, argument, kind)
    }
    assert wrong == {}


@pytest.mark.parametrize("name", CALLS)
def test_good_arguments_are_not(name):
    call = CALLS[name]
    call.make(**call.good)
    for argument, kind in call.kinds.items():
        for value in () if call.dear else legal(kind):
            call.make(**call.good | {argument: VALUES[value]})


def test_how_many():
    kinds = [kind for call in CALLS.values() for kind in call.kinds.values()]
    assert sum(len(bad(kind)) for kind in kinds) >= 4000


def test_every_argument_of_every_public_name_is_tried():
    untried = {}
    for path, value in public_names(prefix="").items():
        given = {
            argument
            for name, call in CALLS.items()
            if name == path or name.startswith(f"{path} of ")
            for argument in call.kinds
        }
        wanted = inspect.signature(value).parameters.keys() - OTHERS_CHECK
        if path not in RESULTS | NEED_DATA and wanted - given:
            untried[path] = wanted - given
    assert untried == {}
