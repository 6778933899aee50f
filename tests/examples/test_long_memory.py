import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import learned
from tests.examples import script


@pytest.fixture(scope="module")
def example():
    return script.load("long_memory")


def run(example, folder, *arguments):
    return example.main([*arguments, "--quick", "--no-jit", "--out", folder])


def test_gates_begin_with_all_time_scales(example):
    bias = example.chrono(100, -1, 1, 0)((3000,)).numpy()
    takes, keeps, other = np.split(bias, 3)
    np.testing.assert_allclose(takes, -keeps)
    spans = np.exp(keeps)
    assert spans.min() >= 1 and spans.max() <= 99
    np.testing.assert_allclose(spans.mean(), 50, atol=3)
    assert not other.any()


def test_copied_symbols_are_asked_for_after_the_sign(example):
    first, second = example.copy_memory(5, 2, seed=3).take(2)
    x, y, weight = map(np.asarray, first)
    assert x.shape == (2, 25, 10) and x.sum() == 50
    shown = x.argmax(-1)
    np.testing.assert_array_equal(shown[:, :10], y[:, -10:])
    assert shown[:, :10].min() >= 1 and shown[:, :10].max() <= 8
    assert not shown[:, 10:14].any() and not y[:, :15].any()
    assert (shown[:, 14] == 9).all() and not shown[:, 15:].any()
    np.testing.assert_allclose(weight.mean(), 1)
    assert (weight[:, -10:] == 2.5).all()
    assert (np.asarray(second[0]) != x).any()


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("layer", ["MinGRU", "LRU", "LSTM"])
def test_recurrences_of_each_layer(example, layer, last):
    settings = example.parse(["adding", "--layer", layer, "--quick"])
    inputs = keras.Input((6, 2))
    network = keras.Model(inputs, example.recurrences(inputs, settings, last))
    kinds = {type(each).__name__ for each in network.layers}
    assert layer in kinds
    assert network.output.shape == ((None, 4) if last else (None, 6, 4))


@pytest.mark.slow
def test_quick_run_goes_on_after_its_end(example, tmp_path, capsys, eagerly):
    arguments = "adding", "--layer", "LSTM", "--seed", "5"
    first = run(example, str(tmp_path), *arguments)
    assert [report["updates"] for report in first["reports"]] == [2]
    again = run(example, str(tmp_path), *arguments)
    assert again["reports"][0] == first["reports"][0]
    assert again["test"]["updates"] == again["reports"][-1]["updates"] == 4
    path = tmp_path / "adding_lstm_5.json"
    assert json.loads(path.read_text()) == again
    with pytest.raises(SystemExit, match="of another run: length. Delete"):
        run(example, str(tmp_path), *arguments, "--length", "21")
    learned.main(["--only", "long_memory", "--results", str(tmp_path)])
    shown = capsys.readouterr().out
    weights, loss = f"{again['weights']:,}", again["test"]["loss"]
    row = f"| LSTM | {weights} | 1 | 0 | 16 | {loss:.4f} |"
    assert row in shown


@pytest.mark.slow
def test_quick_copy(example, tmp_path, eagerly):
    found = run(example, str(tmp_path), "copy", "--every", "1")
    assert 0 <= found["test"]["accuracy"] <= 1
    assert "val_accuracy" in found["reports"][0]


def test_reports_after_the_state_are_dropped(example, tmp_path):
    """A kill between the two leaves a report more than updates."""
    reports = [{"updates": 2, "seconds": 1.0}, {"updates": 4, "seconds": 2.0}]
    budget = example.Budget(9.0, 0.1, tmp_path / "x", {"reports": reports})

    class Model:
        optimizer = type("", (), {"iterations": tf.constant(2)})

    budget.set_model(Model)
    budget.on_epoch_begin(1)
    assert len(budget.reports) == 1 and budget.spent == 1.0
