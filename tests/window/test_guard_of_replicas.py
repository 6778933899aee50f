"""A window that is bad for one replica is bad for all of them."""

import contextlib

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from keras_seqgrad.state import snapshot
from tests import replicas, zoo
from tests.methods.table import TABLE

ROWS, STEPS = 4, 4


def windows(count=3):
    generator = np.random.default_rng(0)
    shape = 2, count * ROWS, STEPS, 2
    return generator.normal(size=shape).astype("float32")


def trained(scope, choice, x, y, name="tbptt", eagerly=False):
    """(logs or the error's text, snapshot) of a training with a state."""
    keras.utils.set_random_seed(1)
    with scope:
        network = zoo.network(TABLE[name].instead.get("lstm", "simple_rnn"))
        model = ksg.SequenceModel.from_model(network, stateful=True)
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            "mse",
            metrics=["mae"],
            method=TABLE[name].method(),
            on_bad_window=choice,
            jit_compile=False,
            run_eagerly=eagerly,
        )
    options = {"batch_size": ROWS, "shuffle": False, "verbose": 0}
    if choice == "skip":
        found = model.fit(x, y, **options).history
        del found["loss"], found["mae"]
    else:
        with pytest.raises(ValueError, match="is bad") as error:
            model.fit(x, y, **options)
        found = str(error.value)
    return found, snapshot.take(model)


def check_as_one(*args, **options):
    """What was found, the same on one device and on two."""
    alone = trained(contextlib.nullcontext(), *args, eagerly=True, **options)
    two = trained(replicas.strategy().scope(), *args, **options)
    for group in {*alone[1]} - {"metrics"}:
        pairs = zip(alone[1][group], two[1][group], strict=True)
        for mine, others in pairs:
            np.testing.assert_allclose(mine, others, rtol=1e-5, atol=1e-6)
    if args[0] == "raise":
        assert two[0] == alone[0]
    else:
        assert two[0].keys() == alone[0].keys()
        assert two[0]["bad_windows"] == alone[0]["bad_windows"]
    return two


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tbptt", "dni", "snap", "artbp"])
def test_skipped(name):
    x, y = windows()
    # The last row, of the second replica, in the second window; a target of
    # the first replica in the first.
    x[2 * ROWS - 1, 2] = np.nan
    y[0, 1] = np.inf
    found, state = check_as_one("skip", x, y, name=name)
    assert found["bad_windows"] == [2]
    assert all(np.isfinite(each).all() for each in sum(state.values(), []))


@pytest.mark.slow
def test_rows_restart_where_their_state_is_lost():
    x, y = windows(2)
    x[[ROWS, 2 * ROWS - 1], 2] = np.nan
    _, state = check_as_one("skip", x, y)
    assert state["rows"][-1].tolist() == [True, False, False, True]


CASES = {
    "input": ([0, 3], np.nan, "in rows [0, 3]."),
    "target": ([3], np.inf, "in rows [3]."),
    # Finite, but its square is none.
    "loss": ([2], 1e30, "in no row that could be told"),
}


@pytest.mark.slow
@pytest.mark.parametrize("cause", CASES)
def test_named(cause):
    places, value, rows = CASES[cause]
    x, y = windows(2)
    spoiled = x if cause == "input" else y
    spoiled[np.array(places) + ROWS, 1] = value
    text, _ = check_as_one("raise", x, y)
    start = f"Window 2 of this training is bad: its {cause} is not finite, "
    assert text.startswith(start + rows)


@pytest.mark.slow
@pytest.mark.compiled
def test_compiled():
    x, y = windows()
    x[2 * ROWS + 1, 2] = np.nan
    check_as_one("raise", x, y)
