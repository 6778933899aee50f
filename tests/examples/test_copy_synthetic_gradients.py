import json
import math
import types

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from tests.examples import script


@pytest.fixture(scope="module")
def example():
    return script.load("copy_synthetic_gradients")


def make_climb(example, task="copy", epochs=4):
    climb = example.Climb(example.Arm(task, 3, 0, "TBPTT"), bits=2)
    climb.set_params({"epochs": epochs})
    return climb


def end_pass(example, climb, bits):
    epoch = len(climb.errors)
    climb.on_epoch_end(epoch, {"error": bits * math.log(2)})


@pytest.mark.slow
def test_quick_run(example, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    example.main(["--quick", "--jobs", "2"])
    # With what the other processes print.
    printed = capfd.readouterr().out
    out = tmp_path / "runs" / "copy_synthetic_gradients"
    written = json.loads((out / "results.json").read_text())
    assert written["settings"]["updates"] == 200
    arms = written["arms"]
    assert [arm["method"] for arm in arms] == list(example.METHODS)
    for arm in arms:
        # Chance is 1 bit; a pattern of one bit is learnt within 200 updates.
        first, second = arm["errors"]
        assert second < 0.6 * first < 0.6
        assert f"copy T=3 seed 0 {arm['method']}: 200 updates" in printed
    # What comes back over the borders changes what is learnt.
    assert len({tuple(arm["errors"]) for arm in arms}) == 4
    assert "| copy | 3 | DNI+aux | " in printed
    assert "copy, T=3: " in printed
    assert (out / "length.png").stat().st_size > 10_000


def test_every_arm_is_trained_and_written(
    example, tmp_path, monkeypatch, capsys
):
    trained = []

    def train(arm, settings):
        trained.append(arm)
        solved = [(0, 0, "none"), (100, arm.length + arm.seed, "1 x 1")]
        return {"solved": solved, "errors": [0.1], "seconds": 1.0}

    monkeypatch.setattr(example, "train", train)
    results = example.main(["--updates", "200", "--out", str(tmp_path)])
    assert len(trained) == len(set(trained)) == 2 * 2 * 3 * 4
    assert set(results) == set(trained)
    arms = json.loads((tmp_path / "results.json").read_text())["arms"]
    assert [example.Arm(*list(arm.values())[:4]) for arm in arms] == trained
    printed = capsys.readouterr().out
    assert "| repeat_copy | 5 | DNI | 6 | 5, 6, 7 | " in printed
    assert "copy, T=5: times the steps of TBPTT: DNI 1.00, DNI+aux" in printed
    assert (tmp_path / "length.png").stat().st_size > 10_000
    # Gone on with, it trains what is missing alone.
    del trained[:]
    more = ["--updates", "200", "--out", str(tmp_path), "--resume"]
    more += ["--tasks", "copy", "--seeds", "2", "3", "--methods", "SnAp"]
    assert set(example.main(more)) == set(results) | set(trained)
    assert {(arm.method, arm.seed) for arm in trained} == {("SnAp", 3)}
    arms = json.loads((tmp_path / "results.json").read_text())["arms"]
    assert len(arms) == len(results) + 2
    with pytest.raises(SystemExit, match="is of other settings. Expected"):
        example.main([*more, "--units", "8"])


@pytest.mark.parametrize(
    "name, expected",
    [
        ("copy", [(1, 1), (2, 1), (3, 1), (4, 1)]),
        ("repeat_copy", [(1, 1), (1, 2), (2, 2), (2, 3), (3, 3)]),
    ],
)
def test_levels_grow_in_turn(example, name, expected):
    tasks = [
        example.make_task(name, level, bits=2) for level in range(len(expected))
    ]
    assert [(task.length, task.repeats) for task in tasks] == expected
    for task, (pattern, repeats) in zip(tasks, expected, strict=True):
        assert task.time == pattern + 1 + pattern * repeats
        assert not task.varied and task.bits == 2


def test_a_level_is_passed_below_the_threshold(example, capsys):
    climb = make_climb(example, "repeat_copy")
    for bits in (0.9, 0.1501, 0.1499, 0.1499):
        end_pass(example, climb, bits)
    assert climb.solved == [
        (0, 0, "none"),
        (300, 3, "1 x 1"),
        (400, 4, "1 x 2"),
    ]
    assert (climb.task.length, climb.task.repeats) == (2, 2)
    assert climb.errors == pytest.approx([0.9, 0.1501, 0.1499, 0.1499])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("repeat_copy T=3 seed 0 TBPTT: 200 updates")
    assert "solved 0 steps (none), error 0.15 bits" in lines[1]
    assert "solved 4 steps (1 x 2), error 0.15 bits" in lines[3]


@pytest.mark.parametrize("pattern, repeats", [(1, 1), (3, 1), (2, 3)])
def test_stream_is_whole_sequences_from_random_phases(
    example, pattern, repeats
):
    task = ksg.data.tasks.RepeatCopy(pattern, repeats, bits=4, varied=False)
    rows, steps = 64, 50
    generator = np.random.default_rng(0)
    x, y, weight = example.draw_stream(task, rows, steps, generator)
    inputs, reset = x["inputs"], x["reset"]
    assert inputs.shape == (rows, steps, 6) and y.shape == (rows, steps, 4)
    assert weight.shape == reset.shape == (rows, steps)
    whole = 0
    for row in range(rows):
        starts = np.flatnonzero(reset[row])
        assert 0 <= starts[0] < task.time
        np.testing.assert_array_equal(np.diff(starts), task.time)
        # Nothing is to be written of a pattern that was not read.
        assert not weight[row, : starts[0]].any()
        for start in starts[starts + task.time <= steps]:
            whole += 1
            read = slice(start, start + pattern)
            write = slice(start + pattern + 1, start + task.time)
            symbols = inputs[row, read, :4]
            np.testing.assert_array_equal(
                y[row, write], np.tile(symbols, (repeats, 1))
            )
            assert inputs[row, start + pattern, 4:].tolist() == [1, 1]
            assert not inputs[row, read, 4:].any()
            assert not inputs[row, write].any()
            assert not weight[row, start : start + pattern + 1].any()
            expected = task.time / (pattern * repeats)
            np.testing.assert_allclose(weight[row, write], expected, rtol=1e-6)
    assert whole >= rows
    phases = {int(np.argmax(row)) for row in reset}
    assert phases == set(range(task.time))
    # Sequences differ from each other.
    assert 0.4 < y[weight > 0].mean() < 0.6


def make_settings(example, *arguments):
    small = ["--batch-size", "4", "--units", "3", "--no-jit"]
    return example.parse([*small, *arguments])


def test_a_pass_has_one_level_and_fresh_sequences(example):
    climb = make_climb(example)
    settings = make_settings(example, "--bits", "2")
    windows = example.make_windows(climb, settings)
    assert len(windows) * example.WINDOW == example.MEASURE
    passes = []
    for _ in range(3):
        iterator = iter(windows)
        first = next(iterator)
        # Passing a level changes the next pass, not the one under way.
        end_pass(example, climb, 0.1)
        rest = list(iterator)
        assert len(rest) == len(windows) - 1
        joined = [
            np.concatenate([window[0][name] for window in (first, *rest)], 1)
            for name in ("inputs", "reset")
        ]
        passes.append(joined)
    for level, (inputs, reset) in enumerate(passes):
        assert inputs.shape == (4, example.MEASURE * 3, 4)
        # Windows continue one another, on sequences of one length.
        for row in reset:
            lengths = set(np.diff(np.flatnonzero(row)).tolist())
            assert lengths == {2 * level + 3}
    again = example.make_windows(make_climb(example), settings)
    first, second = (next(iter(again))[0]["inputs"].numpy() for _ in range(2))
    # The seed decides; one pass is not the other.
    np.testing.assert_array_equal(first, passes[0][0][:, : first.shape[1]])
    assert not np.array_equal(first, second)


def test_error_is_in_bits_per_target_bit(example):
    bias = 2.0
    climb = make_climb(example)
    settings = make_settings(example, "--bits", "2", "--learning-rate", "0")
    method = example.make_method(climb.arm, settings)
    model = example.make_model(method, settings)
    *_, kernel, offset = model.trainable_variables
    kernel.assign(keras.ops.zeros_like(kernel))
    offset.assign(keras.ops.full_like(offset, bias))
    windows = example.make_windows(climb, settings)
    model.fit(windows, epochs=1, verbose=0, shuffle=False, callbacks=[climb])
    drawn = example.make_windows(climb, settings)
    targets = [y.numpy()[w.numpy() > 0] for _, y, w in drawn]
    ones = np.concatenate(targets).mean()
    bits = (np.log1p(np.exp(bias)) - ones * bias) / math.log(2)
    assert bits > 1.2
    assert climb.errors == [pytest.approx(bits, abs=1e-5)]


def test_methods(example):
    settings = make_settings(example, "--scale", "0.5", "--auxiliary", "2")
    made = {
        method: example.make_method(example.Arm("copy", 4, 0, method), settings)
        for method in example.METHODS
    }
    assert isinstance(made["TBPTT"], ksg.methods.TruncatedBPTT)
    assert isinstance(made["SnAp"], ksg.methods.SnAp)
    assert {method.length for method in made.values()} == {4}
    for name, auxiliary in (("DNI", 0.0), ("DNI+aux", 2.0)):
        assert isinstance(made[name], ksg.methods.SyntheticGradients)
        assert (made[name].scale, made[name].auxiliary) == (0.5, auxiliary)


def test_table_verdict_and_picture(example, tmp_path):
    settings = types.SimpleNamespace(
        tasks=["copy"],
        lengths=[3, 5],
        seeds=[0, 1, 2],
        methods=["TBPTT", "DNI", "DNI+aux"],
        updates=400,
    )
    steps = {
        (3, "TBPTT"): (3, 5, 5),
        (3, "DNI"): (9, 11, 10),
        (3, "DNI+aux"): (5, 5, 0),
        (5, "TBPTT"): (5, 5, 5),
        (5, "DNI"): (9, 9, 11),
        (5, "DNI+aux"): (11, 11, 11),
    }
    results = {
        example.Arm("copy", length, seed, method): {
            "solved": [(0, 0, "none"), (100, last, f"{last} x 1")],
            "seconds": 7.0 + seed,
        }
        for (length, method), found in steps.items()
        for seed, last in enumerate(found)
    }
    text = example.summarise(results, settings)
    row = "| copy | 3 | DNI | 10 | 9, 11, 10 | 9 x 1, 11 x 1, 10 x 1 | 8 |"
    assert row in text.splitlines()
    assert text.splitlines()[-2:] == [
        "copy, T=3: times the steps of TBPTT: DNI 2.00, DNI+aux 1.00; "
        "'at least double' holds for DNI",
        "copy, T=5: times the steps of TBPTT: DNI 1.80, DNI+aux 2.20; "
        "'at least double' does not hold for DNI",
    ]
    nothing = "TBPTT solved nothing to compare with."
    assert example.judge({"TBPTT": 0, "DNI": 3}) == nothing
    text = "times the steps of TBPTT: SnAp 1.50"
    assert example.judge({"TBPTT": 2, "SnAp": 3}) == text
    example.plot(results, settings, tmp_path / "length.png")
    assert (tmp_path / "length.png").stat().st_size > 10_000


def test_too_few_updates_are_refused(example, capsys):
    with pytest.raises(SystemExit):
        example.parse(["--updates", "99"])
    message = "--updates must be 100 or more. Received: 99"
    assert message in capsys.readouterr().err
