"""What windows of a stream hold, back in its place in the series."""

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from tests import zoo

LENGTH, ROWS = 47, 3  # rows of 15 steps, and two steps behind the last
LAW = ksg.truncation.Random(4, alpha=4.0)


def series(*shape, seed=0):
    values = np.random.default_rng(seed).normal(size=(LENGTH, *shape))
    return values.astype("float32")


def windows_of(values, window, **options):
    return ksg.data.stream(values, ROWS, window, targets=values, **options)


@pytest.mark.parametrize(
    "window, drop, seen", [(5, True, 15), (4, True, 12), (4, False, 15)]
)
def test_the_inputs_come_back(window, drop, seen):
    values = series(2)
    dataset = windows_of(values, window, drop_remainder=drop)
    found = ksg.data.rejoin((x for x, _ in dataset), ROWS, LENGTH)
    expected = np.full_like(values, np.nan)
    for row in range(0, 45, 15):
        expected[row : row + seen] = values[row : row + seen]
    np.testing.assert_array_equal(found, expected)


def test_tokens_come_back_where_nothing_is_left_out():
    tokens = np.arange(100, 146)
    dataset = ksg.data.stream(tokens, ROWS, 4, drop_remainder=False)
    found = ksg.data.rejoin([x for x, _ in dataset], ROWS, 45)
    np.testing.assert_array_equal(found, tokens[:-1])
    assert found.dtype == tokens.dtype
    found = ksg.data.rejoin([y for _, y in dataset], ROWS, 45)
    np.testing.assert_array_equal(found, tokens[1:])


@pytest.mark.parametrize("valid", ["mask", "weight"])
def test_random_windows_come_back_without_their_padding(valid):
    values = series(2)
    kept = list(windows_of(values, LAW, seed=0))
    assert len({y.shape[1] for _, y, _ in kept}) > 1
    mask = [x["mask"] if valid == "mask" else w for x, _, w in kept]
    found = ksg.data.rejoin([y for _, y, _ in kept], ROWS, LENGTH, mask)
    np.testing.assert_array_equal(found[:45], values[:45])
    assert np.isnan(found[45:]).all()


@pytest.mark.compiled
@pytest.mark.parametrize("window", [5, 4, LAW])
def test_predictions_are_those_of_the_whole_rows(window):
    """What `predict` gives: an array, or ragged where windows differ."""
    values = series(zoo.FEATURES)
    options = {} if window is LAW else {"drop_remainder": False}
    dataset = windows_of(values, window, **options).cache()
    network = zoo.network()
    model = ksg.SequenceModel.from_model(network, stateful=True)
    mask = None
    if window is LAW:
        mask = [x["mask"] for x, *_ in dataset]
    predictions = model.predict(dataset, verbose=0)
    assert isinstance(predictions, np.ndarray) == (window == 5)
    found = ksg.data.rejoin(predictions, ROWS, LENGTH, mask)
    rows = network(values[:45].reshape(ROWS, 15, -1))
    expected = keras.ops.reshape(rows, (45, -1))
    np.testing.assert_allclose(found[:45], expected, atol=1e-6)
    assert np.isnan(found[45:]).all()


@pytest.mark.parametrize(
    "change, options, text",
    [
        (lambda w: w[:-1], {}, "Received 2 windows of 10 steps"),
        (lambda w: w * 2, {}, "Received 6 windows of 30 steps"),
        (lambda w: [], {}, "received none"),
        (lambda w: [a[:, 0, 0] for a in w], {}, r"received \(3,\)"),
        (lambda w: w, {"batch_size": 2}, r"\(2, steps, ...\), received \(3"),
        (lambda w: np.concatenate(w)[1:], {}, r"received \(2, 5, 1\)"),
        (lambda w: [a.astype(int) for a in w], {}, "2 of 47 steps are in no"),
        (lambda w: w, {"mask": [np.ones((3, 4))] * 3}, "`mask` must have"),
        (lambda w: w, {"mask": [np.eye(3, 5)] * 3}, "that of a stream"),
        (lambda w: w, {"length": 0}, "`length` must be an integer"),
    ],
)
def test_what_is_no_whole_stream_is_refused(change, options, text):
    windows = [x.numpy() for x, _ in windows_of(series(1), 5)]
    given = {"batch_size": ROWS, "length": LENGTH} | options
    with pytest.raises(ValueError, match=text):
        ksg.data.rejoin(change(windows), **given)
