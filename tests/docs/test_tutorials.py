"""The recipes of docs/tutorials run, on small data of the same form."""

import re

import numpy as np
import pytest

from tests.examples import script

page = script.load("page")
FOLDER = script.ROOT / "docs" / "tutorials"


def run(name, capsys, **settings):
    """What a page's code leaves and prints, eagerly and with settings."""
    code = page.code_of(FOLDER / f"{name}.md")
    code = code.replace("jit_compile=True", "jit_compile=False")
    names = {}
    exec(page.with_settings(code, settings), names)
    return names, capsys.readouterr().out


def figures(printed, name):
    """The numbers in the lines that begin with a name."""
    line = re.search(rf"^{re.escape(name)}(.*)$", printed, re.M)[1]
    return [float(each) for each in re.findall(r"\d+\.\d+", line)]


@pytest.mark.slow
def test_forecasting(tmp_path, capsys):
    """A wave of 4 steps with noise, whose last column is no number of it."""
    steps = np.arange(54)
    noise = np.random.default_rng(0).normal(0, 0.1, (54, 2))
    waves = np.sin(np.pi / 2 * steps)[:, np.newaxis] + noise
    lines = [f"day {k},{a:.6f},{b:.6f}" for k, (a, b) in enumerate(waves)]
    path = tmp_path / "waves.csv"
    path.write_text("\n".join(["date,first,second", *lines]))
    small = dict(COLUMNS=(1, 2), PERIOD=4, SPLIT=(30, 42, 54), HORIZON=6)
    small |= dict(WINDOW=8, READ=7, LENGTH=4, UNITS=2, EPOCHS=1, SEEDS=1)
    names, printed = run("forecasting", capsys, PATH=str(path), **small)
    scaled = (waves - waves[:30].mean(axis=0)) / waves[:30].std(axis=0)
    # Step t forecasts t + 1 ... t + 6; all of these are in the test part.
    origins = np.arange(41, 48)
    for name, period in [("last value", 1), ("last period", 4)]:
        errors = [
            scaled[t + h] - scaled[t + h - period * -(-h // period)]
            for t in origins
            for h in range(1, 7)
        ]
        found = figures(printed, name)[2:]
        expected = np.mean(np.square(errors)), np.mean(np.abs(errors))
        np.testing.assert_allclose(found, expected, atol=1e-3)
    # Windows leave no mark, and live is what `predict` gives.
    model, predict = names["model"], names["predict"]
    whole = predict(model, 41)
    np.testing.assert_allclose(predict(model, 8), whole, atol=1e-5)
    past, state = np.arange(4, 48), model.initial_state(2)
    change, state = model.call_segment(names["features"](past), state)
    live = names["naive"](past) + change
    np.testing.assert_allclose(live, whole, atol=1e-5)
    assert names["forecast"].shape == (2, 6)


def write_utterances(path, counts, random):
    """Utterances of 2 to 4 steps, whose numbers are those of a speaker."""
    with path.open("w") as file:
        for speaker in np.repeat(np.arange(9), counts):
            steps = random.normal(speaker, 1, (random.integers(2, 5), 12))
            np.savetxt(file, steps)
            file.write("1.0 " * 12 + "\n\n")


@pytest.mark.slow
def test_padded_sequences(tmp_path, capsys):
    random = np.random.default_rng(0)
    for name in ("ae.train", "ae.test"):
        write_utterances(tmp_path / name, [1, 2] + [1] * 7, random)
    small = dict(FOLDER=str(tmp_path), TRAIN_COUNTS=[1, 2] + [1] * 7)
    small |= dict(TEST_COUNTS=[1, 2] + [1] * 7, UNITS=2, EPOCHS=1, SEEDS=1)
    names, printed = run("padded_sequences", capsys, **small)
    assert [len(names[each]) for each in ("train", "test")] == [10, 10]
    assert "padding of NaN changes nothing: True" in printed
    exact = [float(n) for n in re.findall(r"differs by (\S+)", printed)]
    assert max(exact[:2]) < 1e-5 < 1e-3 < min(exact[2:])
    apart = [float(n) for n in re.findall(r"weights differ by (\S+)", printed)]
    assert len(apart) == 2 and max(apart) < 1e-5


@pytest.mark.slow
def test_packed_documents(capsys):
    small = dict(CHARACTERS=200, STEPS=8, ROWS=2, UNITS=2, EPOCHS=1, SEEDS=1)
    names, printed = run("packed_documents", capsys, **small)
    right = re.search(r"with resets: +loss (\S+), gradient (\S+)", printed)
    wrong = re.search(r"without resets: loss (\S+), gradient (\S+)", printed)
    assert max(float(right[1]), float(right[2])) < 1e-5
    assert float(wrong[2]) > 1e-3
    # Every id behind the first of a document is a target once.
    documents, owner, y = names["train"], names["owner"], names["y"]
    for k, document in enumerate(documents):
        assert y[owner == k].tolist() == document[1:].tolist()
    # No window of the stream asks for the first id of the next document.
    starts = set(names["starts"].tolist())
    row = len(names["tokens"]) // 2
    for k, (x, _, weight) in enumerate(names["windows"]):
        steps = np.arange(2)[:, np.newaxis] * row + 8 * k + np.arange(8)
        begins = np.isin(steps, [*starts])
        ends = np.isin(steps + 1, [*starts, len(names["tokens"])])
        np.testing.assert_array_equal(x["reset"], begins)
        np.testing.assert_array_equal(weight, ~ends)


@pytest.mark.slow
def test_episodes(capsys):
    small = dict(
        EPISODES=9, ROWS=2, WINDOW=12, BURN_INS=(3,), UNITS=2, EPOCHS=1
    )
    small |= dict(LENGTHS=(10,), SEEDS=1, TRIALS=2, WAIT=(1, 3), TRAVEL=5)
    names, printed = run("episodes", capsys, **small)
    for seen, done in names["replay"]:
        # Shown at first, told later, over 5 steps behind the signal.
        assert seen[0, 1] != 0 and not seen[1:, 1].any()
        assert seen[:, 2].sum() == 5 and not done[seen[:, 2] == 0].any()
    inputs, y, weight = names["sampled"](names["replay"], 3, names["generator"])
    assert weight[~inputs["mask"]].sum() == 0 and weight.any(axis=1).all()
    assert weight.sum(axis=1).max() <= 12
    # Live, a row resets where its new episode shows the place.
    np.testing.assert_array_equal(names["reset"], names["seen"][..., 1] != 0)
    assert len(re.findall(r"success \d\.\d\d", printed)) == 3
    assert figures(printed, "expert")[0] > 0


def test_settings_are_those_of_the_page():
    code = "SIZE = 3\nNAME = 'a'\nif SIZE:\n    SIZE = 4\n"
    settings = page.given(["SIZE=1, 2", "NAME=b.csv"])
    expected = "SIZE = (1, 2)\nNAME = 'b.csv'\nif SIZE:\n    SIZE = 4\n"
    assert page.with_settings(code, settings) == expected
    with pytest.raises(ValueError, match="'WIDTH', which it sets 0 times"):
        page.with_settings(code, {"WIDTH": 1})
