import json

import numpy as np
import pytest

from tests.examples import script


@pytest.fixture(scope="module")
def example():
    return script.load("word_lm_target_propagation")


def test_quick_run(example, tmp_path, capsys):
    arguments = ["--quick", "--limit", "1200", "--validation", "400"]
    results = example.main([*arguments, "--out", str(tmp_path)])
    assert [run["arm"] for run in results] == ["penalty", "TBPTT block"]
    scheme, truncated = results
    assert len(scheme["perplexity"]) == 2
    # The other goes on to the time the scheme took.
    assert len(truncated["perplexity"]) >= 2
    assert min(scheme["violation"]) > 0 and truncated["violation"] is None
    for run in results:
        # Fifty kinds of words; the state helps at the first step of a block.
        assert run["perplexity"][-1] < 20
        assert len(run["carried"]) == len(run["restarted"]) == 10
        assert run["carried"][0] != run["restarted"][0]
        # Of the model at its best.
        carried = np.exp(np.mean(np.log(run["carried"])))
        assert carried == pytest.approx(min(run["perplexity"]), rel=1e-3)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert (tmp_path / "perplexity.png").stat().st_size > 10_000
    assert "perplexity by seed" in capsys.readouterr().out


def test_best_of_equal_epochs_and_equal_time(example):
    run = {"perplexity": [9.0, 7.0, 8.0, 5.0], "epoch_seconds": 2.0}
    assert example.best(run, epochs=3) == 7.0
    assert example.best(run, seconds=2.1) == 9.0
    assert example.best(run, seconds=0.1) == 9.0
    assert example.best(run, seconds=8.0) == example.best(run) == 5.0


@pytest.mark.parametrize(
    "arguments, text",
    [
        (["--window", "25"], "Received: 25 and 10"),
        (["--epochs", "1"], "--epochs must be 2 or more"),
    ],
)
def test_bad_arguments(example, capsys, arguments, text):
    with pytest.raises(SystemExit):
        example.parse(arguments)
    assert text in capsys.readouterr().err
