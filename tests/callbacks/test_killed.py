"""Real processes, killed. docs/reliability.md has all methods."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import reliability
from keras_seqgrad import methods

ROOT = Path(__file__).parents[2]


def test_every_method_can_be_killed():
    made = {type(make()).__name__ for make in reliability.METHODS.values()}
    assert made == {*methods.__all__} - {"Method", "get"}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_trainings_come_to_the_same(tmp_path):
    script = ROOT / "benchmarks" / "reliability.py"
    arguments = ["--methods", "artbp_rows", "--kills", "2"]
    done = subprocess.run(
        [sys.executable, script, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *_, row = done.stdout.splitlines()
    name, kills, _, trainings, equal = row.strip("| ").split(" | ")
    assert (name, kills) == ("artbp_rows", "2")
    assert trainings == equal != "0"
