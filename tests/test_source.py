"""Promises about the text of the source files, kept by reading them."""

import ast
import functools
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import keras_seqgrad as ksg

ROOT = Path(__file__).parent.parent
LONGEST_FILE = 350
PRIVATE_MODULES = re.compile(r"keras\.src|tensorflow\.python|tf\.python\b")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(work|root|home|tmp|Users)/")

# Files that may say what the rest may not. These lists only shrink.
MAY_NAME_PRIVATE_MODULES = {
    "tests/test_source.py",
    # Runs the unit tests that Keras ships, which are no public module.
    "tests/layers/test_keras_conformance.py",
}
MAY_USE_PRIVATE_ATTRIBUTES = set()
MAY_NAME_MACHINE_PATHS = {"tests/test_source.py"}


def files(*folders, suffix=".py"):
    return [
        str(path.relative_to(ROOT))
        for folder in folders
        for path in sorted((ROOT / folder).rglob(f"*{suffix}"))
    ]


PACKAGE = files("keras_seqgrad")
PYTHON = ["setup.py", *PACKAGE]
PYTHON += files("tests", "examples", "benchmarks")
TEXTS = [*PYTHON, ".ci/run", "pyproject.toml"]
TEXTS += ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"]
TEXTS += files("docs", suffix=".md")


def read(name):
    return (ROOT / name).read_text()


def matching_lines(names, pattern):
    return [
        f"{name}:{number}: {line.strip()}"
        for name in sorted(names)
        for number, line in enumerate(read(name).splitlines(), 1)
        if pattern.search(line)
    ]


def private(name):
    return name.startswith("_") and not name.startswith("__")


def private_uses(source):
    """Private attributes of other objects that a source reads or writes.

    Through `self`, `cls` and `super()` only names may be used that the same
    source defines: everything else belongs to a base class.
    """
    tree = ast.parse(source)
    own = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute):
            if isinstance(node.ctx, ast.Store) and receiver(node) == "self":
                own.add(node.attr)
    uses = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr):
            inside = receiver(node) in {"self", "cls"}
            if not (inside and node.attr in own):
                uses.append((node.lineno, ast.unparse(node)))
        elif isinstance(node, ast.ImportFrom):
            uses += [
                (node.lineno, f"{node.module}.{alias.name}")
                for alias in node.names
                if private(alias.name)
            ]
        elif isinstance(node, ast.Call):
            # getattr(layer, "_name") is no better than layer._name.
            if "attr" in ast.unparse(node.func):
                uses += [
                    (node.lineno, repr(argument.value))
                    for argument in node.args
                    if isinstance(argument, ast.Constant)
                    and private(str(argument.value))
                ]
    return uses


def receiver(attribute):
    value = attribute.value
    return value.id if isinstance(value, ast.Name) else None


def classes():
    """Every class that the package defines."""
    found = {}
    for module in pkgutil.walk_packages(ksg.__path__, "keras_seqgrad."):
        loaded = importlib.import_module(module.name)
        for _, cls in inspect.getmembers(loaded, inspect.isclass):
            if cls.__module__ == module.name:
                found[f"{cls.__module__}.{cls.__qualname__}"] = cls
    return found


@functools.cache
def private_names(cls):
    """Private methods and attributes that the source of a class defines."""
    try:
        source = inspect.getsource(cls)
    except TypeError:
        return set()
    assigned = re.findall(r"\bself\.(_[a-z]\w*)\b[^=\n]*=[^=]", source)
    defined = re.findall(r"^ +def (_[a-z]\w*)\(", source, flags=re.M)
    return {*assigned, *defined}


def taken_names(cls):
    """Private names that a class shares with a base class not of ours."""
    foreign = [
        base
        for base in cls.__mro__[1:]
        if not base.__module__.startswith("keras_seqgrad")
        and base.__module__ != "builtins"
    ]
    return set().union(*map(private_names, foreign)) & private_names(cls)


def test_public_modules_only():
    names = set(PYTHON) - MAY_NAME_PRIVATE_MODULES
    assert matching_lines(names, PRIVATE_MODULES) == []


def test_public_attributes_only():
    found = {
        f"{name}: {text}"
        for name in PACKAGE
        for _, text in private_uses(read(name))
    }
    assert found - MAY_USE_PRIVATE_ATTRIBUTES == set()


@pytest.mark.parametrize(
    "source",
    [
        "layer._losses",
        "self._losses",
        "super()._losses",
        "self.layer._losses = 1",
        "getattr(layer, '_losses')",
        "from keras import _private",
    ],
)
def test_private_attributes_are_found(source):
    assert len(private_uses(source)) == 1


def test_own_private_attributes_are_allowed():
    assert private_uses("self._mine = 1; self._mine; x.__class__") == []


@pytest.mark.slow
def test_no_private_name_of_a_base_class_is_taken():
    found = {name: taken_names(cls) for name, cls in classes().items()}
    assert {name: taken for name, taken in found.items() if taken} == {}


def test_taken_private_names_are_found():
    class Taking(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self._losses = []
            self._mine = []

        def _assert_input_compatibility(self):
            return self._mine == self._losses

    assert taken_names(Taking) == {"_losses", "_assert_input_compatibility"}


def test_no_path_of_a_machine():
    names = set(TEXTS) - MAY_NAME_MACHINE_PATHS
    assert matching_lines(names, MACHINE_PATHS) == []


def test_files_are_short():
    lines = {name: len(read(name).splitlines()) for name in PYTHON}
    assert {name: n for name, n in lines.items() if n > LONGEST_FILE} == {}


def test_every_folder_of_the_package_is_a_package():
    folders = {(ROOT / name).parent for name in PACKAGE}
    missing = [str(f) for f in folders if not (f / "__init__.py").exists()]
    assert missing == []


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]])
def test_ruff(arguments):
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--no-cache", "."],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_continuous_integration_finds_the_test_command():
    lines = read("README.md").splitlines()
    start = lines.index("## Run the tests")
    block = [i for i in range(start, len(lines)) if "```" in lines[i]][:2]
    assert block[1] - block[0] == 2
    assert lines[block[0] + 1].endswith("pytest -n 3 --dist worksteal -q")
