"""The examples in docstrings and README.md do what they show."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests.public_names import public_names

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# What a reader is assumed to have imported, and nothing more.
NAMESPACE = {"keras": keras, "ksg": ksg, "np": np, "tf": tf}


def examples():
    """Every docstring of the package that holds an example, by its name."""
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(ksg.__path__, "keras_seqgrad.")
    ]
    finder = doctest.DocTestFinder(exclude_empty=True)
    return {
        test.name: test
        for module in [ksg, *modules]
        for test in finder.find(module, globs=dict(NAMESPACE))
        if test.examples
    }


EXAMPLES = examples()


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_of_a_docstring(name):
    report = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    result = runner.run(EXAMPLES[name], out=report.append)
    assert result.failed == 0, "".join(report)


def test_every_public_name_has_an_example():
    shown = {
        f"{value.__module__}.{value.__qualname__}"
        for value in public_names().values()
    }
    assert shown - set(EXAMPLES) == set()


@pytest.mark.slow
def test_example_of_the_readme():
    [code] = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    # The same lines on a piece of the text, for one epoch.
    for whole, piece in [
        ("corpus.train,", "corpus.train[:20_000],"),
        ("epochs=5", "epochs=1"),
    ]:
        assert whole in code
        code = code.replace(whole, piece)
    names = {}
    exec(code, names)
    [loss] = names["model"].history.history["loss"]
    assert 0 < loss < np.log(len(names["corpus"].vocabulary))
