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
# What a reader of a public docstring is assumed to have imported.
NAMESPACE = {"keras": keras, "ksg": ksg, "np": np, "tf": tf}
PUBLIC = {
    f"{value.__module__}.{value.__qualname__}"
    for value in public_names().values()
}


def is_public(name):
    return any(name == p or name.startswith(f"{p}.") for p in PUBLIC)


def examples():
    """Every docstring of the package that holds an example, by its name."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = {}
    for module in pkgutil.walk_packages(ksg.__path__, "keras_seqgrad."):
        loaded = importlib.import_module(module.name)
        for test in finder.find(loaded, globs={}):
            # What is not public is shown to those who read its module.
            known = {} if is_public(test.name) else vars(loaded)
            test.globs = {**known, **NAMESPACE}
            if test.examples:
                found[test.name] = test
    return found


EXAMPLES = examples()


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_example_of_a_docstring(name):
    report = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    result = runner.run(EXAMPLES[name], out=report.append)
    assert result.failed == 0, "".join(report)


def test_every_public_name_has_an_example():
    assert PUBLIC - set(EXAMPLES) == set()


@pytest.mark.compiled
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
