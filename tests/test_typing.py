"""The public interface is typed, and a type checker reads users' calls right.

The calls are in `typing_examples.py`.
"""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import keras_seqgrad as ksg
from tests.public_names import public_names

ROOT = Path(__file__).parent.parent


def own(function):
    """The function that the package wrote, or None."""
    function = getattr(function, "fget", function)
    function = getattr(function, "__func__", function)
    function = inspect.unwrap(function)
    inside = getattr(function, "__module__", "").startswith("keras_seqgrad")
    return function if inside and inspect.isfunction(function) else None


def signatures():
    """What users call: functions, constructors, methods, by dotted name.

    A method that overrides another is typed where it is named first: by Keras,
    or by a class of the package.
    """
    found = {}
    for name, value in public_names().items():
        if not inspect.isclass(value):
            found[name] = own(value)
            continue
        found[f"{name}.__init__"] = own(value.__init__)
        for method, member in vars(value).items():
            overrides = any(hasattr(base, method) for base in value.__bases__)
            if not (method.startswith("_") or overrides) and own(member):
                found[f"{name}.{method}"] = own(member)
    runs = "compile", "fit", "evaluate", "predict", "train_on_batch", "export"
    more = *runs, "load_weights", "initial_state", "call_segment"
    found |= {f"ksg.{run}": getattr(ksg.SequenceModel, run) for run in more}
    return {name: function for name, function in found.items() if function}


SIGNATURES = signatures()


def test_how_many():
    assert len(SIGNATURES) >= 140


@pytest.mark.parametrize("name, function", SIGNATURES.items())
def test_every_argument_and_result_is_typed(name, function):
    parameters = inspect.signature(function).parameters
    typed = {*function.__annotations__, "self", "cls"}
    assert {*parameters, "return"} - typed == set()


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "keras_seqgrad/py.typed").exists()


@pytest.mark.slow
def test_calls_of_users(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
