import json
import math
import re
import subprocess
import sys

import pytest

import keras_seqgrad as ksg
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


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.mark.slow
def test_every_method_from_the_same_start_on_the_same_windows(
    example, tmp_path, monkeypatch, capsys, eagerly, no_pictures
):
    """Copies of 3 steps in place of 10."""
    short = ksg.data.tasks.copy(3, bits=2, varied=False)
    monkeypatch.setattr(ksg.data.tasks, "copy", lambda *_, **options: short)
    methods = ["artbp", "dni"]
    arguments = ["--methods", *methods, "--windows", 2, "--rates", 0.01]
    arguments += ["--tasks", "copy", "--epochs", 1, "--repeats", 3]
    run(example, monkeypatch, *arguments, "--out", tmp_path)
    printed = capsys.readouterr().out
    found = {name: read(tmp_path, f"copy_gru_{name}") for name in methods}
    table = rows(tmp_path, "copy")
    assert (tmp_path / "copy.md").read_text().strip() in printed
    for name, result in found.items():
        [only] = result["runs"]
        assert only["steps"] == [2 * 4 * 7]
        # An update a window, or after each of its 2 segments.
        assert only["updates"] == {"dni": 4}.get(name, 2)
        assert len(only["scores"]) == 1
        assert table[name][:2] == [f"{only['updates']}", "0.01"]
        assert table[name][-1] == "12"
        assert list((tmp_path / "logs/copy" / name).glob("events.*"))
    quality = {name: result["runs"][0] for name, result in found.items()}
    assert quality["dni"]["bias"][-1] > 1e-5
    assert quality["dni"]["variance"] == [0]
    assert quality["artbp"]["variance"][-1] > 0.01
    # A bias of what draws has a range, and is 0 where none was found.
    bias = quality["dni"]["bias"]
    assert bias == quality["dni"]["bias_lower"] == quality["dni"]["bias_upper"]
    assert table["dni"][4] == f"{bias[-1]:.2g}"
    drawn = [quality["artbp"][f"bias{end}"][-1] for end in ("", "_lower")]
    upper = quality["artbp"]["bias_upper"][-1]
    assert upper > drawn[0] >= drawn[1]
    shown = "{:.2g} ({:.2g} to {:.2g})".format(*drawn, upper)
    assert table["artbp"][4] == shown
    assert (tmp_path / "copy.png").stat().st_size > 20_000


@pytest.fixture
def trained(example, monkeypatch):
    """The calls of `train`, whose score is |log10(rate / 0.01)|."""
    calls = []

    def train(place, name, rate, seed, settings, log_dir=None):
        calls.append((rate, seed, log_dir is not None))
        quality = dict.fromkeys([*example.QUALITY, *example.ENDS], [0.5])
        score = abs(math.log10(rate / 0.01))
        run = {"updates": 3, "steps": [9], "scores": [score], "seconds": 1.0}
        return {**run, **(quality if log_dir else {})}

    monkeypatch.setattr(example, "train", train)
    return calls


@pytest.mark.parametrize(
    "rates, tried",
    [
        ([0.1, 0.001, 0.01], [0.001, 0.01, 0.1]),
        ([0.001, 0.003], [0.001, 0.003, 0.0095, 0.03]),
        ([0.03], [0.03]),
    ],
)
def test_the_rate_that_ends_best(
    rates, tried, example, tmp_path, monkeypatch, trained
):
    """Has a worse one on either side, and is that of every seed."""
    arguments = ["--tasks", "copy", "--methods", "tbptt", "--seeds", 2]
    arguments += ["--rates", *rates, "--out", tmp_path]
    result = run(example, monkeypatch, *arguments)["copy"]["tbptt"]
    best = min(tried, key=lambda rate: abs(math.log10(rate / 0.01)))
    assert (result["rate"], result["end"]) == (best, "")
    expected = [(rate, 0, False) for rate in tried if len(tried) > 1]
    assert trained == [*expected, (best, 0, True), (best, 1, False)]
    assert [
        r["seed"] for r in script.load("compare_methods_results").chosen(result)
    ] == [0, 1]
    assert rows(tmp_path, "copy")["tbptt"][:2] == ["3", f"{best:g}"]


def test_a_search_that_finds_no_end(example, tmp_path, monkeypatch, trained):
    arguments = ["--tasks", "copy", "--methods", "tbptt", "--out", tmp_path]
    arguments += ["--rates", 1e6, 1e7]
    result = run(example, monkeypatch, *arguments)["copy"]["tbptt"]
    assert result["end"] == "<" and len({rate for rate, *_ in trained}) == 8


def test_calls_share_the_work(example, tmp_path, monkeypatch, trained, capsys):
    arguments = ["--tasks", "copy", "--rates", 0.01, "--out", tmp_path]
    run(example, monkeypatch, *arguments, "--methods", "tbptt")
    late = [*arguments, "--seconds", 1e-9, "--methods", "tbptt", "bptt"]
    run(example, monkeypatch, *late)
    assert len(trained) == 1
    assert "copy: 1 of 2 methods are done" in capsys.readouterr().out
    run(example, monkeypatch, *arguments, "--methods", "tbptt", "bptt")
    assert len(trained) == 2 and set(rows(tmp_path, "copy")) >= {
        "tbptt",
        "bptt",
    }
    with pytest.raises(SystemExit, match="of another run: units. Delete"):
        run(example, monkeypatch, *arguments, "--methods", "bptt", "--units", 9)


def test_truncation_with_one_update_a_window(example):
    settings = example.parse(["--quick"])
    counts = {
        (place, name): example.build(
            example.TASKS[place](settings, 0), name, 0.1, settings
        ).optimizer.gradient_accumulation_steps
        for place in ("copy", "adding", "text")
        for name in ("tbptt", "tbptt_once")
    }
    some = {place: n for (place, name), n in counts.items() if n}
    assert some == {"copy": 5, "text": 10}
    assert list(counts.values()).count(None) == 4


@pytest.mark.slow
def test_truncation_is_misled_and_refusals_are_told(
    example, tmp_path, monkeypatch, no_pictures
):
    arguments = ["--tasks", "influence", "--repeats", 3, "--windows", 6]
    arguments += ["--methods", "bptt", "tbptt", "inversion", "--rates", 1e-4]
    run(example, monkeypatch, *arguments, "--out", tmp_path)
    names = "bptt", "tbptt", "inversion"
    found = {name: read(tmp_path, f"influence_gru_{name}") for name in names}
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
