import json
import math

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from tests.examples import script


@pytest.fixture(scope="module")
def example():
    return script.load("copy_synthetic_gradients")


def make_settings(example, folder, *arguments):
    small = ["--batch-size", "4", "--units", "3", "--no-jit", "--bits", "2"]
    return example.parse([*small, "--out", str(folder), *arguments])


def make_climb(example, folder, task="copy", *arguments):
    settings = make_settings(example, folder, *arguments)
    climb = example.Climb(example.Arm(task, 3, "TBPTT", 0), settings)
    climb.spent = 1.0
    return climb


def end_pass(example, climb, bits):
    updates = example.MEASURE * (len(climb.errors) + 1)
    climb.tell(updates, {"error": bits * math.log(2)})


@pytest.mark.slow
def test_quick_run(example, tmp_path, monkeypatch, capfd):
    """In one process beside this one, since each loads TensorFlow first."""
    monkeypatch.chdir(tmp_path)
    arguments = ["--quick", "--jobs", "2", "--methods", "TBPTT"]
    [(arm, found)] = example.main(arguments).items()
    # With what the other process prints.
    printed = capfd.readouterr().out
    out = tmp_path / "runs" / "copy_synthetic_gradients"
    assert arm == example.Arm("copy", 3, "TBPTT", 0)
    path = out / f"{example.name_of(arm)}.json"
    assert json.loads(path.read_text()) == found
    # Chance is 1 bit; a pattern of one bit is learnt within 200 updates.
    first, second = found["errors"]
    assert second < 0.6 * first < 0.6
    assert "copy T=3 TBPTT seed 0: 200 updates" in printed
    assert (out / "length.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_stopped_arm_goes_on_as_if_it_had_not_stopped(
    example, tmp_path, monkeypatch, eagerly
):
    """Measured every 2 updates in place of 100."""
    monkeypatch.setattr(example, "MEASURE", 2)
    monkeypatch.setattr(example, "WINDOW", 2)
    monkeypatch.setattr(example, "plot", lambda *_: None)
    arguments = ["--quick", "--no-jit", "--units", "4", "--updates", "4"]
    arguments += ["--learning-rate", "0.1"]
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    first = [*arguments, "--methods", "SnAp", "--out", str(stopped)]
    [begun] = example.main([*first, "--seconds", "1e-9"]).values()
    assert begun["errors"] == []
    [begun] = example.main([*first, "--updates", "2"]).values()
    assert len(begun["errors"]) == 1
    [found] = example.main(first).values()
    last = [*arguments, "--methods", "SnAp", "TBPTT", "--out", str(whole)]
    expected, other = example.main(last).values()
    assert found["errors"] == expected["errors"] and len(found["errors"]) == 2
    assert found["solved"] == expected["solved"]
    # What comes back over the borders changes what is learnt.
    assert other["errors"] != expected["errors"]
    with pytest.raises(SystemExit, match="of another run: units. Delete"):
        example.main([*first, "--units", "8"])


def test_every_arm_is_trained(example, tmp_path, monkeypatch):
    trained = []

    def train(arm, settings, end):
        trained.append(arm)
        steps = arm.length + arm.seed
        return {"solved": [[0, 0, "none"], [100, steps, "1 x 1"]]}

    monkeypatch.setattr(example, "train", train)
    results = example.main(["--updates", "200", "--out", str(tmp_path)])
    assert len(trained) == len(set(trained)) == 2 * 2 * 3 * 5
    assert set(results) == set(trained)
    assert (tmp_path / "length.png").stat().st_size > 10_000


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


def test_a_level_is_passed_below_the_threshold(example, tmp_path):
    climb = make_climb(example, tmp_path, "repeat_copy")
    for bits in (0.9, 0.1501, 0.1499, 0.1499):
        end_pass(example, climb, bits)
    assert climb.solved == [
        [0, 0, "none"],
        [300, 3, "1 x 1"],
        [400, 4, "1 x 2"],
    ]
    assert (climb.task.length, climb.task.repeats) == (2, 2)
    assert climb.errors == pytest.approx([0.9, 0.1501, 0.1499, 0.1499])
    assert climb.reports == [{"updates": 400, "seconds": 1.0}]
    # What came after the state that goes on.
    climb.forget(300)
    assert len(climb.errors) == 3 and climb.solved[-1][0] == 300


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


def test_a_pass_has_one_level_and_fresh_sequences(example, tmp_path):
    climb = make_climb(example, tmp_path)
    settings = make_settings(example, tmp_path)
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
    climb = make_climb(example, tmp_path)
    again = example.make_windows(climb, settings)
    first = next(iter(again))[0]["inputs"].numpy()
    end_pass(example, climb, 0.9)
    second = next(iter(again))[0]["inputs"].numpy()
    # The seed decides; one pass is not the other.
    np.testing.assert_array_equal(first, passes[0][0][:, : first.shape[1]])
    assert not np.array_equal(first, second)


def test_error_is_in_bits_per_target_bit(example, tmp_path):
    bias = 2.0
    still = "--learning-rate", "0"
    climb = make_climb(example, tmp_path, "copy", *still)
    settings = make_settings(example, tmp_path, *still)
    method = example.make_method(climb.arm, settings)
    model = example.make_model(method, settings)
    *_, kernel, offset = model.trainable_variables
    kernel.assign(keras.ops.zeros_like(kernel))
    offset.assign(keras.ops.full_like(offset, bias))
    windows = example.make_windows(climb, settings)
    model.fit(windows, epochs=1, verbose=0, shuffle=False, callbacks=[climb])
    other = make_climb(example, tmp_path / "other", "copy", *still)
    drawn = example.make_windows(other, settings)
    targets = [y.numpy()[w.numpy() > 0] for _, y, w in drawn]
    ones = np.concatenate(targets).mean()
    bits = (np.log1p(np.exp(bias)) - ones * bias) / math.log(2)
    assert bits > 1.2
    assert climb.errors == [pytest.approx(bits, abs=1e-4)]


def test_methods(example, tmp_path):
    options = "--scale", "0.5", "--auxiliary", "2", "--synthesizer-rate", "3"
    settings = make_settings(example, tmp_path, *options)
    made = {
        method: example.make_method(example.Arm("copy", 4, method, 0), settings)
        for method in example.METHODS
    }
    assert isinstance(made["TBPTT"], ksg.methods.TruncatedBPTT)
    assert isinstance(made["SnAp"], ksg.methods.SnAp)
    assert {method.length for method in made.values()} == {4}
    assert made["Alternating"].switch_epochs[:3] == [50, 100, 200]
    for name, auxiliary in (("DNI", 0), ("DNI+aux", 2), ("Alternating", 0)):
        assert isinstance(made[name], ksg.methods.SyntheticGradients)
        assert made[name].scale == 0.5 and made[name].synthesizer_rate == 3
        assert made[name].auxiliary == auxiliary


def test_too_few_updates_are_refused(example, capsys):
    with pytest.raises(SystemExit):
        example.parse(["--updates", "99"])
    message = "--updates must be 100 or more. Received: 99"
    assert message in capsys.readouterr().err
