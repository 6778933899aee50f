import json
import re
import subprocess
import sys

import numpy as np
import pytest

from tests.examples import script


@pytest.fixture(scope="module")
def example():
    return script.load("compare_methods")


def rows(folder, task):
    """Cells of a task's table, by method."""
    lines = (folder / f"{task}.md").read_text().splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines]
    return {first: rest for first, *rest in cells if rest}


def run(example, monkeypatch, *arguments):
    """Of all but memory, which takes a process each time."""
    monkeypatch.setattr(example, "memory", lambda *_: 12.0)
    return example.main(["--quick", "--seeds", "1", *map(str, arguments)])


@pytest.mark.slow
def test_every_method_from_the_same_start_on_the_same_windows(
    example, tmp_path, monkeypatch, capsys, eagerly
):
    methods = ["artbp", "dni"]
    arguments = ["--methods", *methods, "--windows", 2, "--rates", 0.01]
    arguments += ["--tasks", "copy", "--epochs", 1, "--repeats", 3]
    run(example, monkeypatch, *arguments, "--out", tmp_path)
    printed = capsys.readouterr().out
    found = json.loads((tmp_path / "results.json").read_text())["copy"]
    assert list(found) == methods
    table = rows(tmp_path, "copy")
    assert (tmp_path / "copy.md").read_text().strip() in printed
    for name, result in found.items():
        [only] = result["runs"]
        assert only["steps"] == [2 * 4 * 21]
        # An update a window, or after each of its 5 segments.
        assert only["updates"] == {"dni": 10}.get(name, 2)
        assert len(only["scores"]) == 1
        assert result["tried"] == {"0.01": only["scores"][-1]}
        assert table[name][:2] == [f"{only['updates']}", "0.01"]
        assert table[name][-1] == "12"
        assert list((tmp_path / "logs/copy" / name).glob("events.*"))
    quality = {name: result["runs"][0] for name, result in found.items()}
    assert quality["dni"]["bias"][-1] > 1e-5
    assert quality["dni"]["variance"] == [0]
    assert quality["artbp"]["variance"][-1] > 0.01
    assert (tmp_path / "copy.png").stat().st_size > 20_000


@pytest.mark.parametrize(
    "scores, best, end",
    [
        ([3.0, 1.0, 2.0], 0.01, ""),
        ([1.0, 2.0, 3.0], 0.001, "<"),
        ([3.0, np.nan, 2.0], 0.1, ">"),
    ],
)
def test_the_rate_that_ends_best(
    scores, best, end, example, tmp_path, monkeypatch
):
    """And is then the rate of every seed."""
    rates, trained = [0.1, 0.001, 0.01], []

    def train(place, name, rate, seed, settings, log_dir=None):
        trained.append((rate, seed, log_dir is not None))
        score = scores[sorted(rates).index(rate)]
        quality = dict.fromkeys(example.QUALITY, [0.5])
        run = {"seed": seed, "updates": 3, "steps": [9], "scores": [score]}
        return {**run, "seconds": 1.0, **(quality if log_dir else {})}

    monkeypatch.setattr(example, "train", train)
    arguments = ["--tasks", "copy", "--methods", "tbptt", "--seeds", 2]
    arguments += ["--rates", *rates, "--out", tmp_path]
    result = run(example, monkeypatch, *arguments)["copy"]["tbptt"]
    assert (result["rate"], result["end"]) == (best, end)
    tried = [(rate, 0, False) for rate in sorted(rates)]
    assert trained == [*tried, (best, 0, True), (best, 1, False)]
    assert [run["seed"] for run in result["runs"]] == [0, 1]
    assert rows(tmp_path, "copy")["tbptt"][:2] == ["3", f"{end}{best:g}"]


@pytest.mark.slow
def test_truncation_is_misled_and_refusals_are_told(
    example, tmp_path, monkeypatch
):
    arguments = ["--tasks", "influence", "--repeats", 3, "--windows", 6]
    arguments += ["--methods", "bptt", "tbptt", "inversion", "--rates", 1e-4]
    run(example, monkeypatch, *arguments, "--out", tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())["influence"]
    exact, truncated = (found[n]["runs"][0] for n in ("bptt", "tbptt"))
    assert exact["cosine"] == pytest.approx([1, 1], abs=1e-6)
    assert max(exact["bias"]) < 1e-5
    # θ starts too small; truncation makes it smaller.
    assert exact["scores"][1] < exact["scores"][0]
    assert truncated["scores"][1] > truncated["scores"][0]
    assert truncated["cosine"][-1] == pytest.approx(-1, abs=1e-3)
    assert found["inversion"]["refused"].startswith("Layer 'rnn")
    page = (tmp_path / "influence.md").read_text()
    assert re.search(r"\ninversion refuses: Layer 'rnn", page)
    assert "inversion" not in rows(tmp_path, "influence")


@pytest.mark.slow
def test_memory_is_measured_by_the_script_itself(example, monkeypatch, capsys):
    """In this process, where a new one would first load TensorFlow."""

    def run(command, **options):
        program, script, *arguments = command
        assert program == sys.executable and script == example.__file__
        capsys.readouterr()
        example.main(arguments)
        printed = capsys.readouterr().out
        return subprocess.CompletedProcess(command, 0, printed)

    monkeypatch.setattr(example.subprocess, "run", run)
    settings = example.parse(["--quick", "--memory-steps", "300"])
    assert example.memory("adding", "bptt", 0.01, settings) >= 0
