"""Runs the tests on the oldest, the newest and other versions.

    python tests/matrix.py                  all rows of ROWS
    python tests/matrix.py 3.11:2.18:3.11    one row: Python, TensorFlow, Keras

Needs the interpreters, on the path or under pyenv, and a package index. Each
row is a fresh environment, deleted afterwards (some 1.7 GiB, a quarter of an
hour of one core): the wheel is installed and runs the example of README.md from
an empty folder; the tests run in the unpacked sdist, eager ones that are not
slow, and some that are. Ends with one line a row, and with the number of rows
that failed.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Python, TensorFlow, Keras. The first is what pyproject.toml asks for at least,
# the last the newest of each.
ROWS = [
    ("3.11", "2.18", "3.11"),
    ("3.11", "2.19", "3.12"),
    ("3.12", "2.20", "3.13"),
    ("3.13", "2.21", "3.15"),
]
# Of the eager tests; they ask for other packages, or about text.
LEFT_OUT = [
    "tests/benchmarks",
    "tests/docs",
    "tests/examples",
    "tests/test_source.py",
    "tests/test_typing.py",
]
# Where versions of Keras differ most, slow ones are run, too.
SLOW = [
    "tests/methods/test_fronts.py",
    "tests/methods/test_heads.py",
    "tests/methods/test_uncut.py",
    "tests/network",
]
# They say of each method that compiled is eager.
COMPILED = ["tests/methods/test_conformance.py"]
REQUIREMENTS = ["build", "matplotlib", "pytest", "tensorboard"]
# The README's example on a piece of its text, for one epoch.
SHORTER = [
    ("corpus.train,", "corpus.train[:20_000],"),
    ("epochs=5", "epochs=1"),
]


def interpreter(version):
    """The path of a Python of this version."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    # Before the path, where pyenv has a name for every version it knows of.
    found = sorted(pyenv.glob(f"versions/{version}.*/bin/python"))
    found = found or [shutil.which(f"python{version}")]
    if found[-1] is None:
        sys.exit(f"There is no Python {version} on the path or under {pyenv}.")
    return found[-1]


def run(*command, **options):
    print("+", *map(str, command), flush=True)
    subprocess.run([str(part) for part in command], check=True, **options)


def install(folder, python, tensorflow, keras):
    """An environment with the wheel; its Python, and the sdist, unpacked."""
    run(interpreter(python), "-m", "venv", folder / "environment")
    python = folder / "environment/bin/python"
    versions = [f"tensorflow-cpu=={tensorflow}.*", f"keras=={keras}.*"]
    pip = python, "-m", "pip", "install", "--quiet"
    run(*pip, *versions, *REQUIREMENTS)
    copy = folder / "copy"
    ignored = shutil.ignore_patterns(
        ".git", ".venv", "*.egg-info", "build", "dist"
    )
    shutil.copytree(ROOT, copy, ignore=ignored)
    run(python, "-m", "build", copy, "--outdir", folder / "dist")
    [wheel] = folder.glob("dist/*.whl")
    # Without what it depends on, for the pins are what is asked about.
    run(*pip, "--no-deps", wheel)
    [sdist] = folder.glob("dist/*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sdist", filter="data")
    [unpacked] = folder.glob("sdist/*")
    return python, unpacked


def test(folder, python, unpacked):
    """The example of the README by the wheel, and the tests of the sdist."""
    readme = (unpacked / "README.md").read_text()
    code = re.search(r"^```python\n(.*?)^```", readme, re.M | re.S)[1]
    for whole, piece in SHORTER:
        assert whole in code
        code = code.replace(whole, piece)
    empty = folder / "empty"
    empty.mkdir()
    run(python, "-c", code, cwd=empty)
    tests = python, "-m", "pytest", "-q", "-p", "no:cacheprovider"
    left_out = [f"--ignore={path}" for path in LEFT_OUT]
    run(*tests, "-m", "not slow and not compiled", *left_out, cwd=unpacked)
    run(*tests, "-m", "slow and not compiled", *SLOW, cwd=unpacked)
    run(*tests, "-m", "compiled", *COMPILED, cwd=unpacked)


def main(rows):
    told = []
    for row in rows:
        with tempfile.TemporaryDirectory() as name:
            start = time.monotonic()
            try:
                folder = Path(name)
                test(folder, *install(folder, *row))
                said = "passed"
            except subprocess.CalledProcessError as error:
                said = f"FAILED: {' '.join(error.cmd)[:60]}"
        minutes = (time.monotonic() - start) / 60
        names = "Python {}, TensorFlow {}, Keras {}".format(*row)
        told.append(f"{names}: {said} after {minutes:.0f} minutes")
    print(*told, sep="\n")
    return sum("FAILED" in line for line in told)


if __name__ == "__main__":
    given = [tuple(row.split(":")) for row in sys.argv[1:]]
    sys.exit(main(given or ROWS))
