import json
import math

import pytest

import keras_seqgrad as ksg
from tests.examples import script


@pytest.fixture(scope="module")
def example():
    return script.load("penn_treebank")


@pytest.fixture
def short_text(monkeypatch):
    corpus = ksg.data.text.get("stdlib", limit=40_000)
    monkeypatch.setattr(ksg.data.text, "get", lambda *_, **options: corpus)


@pytest.mark.parametrize(
    "scores, rates, best",
    [
        ({1: 3, 2: 1, 4: 2}, [1, 2, 4], 2),
        ({1: 3, 2: 2, 4: 1, 8: 0.5, 16: 0.7}, [1, 2], 8),
        ({1: 3, 0.5: 2, 0.25: math.inf, 2: 4}, [1, 2], 0.5),
        ({4: 1}, [4], 4),
        ({1: 3, 2: None}, [1, 2, 4], None),
    ],
)
def test_the_search_ends_inside(example, scores, rates, best):
    asked = []

    def score(rate):
        asked.append(rate)
        return scores[rate]

    assert example.long_runs.search(score, rates) == best
    assert asked == list(scores) or len(set(asked)) == len(scores)


# Six windows an epoch in place of 24, and of fewer steps.
QUICKER = ["--quick", "--window", "8", "--length", "4", "--limit", "200"]
QUICKER += ["--validation", "100"]


def make_settings(example, *arguments):
    return example.parse(["--quick", "--window", "40", *arguments])


@pytest.mark.parametrize(
    "arguments, kind, values",
    [
        ([], ksg.methods.TruncatedBPTT, {"length": 50}),
        (
            ["--length", "8", "--reach", "40"],
            ksg.methods.TruncatedBPTT,
            {"length": 40, "stride": 8},
        ),
        (
            ["--method", "artbp", "--alpha", "6"],
            ksg.methods.ARTBP,
            {"mean_length": 50, "alpha": 6.0, "cuts": "window"},
        ),
        (
            ["--method", "dni", "--synthesizer", "elementwise"],
            ksg.methods.SyntheticGradients,
            {"bootstrap": 0.9},
        ),
        (
            ["--method", "alternating", "--cycle", "5"],
            ksg.methods.AlternatingGradients,
            {"switch_epochs": None},
        ),
    ],
)
def test_methods(example, arguments, kind, values):
    method = example.make_method(make_settings(example, *arguments))
    assert type(method) is kind
    config = method.get_config()
    assert {name: config[name] for name in values} == values


def test_equal_updates_on_equal_text(example):
    corpus = ksg.data.text.get("stdlib", limit=100_000)
    tokens = corpus.train[:80_001]
    counts = []
    for method in ("tbptt", "artbp"):
        settings = make_settings(example, "--method", method, "--window", "400")
        _, windows = example.make_windows(tokens, settings, 0)
        counts.append(windows * (8 if method == "tbptt" else 1))
    assert counts == [400, 400]


@pytest.mark.slow
def test_seeds_follow_the_search_and_nothing_is_run_twice(
    example, short_text, tmp_path, monkeypatch, capsys, eagerly
):
    """Nor is what a run has done that is stopped within an epoch."""
    arguments = [*QUICKER, "--rates", "0.003", "--seeds"]
    parts = [*arguments, "1", "--out", str(tmp_path / "parts")]
    arguments += ["2", "--out", str(tmp_path)]
    assert example.main(arguments) == 0.003
    names = [f"character_tbptt_4_0.003_{seed}.json" for seed in (0, 1)]
    assert [p.name for p in sorted(tmp_path.glob("*.json"))] == names
    found = [json.loads((tmp_path / name).read_text()) for name in names]
    for run in found:
        assert run["data"] == "stdlib" and len(run["reports"]) == 2
        first, last = run["reports"]
        assert last["updates"] == 2 * first["updates"]
        assert last["bits"] == pytest.approx(
            last["val_loss"] / math.log(2), 1e-4
        )
        assert last["bits"] < first["bits"] < 7
    assert found[0]["reports"][0]["bits"] != found[1]["reports"][0]["bits"]
    capsys.readouterr()
    example.main(arguments)
    assert capsys.readouterr().out == ""
    assert (
        example.main([*arguments, "--seconds", "0.001", "--rates", "1"]) is None
    )
    # In the second epoch: it has as many windows as the first.
    batches = found[0]["reports"][0]["updates"] // 2
    begins = iter([False] * (batches + 3) + [True])
    monkeypatch.setattr(example, "SAVE", 1)
    monkeypatch.setattr(example.Run, "is_over", lambda _: next(begins, False))
    assert example.main(parts) is None
    [stopped] = (tmp_path / "parts").glob("*.json")
    assert len(json.loads(stopped.read_text())["reports"]) == 1
    assert list((tmp_path / "parts" / "states").glob("*/*"))
    assert example.main(parts) == 0.003
    assert not list((tmp_path / "parts" / "states").glob("*"))
    whole, goes_on = (
        [(r["val_loss"], r["updates"]) for r in run["reports"]]
        for run in (found[0], json.loads(stopped.read_text()))
    )
    assert whole == goes_on


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(
            ["--method", "artbp", "--alpha", "4"], marks=pytest.mark.compiled
        ),
        ["--method", "alternating", "--cycle", "1", "--layer", "QRNN"],
    ],
)
def test_other_arms(example, short_text, tmp_path, arguments, eagerly):
    """One of them compiled, as the script compiles them all."""
    arguments = [*arguments, *QUICKER, "--rates", "0.01"]
    example.main([*arguments, "--out", str(tmp_path)])
    [path] = tmp_path.glob("*.json")
    reports = json.loads(path.read_text())["reports"]
    assert len(reports) == 2 and reports[-1]["bits"] < reports[0]["bits"]
    if "QRNN" in arguments:
        assert [report["phase"] for report in reports] == [0, 1]


def test_what_does_not_go_together(example, capsys):
    for arguments, message in [
        (["--method", "alternating"], "flips at restarts: give --cycle"),
        (["--method", "dni", "--reach", "9"], "Received: dni"),
    ]:
        with pytest.raises(SystemExit):
            example.parse(arguments)
        assert message in capsys.readouterr().err
