import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.examples import script


@pytest.fixture(scope="module")
def example():
    return script.load("temporal_order_target_propagation")


@pytest.mark.slow
def test_quick_run(example, tmp_path, capsys, probes_eagerly):
    arguments = ["--quick", "--no-jit", "--out", str(tmp_path)]
    arguments += ["--lengths", "10", "--iterations", "200", "--every", "200"]
    arguments += ["--rate", "0.3"]
    results = example.main(arguments)
    best = {run["arm"]: max(run["accuracy"]) for run in results}
    for name in ("BPTT", "TP-RI through time", "TPTT"):
        assert best[name] >= example.SOLVED
    # Chance is 0.25; this one is slower.
    assert best["TP-RI local"] > 0.8
    cosines = {run["arm"]: run["cosine"] for run in results}
    assert cosines["BPTT"] == pytest.approx(1.0, abs=1e-5)
    assert 0.9 < cosines["TP-RI through time"] < 1.0
    assert 0.0 < cosines["TPTT"] < cosines["TP-RI local"] < 0.8
    files = [json.loads(p.read_text()) for p in tmp_path.glob("*.json")]
    assert sorted(files, key=str) == sorted(results, key=str)
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000
    assert capsys.readouterr().out.count("\n") == 2 + 4 + 1


def test_start_of_the_released_code(example):
    settings = example.parse(["--uniform", "--no-jit"])
    arm = next(example.arms(20, settings))
    model = example.make_model(arm, 20, 0, settings)
    kernel, recurrent, *others = model.get_weights()
    for weights in (kernel, *others):
        assert 0 < abs(weights).max() <= 0.1 and abs(weights).std() > 0.01
    assert recurrent @ recurrent.T == pytest.approx(np.eye(100), abs=1e-5)
    without = example.parse(["--no-jit"])
    plain = example.make_model(arm, 20, 0, without).get_weights()
    assert (plain[0] == kernel).all() and not plain[2].any()


def test_the_matched_optimizer_moves_the_recurrent_layer_less(example):
    variables = [
        keras.Variable([1.0], name=name) for name in ("kernel", "rnn_kernel")
    ]
    optimizer = example.SlowerRecurrence(0.01, learning_rate=0.5)
    optimizer.build(variables)
    optimizer.apply([tf.ones(1), tf.ones(1)], variables)
    moved = [1.0 - float(v[0]) for v in variables]
    assert moved == pytest.approx([0.5, 0.005], rel=1e-4)
    again = example.SlowerRecurrence.from_config(optimizer.get_config())
    assert again.factor == 0.01


def test_bad_arguments(example, capsys):
    with pytest.raises(SystemExit):
        example.parse(["--iterations", "100", "--every", "200"])
    assert "Received: 200 and 100" in capsys.readouterr().err
