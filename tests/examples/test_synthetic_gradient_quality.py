import json

import pytest

from tests.examples import script


@pytest.mark.slow
def test_a_quick_run_measures_and_draws(tmp_path, capsys, eagerly):
    example = script.load("synthetic_gradient_quality")
    small = ["--quick", "--window", "8", "--length", "2"]
    example.main([*small, "--out", str(tmp_path)])
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert [row["updates"] for row in rows] == [0, 8]
    # A synthesiser that has learnt nothing guesses 0.
    untrained, trained = rows
    assert (untrained["cosine"], untrained["error"]) == (0.0, 1.0)
    assert untrained["truncated"] == pytest.approx(untrained["whole"])
    assert trained["cosine"] != 0.0
    assert trained["truncated"] != pytest.approx(trained["whole"], rel=1e-4)
    assert (tmp_path / "quality.png").stat().st_size > 10_000
    printed = capsys.readouterr().out.splitlines()
    assert len([line for line in printed if line.startswith("| 8 |")]) == 1
