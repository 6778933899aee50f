"""Whether logs of segments add up to those of the window."""

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from keras_seqgrad.window import adding, loops
from tests import zoo

KEEP = loops.each_segment_kept


def mean_of_labels(y, outputs):
    """Over those above 0, of which segments have more and less."""
    counts = keras.ops.cast(y > 0, outputs.dtype)
    total = keras.ops.sum((y - outputs) ** 2 * counts)
    return total / keras.ops.sum(counts)


def trained(monkeypatch, length=3, **options):
    """(whether outputs were kept, logs) of a window of 7 steps."""
    kept = []
    monkeypatch.setattr(
        loops,
        "each_segment_kept",
        lambda *args, **given: kept.append(True) or KEEP(*args, **given),
    )
    model = ksg.SequenceModel.from_model(zoo.network("gru"))
    options = {"loss": "mse", **options}
    method = ksg.methods.TruncatedBPTT(length)
    model.compile(keras.optimizers.SGD(0.0), method=method, **options)
    logs = model.train_on_batch(*zoo.data(), return_dict=True)
    for metric in model.metrics:
        metric.reset_state()
    later = model.test_on_batch(*zoo.data(), return_dict=True)
    assert zoo.numbers(logs) == pytest.approx(zoo.numbers(later), rel=1e-5)
    return bool(kept), model


def test_outputs_are_not_kept_for_means_and_sums(monkeypatch):
    metrics = ["mae", keras.metrics.RootMeanSquaredError()]
    for loss in "mse", keras.losses.MeanSquaredError(reduction="sum"):
        kept, _ = trained(monkeypatch, loss=loss, metrics=metrics)
        assert not kept


def test_outputs_are_kept_for_what_does_not_add_up(monkeypatch):
    def largest(y, outputs):
        return keras.ops.max(outputs, axis=1)

    for options in {"metrics": [largest]}, {"loss": mean_of_labels}:
        kept, _ = trained(monkeypatch, **options)
        assert kept


def test_a_metric_that_fails_on_an_example_gets_all_outputs(monkeypatch):
    def only_long(y, outputs):
        assert outputs.shape[1] == zoo.STEPS
        return keras.ops.mean(outputs, axis=-1)

    kept, _ = trained(monkeypatch, metrics=[only_long])
    assert kept


def test_the_example_leaves_nothing_behind(monkeypatch):
    """It runs once for what is compiled; the trackers stay as they were."""
    calls = []

    def counted(y, outputs):
        calls.append(outputs.shape[0])
        return keras.ops.mean(outputs, axis=-1)

    _, model = trained(monkeypatch, metrics=[counted])
    assert calls.count(adding.ROWS) == 3
    model.reset_metrics()
    model.train_on_batch(*zoo.data())
    assert calls.count(adding.ROWS) == 3
    loss, metrics = model.metrics[:2]
    np.testing.assert_allclose(loss.count, zoo.BATCH)
    np.testing.assert_allclose(metrics.variables[1], zoo.BATCH, rtol=1e-6)


def test_windows_of_all_lengths_count_as_in_an_evaluation():
    """One of eight steps beside one of four, whose segments are fewer."""
    logs = []
    for length in 2, 8:
        model = ksg.SequenceModel.from_model(zoo.network("gru"))
        method = ksg.methods.TruncatedBPTT(length)
        model.compile(
            keras.optimizers.SGD(0.0), "mse", method=method, metrics=["mae"]
        )
        for steps in 8, 4:
            found = model.train_on_batch(*zoo.data(steps), return_dict=True)
        logs.append(zoo.numbers(found))
    assert logs[0] == pytest.approx(logs[1], rel=1e-5)


def test_what_keras_compiles_is_tried_once_for_all_models(monkeypatch):
    """What is the user's own is tried by each model."""

    def own(y, outputs):
        return keras.ops.mean((y - outputs) ** 2, axis=-1)

    tried = []
    compare = adding._compare
    monkeypatch.setattr(adding, "_shown", {})
    monkeypatch.setattr(
        adding, "_compare", lambda *args: tried.append(1) or compare(*args)
    )
    for loss, times in ("mae", 1), (own, 2):
        tried.clear()
        for _ in range(2):
            kept, model = trained(monkeypatch, loss=loss, metrics=["mse"])
            assert not kept
        assert len(tried) == times


def test_an_error_in_making_the_example_is_not_taken_for_an_answer(
    monkeypatch,
):
    monkeypatch.setattr(adding, "_example", lambda window: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trained(monkeypatch)
