"""Loads the scripts of `examples/`, which are no package."""

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Where Python looks first when a script is run.
sys.path.insert(0, str(ROOT / "examples"))


def load(name):
    """The module of an example."""
    return importlib.import_module(name)
