import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo
from tests.examples import script

SMALL = ["--units", "16", "--layers", "1", "--sample", "5", "--window", "6"]
SMALL += ["--length", "3", "--batch-size", "8", "--limit", "200"]
SMALL += ["--no-jit", "--diagnostics", "0"]


@pytest.fixture(scope="module")
def example():
    return script.load("char_lm")


def shorten(monkeypatch, limit):
    """Makes and returns a corpus that is quickly validated on."""
    corpus = ksg.data.text.get("stdlib", limit=limit)
    monkeypatch.setattr(ksg.data.text, "get", lambda *_, **options: corpus)
    return corpus


def saved_values(path):
    model = keras.models.load_model(path)
    both = [*zoo.everything(model), *model.optimizer.variables]
    return [v.numpy() for v in both]


def bits_per_token(model, tokens, rows, window):
    """From the logits of the whole validation text, in NumPy."""
    steps = (len(tokens) - 1) // rows // window * window
    length = (len(tokens) - 1) // rows
    x = tokens[: rows * length].reshape(rows, length)[:, :steps]
    y = tokens[1 : rows * length + 1].reshape(rows, length)[:, :steps]
    logits, _ = model.call_segment(x, model.initial_state(rows))
    logits = logits.numpy().astype("float64")
    logits -= np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    return -np.mean(np.take_along_axis(logits, y[..., None], -1)) / np.log(2)


def test_quick_run(example, tmp_path, monkeypatch, capsys, no_pictures):
    corpus = shorten(monkeypatch, 140_000)
    monkeypatch.chdir(tmp_path)
    example.main(["--quick", "--no-jit"])
    printed = capsys.readouterr().out
    out = tmp_path / "runs" / "char_lm" / "tbptt"
    pattern = r"val bits per character (\S+) \(unigrams (\S+)\)"
    (bits, unigrams) = map(float, re.search(pattern, printed).groups())
    assert 2.0 < bits < unigrams < 5.0
    sample = printed.split("--- and the model goes on\n")[1]
    assert len(sample) == 80 + 1
    vocabulary = ksg.data.text.Vocabulary.load(out / "vocabulary.json")
    assert vocabulary.decode(vocabulary.encode(sample)) == sample
    assert list((out / "logs" / "train").glob("events.*"))
    assert list((out / "logs" / "gradient").glob("events.*"))
    # The model is whole without the script that made it.
    model = keras.models.load_model(out / "epoch-001.keras")
    assert model.method.length == 50
    found = bits_per_token(model, corpus.valid, 32, 200)
    assert found == pytest.approx(bits, abs=1e-3)


@pytest.mark.slow
def test_resumed_equals_uninterrupted(
    example, tmp_path, capsys, monkeypatch, eagerly
):
    """Left in the second epoch, with files that are half written.

    By ARTBP two windows are run at once.
    """
    shorten(monkeypatch, 6000)
    whole, parts = str(tmp_path / "whole"), tmp_path / "parts"
    arguments = [*SMALL, "--method", "artbp", "--epochs", "2"]
    example.main([*arguments, "--out", whole])
    printed = capsys.readouterr().out
    assert "begins at window 1 of epoch 1" in printed

    class Stop(ksg.callbacks.BackupAndRestore):
        """Also saves more often."""

        def __init__(self, folder, every, **options):
            super().__init__(folder, 3, **options)

        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            if self.position.epoch == 1 and batch == 7:
                raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(ksg.callbacks, "BackupAndRestore", Stop)
        with pytest.raises(InterruptedError):
            example.main([*arguments, "--out", str(parts)])
    (parts / "epoch-002.keras").write_bytes(b"half")
    latest = max((parts / "states").glob("*.backup"))
    latest.write_bytes(latest.read_bytes()[:1000])
    resumed = ["--resume", "--epochs", "2", "--sample", "5"]
    resumed += ["--out", str(parts)]
    capsys.readouterr()
    with pytest.warns(UserWarning, match="goes on from the state before"):
        example.main(resumed)
    found = capsys.readouterr().out
    assert "goes on at window 5 of epoch 2" in found
    # The last epoch's score and the sample.
    assert found[-300:] == printed[-300:]
    expected = saved_values(f"{whole}/epoch-002.keras")
    received = saved_values(parts / "epoch-002.keras")
    for one, other in zip(expected, received, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "method, more",
    [("tbptt", []), ("artbp", []), ("artbp", ["--hazard", "0"])],
)
def test_an_epoch_is_a_pass_over_the_rows(example, method, more):
    settings = example.make_parser().parse_args(["--method", method, *more])
    settings.batch_size, settings.length, settings.window = 2, 10, 100
    windows, count = example.make_windows(np.arange(20_001), settings)
    steps = windows.take(5 * count).map(
        lambda x, *_: (
            tf.math.count_nonzero(x["mask"])
            if method == "artbp"
            else tf.size(x, "int64")
        )
    )
    seen = steps.reduce(np.int64(0), lambda total, new: total + new)
    assert int(seen) / 5 == pytest.approx(20_000, rel=0.05)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--units", "0"], "argument --units: must be above 0. Received: 0"),
        (["--temperature", "-1"], "must be above 0. Received: -1"),
        (["--method", "nope"], "Received: method='nope'"),
        (["--data", "nowhere"], "Received: name_or_path='nowhere'"),
        (["--window", "100000"], "Received: window=100000, batch_size=32"),
        (["--resume"], "--resume found no run in"),
    ],
)
def test_bad_arguments(example, arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit):
        example.main([*arguments, "--out", str(tmp_path / "out")])
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_is_neither_overwritten_nor_changed(example, tmp_path, capsys):
    (tmp_path / "settings.json").write_text(json.dumps({"units": 16}))
    folder = ["--out", str(tmp_path)]
    with pytest.raises(SystemExit):
        example.main(folder)
    assert "holds a run. Go on" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        example.main([*folder, "--resume", "--units", "32"])
    message = "began with units=16. Received: 32. Leave it out"
    assert message in capsys.readouterr().err
    settings = example.parse(
        example.make_parser(), [*folder, "--resume", "--layers", "2"]
    )
    assert settings.units == 16


def test_full_is_the_run_of_the_benchmarks(example, tmp_path):
    """The settings of docs/benchmarks.md; what is said goes before them."""
    arguments = ["--full", "--epochs", "3", "--out", str(tmp_path)]
    settings = example.parse(example.make_parser(), arguments)
    found = settings.layers, settings.units, settings.limit, settings.epochs
    assert found == (2, 256, None, 3)
    steps = settings.batch_size, settings.window, settings.length
    assert steps == (32, 200, 50) and settings.learning_rate == 5e-3
