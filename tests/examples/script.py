"""Runs the scripts of `examples/`, which are no package."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def load(name):
    """The module of an example."""
    path = ROOT / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"examples_{name}", path)
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses and Keras look a class up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(name, *arguments, folder):
    """What an example prints when it is run as a user does, in `folder`."""
    path = ROOT / "examples" / f"{name}.py"
    result = subprocess.run(
        [sys.executable, path, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
