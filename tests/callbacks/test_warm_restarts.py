"""The cosine, its restarts, and who may use it."""

import math

import keras
import numpy as np
import pytest

from keras_seqgrad.callbacks import WarmRestarts


@pytest.mark.parametrize(
    "cycle, growth, expected",
    [
        (5, "fixed", [5, 10, 15, 20]),
        (5, "doubling_cycles", [5, 15]),
        (5, "doubling_boundaries", [5, 10, 20]),
        ("base 5", "doubling_boundaries", [5, 10, 20]),
        ("base 160", "doubling_boundaries", []),
    ],
)
def test_where_cycles_restart(cycle, growth, expected):
    assert WarmRestarts(0.1, cycle, growth).restarts(24) == expected


def test_presets_as_printed():
    """Restarts at the epochs 6, 11, 21, ..., counted from 1."""
    assert WarmRestarts(0.1, "base 5").restarts(320) == [
        5, 10, 20, 40, 80, 160, 320,
    ]  # fmt: skip
    assert WarmRestarts(0.1, "base 160").restarts(320) == [160, 320]


def test_rates_by_hand():
    restarts = WarmRestarts(0.8, 2, "doubling_cycles", minimum=0.4)
    eighth = 0.4 + 0.2 * (1 + math.cos(math.pi / 4))
    three = 0.4 + 0.2 * (1 + math.cos(3 * math.pi / 4))
    expected = [0.8, 0.6, 0.8, eighth, 0.6, three, 0.8]
    found = [restarts.rate(epoch) for epoch in range(7)]
    assert found == pytest.approx(expected)
    restarts = WarmRestarts(0.8, 2)
    assert restarts.rate(4) == restarts.rate(8) == 0.8
    assert restarts.rate(6) == pytest.approx(0.4)


def test_a_plain_keras_model_follows_it():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x = np.ones((4, 1))
    history = model.fit(
        x, x, epochs=4, verbose=0, callbacks=[WarmRestarts(0.2, 2, "fixed")]
    ).history
    assert history["learning_rate"] == pytest.approx([0.2, 0.1, 0.2, 0.1])
    again = model.fit(
        x,
        x,
        initial_epoch=3,
        epochs=4,
        verbose=0,
        callbacks=[WarmRestarts(0.2, 2, "fixed")],
    ).history
    assert again["learning_rate"] == pytest.approx([0.1])


def test_refusals():
    with pytest.raises(ValueError, match="`growth` must be one of"):
        WarmRestarts(0.1, 5, "linear")
    with pytest.raises(ValueError, match="'base 160', 'base 5'.*'base 7'"):
        WarmRestarts(0.1, "base 7")
    with pytest.raises(ValueError, match="above `minimum`.*minimum=0.2"):
        WarmRestarts(0.1, 5, minimum=0.2)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    model.compile(keras.optimizers.SGD(schedule), "mse")
    with pytest.raises(ValueError, match="received one with a schedule"):
        model.fit(
            np.ones((4, 1)),
            np.ones((4, 1)),
            verbose=0,
            callbacks=[WarmRestarts(0.1, 5)],
        )
