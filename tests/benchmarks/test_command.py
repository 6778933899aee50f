"""The command measures and writes; what it measures is nobody's promise."""

import contextlib
import io
import subprocess
import sys
import types

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import layers, memory, timing
from benchmarks.table import put


class InThisProcess:
    """Runs what Python is called with here: TensorFlow is loaded already."""

    def __init__(self, command, **options):
        program, *how, name = command[:3]
        assert (program, how, name) == (sys.executable, ["-m"], "benchmarks")
        self.arguments, self.returncode = command[3:], 0

    def __enter__(self):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            command.main(self.arguments)
        self.stdout = printed.getvalue().splitlines()
        return self

    def __exit__(self, *error):
        pass


@pytest.mark.slow
@pytest.mark.compiled
def test_a_tiny_table_is_measured_and_written(tmp_path, capfd, monkeypatch):
    """One whose arms run in processes of their own."""
    here = types.SimpleNamespace(Popen=InThisProcess, PIPE=subprocess.PIPE)
    monkeypatch.setattr(command, "subprocess", here)
    page = tmp_path / "page.md"
    page.write_text("<!-- table checkpointing -->\n<!-- end checkpointing -->")
    command.main(["--quick", "--only", "checkpointing", "--page", str(page)])
    written = page.read_text().splitlines()
    assert written[0] == "<!-- table checkpointing -->"
    assert written[1].startswith("| steps | arm | peak (MiB) |")
    assert written[3].startswith('| 100 | BPTT(checkpoint_every="auto") | ')
    assert "TensorFlow" in written[5]
    assert "checkpointing\n| steps" in capfd.readouterr().out


def test_quick_tables_are_not_written_into_the_docs(monkeypatch):
    pages = []
    monkeypatch.setattr(
        command, "run", lambda names, quick, page: pages.append(page)
    )
    command.main(["--quick"])
    command.main(["--only", "layers,fptt", "--page", "none"])
    command.main(["--only", "layers"])
    assert pages == [None, None, command.PAGE]


def test_a_file_that_fails_is_told_and_the_others_go_on(monkeypatch, capsys):
    def measured(name, quick):
        if name == "layers":
            raise RuntimeError("layers failed with 1.")
        yield from ()

    monkeypatch.setattr(command, "measured", measured)
    with pytest.raises(SystemExit, match="Not measured: layers."):
        command.main(["--quick", "--only", "layers,fptt"])
    assert "layers failed with 1." in capsys.readouterr().err


def test_unknown_files_are_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["--only", "layers,layer"])
    assert "Received: layer\n" in capsys.readouterr().err


def test_arms_take_turns():
    order = []
    arms = {name: lambda name=name: order.append(name) for name in "ab"}
    seconds = timing.turns(arms, rounds=3, warm=1)
    assert "".join(order) == "abababab"
    assert [len(times) for times in seconds.values()] == [3, 3]
    given = {"a": [1.0, 2.0, 4.0], "b": [2.0, 2.0, 2.0]}
    assert timing.medians(given) == {"a": 2.0, "b": 2.0}
    assert timing.ratios(given, "a") == {"a": 1.0, "b": 1.0}


def test_memory_is_that_of_later_steps():
    """64 MiB of a first step, given back, do not count; 16 of each do."""
    sizes = iter([64, 16, 16, 16])

    def step():
        np.ones(next(sizes) * 2**17)

    found = memory.measure(lambda: None, step)
    assert 15 <= found["mib"] < 40


@pytest.mark.slow
@pytest.mark.compiled
def test_a_layer_beside_those_of_others():
    table = layers.comparison("SimpleRNN", [(2, 3, 2, 2)], rounds=1)
    assert table.name == "layers/simple_rnn"
    assert {len(row) for row in table.rows} == {len(table.head)}
    assert put("<!-- table x --><!-- end x -->", "x", table.text())
