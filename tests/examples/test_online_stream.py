import gzip
import json

import numpy as np
import pytest

from tests.examples import script


@pytest.fixture(scope="module")
def example():
    return script.load("online_stream")


@pytest.mark.slow
def test_one_pass_over_a_series(example, tmp_path, capsys):
    draw = np.random.default_rng(0).normal
    values = np.cumsum(draw(size=(202, 2)), axis=0)
    lines = ["date,a,note,b"]
    lines += [f"2016-07-01,{a},x,{b}" for a, b in values]
    with gzip.open(tmp_path / "series.csv.gz", "wt") as file:
        file.write("\n".join(lines))
    arguments = ["--data", str(tmp_path / "series.csv.gz"), "--no-jit"]
    arguments += ["--quick", "--window", "40", "--rates", "0.01", "0.03"]
    written = example.main([*arguments, "--out", str(tmp_path)])
    path = tmp_path / "results.json"
    assert json.loads(path.read_text()) == written
    assert written["settings"]["steps"] == 200
    runs = written["runs"]
    # 96 numbers of four steps, and traces of 80 weights: as of seven steps.
    arms = {run["arm"]: run["kept"] for run in runs}
    assert arms == {
        "SnAp(4)": 176,
        "TBPTT(4/4)": 96,
        "TBPTT(8/4)": 192,
        "readout": 96,
    }
    losses = {(r["arm"], r["rate"]): r["losses"] for r in runs}
    assert len(losses) == len(runs) == 8
    # The same start, then what each has learnt.
    assert all(len(found) == 5 for found in losses.values())
    assert len({tuple(found) for found in losses.values()}) == 8
    assert (tmp_path / "loss.png").stat().st_size > 10_000
    capsys.readouterr()
    example.main(["--table", str(path)])
    assert capsys.readouterr().out.strip() == example.summarise(runs)


def test_changes_are_scaled_by_what_is_behind(example):
    values = np.cumsum(np.arange(1.0, 101.0))[:, np.newaxis] ** 1.0
    stream = example.of_series(values)
    change = np.diff(values[:, 0])
    deviation = change[:10].std()
    assert stream.inputs.shape == (98, 2)
    # The last change is known, the next one is asked for.
    np.testing.assert_allclose(stream.inputs[:, 1] * deviation, change[:-1])
    np.testing.assert_allclose(stream.targets[:, 0] * deviation, change[1:])
    level = (values[1:-1, 0] - values[:10].mean()) / values[:10].std()
    np.testing.assert_allclose(stream.inputs[:, 0], level, rtol=1e-5)
    none = np.mean(stream.targets[10:] ** 2)
    assert stream.scale == pytest.approx(1 / none)


def test_text_predicts_its_next_character(example):
    stream = example.of_text(50)
    assert stream.inputs.shape == (50, stream.outputs)
    given = stream.inputs.argmax(axis=-1)
    np.testing.assert_array_equal(given[1:], stream.targets[:-1])


def test_the_best_rate_is_that_of_the_least_mean_loss(example):
    def result(rate, seed, *losses):
        return {
            "cell": "gru",
            "arm": "readout",
            "kept": 1000,
            "seed": seed,
            "rate": rate,
            "seconds": 2.0,
            "losses": list(losses),
        }

    results = [
        result(0.1, 0, 1.0, 0.5),
        result(0.1, 1, 1.0, 0.5),
        result(0.2, 0, 0.1, 0.1),
        result(0.2, 1, 1.0, float("nan")),
    ]
    assert example.best(results, "gru", "readout") == results[:2]
    row = example.summarise(results).splitlines()[-1]
    expected = "| gru | readout | 1,000 | 1.00 | 0.1 | 0.7500 | 0.7500 to"
    assert row.startswith(expected)
