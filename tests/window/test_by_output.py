"""Which target, weight or loss belongs to which output."""

import types

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from keras_seqgrad.window.by_output import (
    by_output,
    losses_of,
    of_leaves,
    places,
)

L = keras.layers


def model(outputs=(0, 0, 0), loss="mse", names=("c", "a", "b")):
    return types.SimpleNamespace(
        temporal_outputs=[False, True, True],
        output_names=list(names) if names else None,
        nested_outputs=outputs,
        loss=loss,
    )


KEYED = {"k": {"x": 0, "y": 0}, "z": 0}


@pytest.mark.parametrize(
    "given, outputs, expected",
    [
        ([1, 2, 3], model(), [0, 1, 2]),
        ({"a": 1, "b": 2, "c": 3}, model(), [1, 2, 0]),
        ({"b": 2}, model(), [2]),
        ({"b": 2, "other": 3}, model(), [2, None]),
        ({"p": 1, "q": 2, "r": 3}, model(), [0, 1, 2]),
        ([1, 2], model(loss=["mse", None, "mae"]), [0, 2]),
        ([1, 2], model(), [None, None]),
        (1, model(), [None]),
        # The keys of outputs come before the names of their layers.
        ({"z": 1}, model(KEYED), [2]),
        ({"k": {"y": 1}, "z": 2}, model(KEYED), [1, 2]),
        ([1, 2, 3], model(names=None), [0, 1, 2]),
    ],
)
def test_places(given, outputs, expected):
    assert places(given, outputs) == expected
    found = by_output(given, outputs)
    leaves = keras.tree.flatten(given)
    for leaf, place in zip(leaves, expected, strict=True):
        assert place is None or found[place] == leaf
    assert sum(leaf is not None for leaf in found) == sum(
        place is not None for place in expected
    )


def test_one_thing_for_all_outputs():
    assert by_output(5, model()) == [None] * 3
    assert by_output(5, model(), shared=True) == [5] * 3
    assert by_output({"a": 5}, model(), shared=True) == [None, 5, None]
    assert by_output(None, model(), shared=True) == [None] * 3


def test_values_of_leaves():
    flags = [False, True, False]
    assert of_leaves(flags, {"a": 1, "b": 2, "c": 3}, model()) == [
        True, False, False,
    ]  # fmt: skip
    assert of_leaves(flags, {"a": 1, "other": 2}, model()) == [True, True]
    assert of_leaves(flags, 1, model()) == [True]


@pytest.mark.parametrize(
    "loss, expected",
    [
        ("mse", [["mse"]] * 3),
        (None, [[]] * 3),
        (["mse", None, "mae"], [["mse"], [], ["mae"]]),
        ([["mse", "mae"], "mse", "mse"], [["mse", "mae"], ["mse"], ["mse"]]),
        ({"b": "mse"}, [[], [], ["mse"]]),
    ],
)
def test_losses_of(loss, expected):
    assert losses_of(model(loss=loss)) == expected


def mixed(keyed):
    """An output of the sequence, wider than the window has steps, and one at
    each step."""
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, 2))
    hidden = L.GRU(3, return_sequences=True)(inputs)
    late = L.Dense(9, name="one")(L.GRU(2)(hidden))
    each = L.Dense(1, name="two")(hidden)
    outputs = {"late": late, "each": each} if keyed else [late, each]
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize(
    "keyed, trained",
    [
        (True, ["late", "each"]),
        (False, ["one", "two"]),
        (False, ["one"]),
        (False, ["two"]),
    ],
)
def test_targets_of_a_sequence_are_not_cut(keyed, trained):
    """Of 9 numbers, longer than a window, whichever way they are given."""
    generator = np.random.default_rng(0)
    names = ["late", "each"] if keyed else ["one", "two"]
    shapes = dict(zip(names, [(2, 9), (2, 6, 1)], strict=True))
    y = {name: generator.normal(size=shapes[name]) for name in trained}
    losses = {name: "mse" for name in trained}
    if len(trained) == 1:
        losses = [losses.get(name) for name in names]
        y = [*y.values()]
    x = generator.normal(size=(2, 6, 2))
    network = mixed(keyed)
    network.compile(keras.optimizers.SGD(0.0), losses)
    expected = network.evaluate(x, y, verbose=0)
    model = ksg.SequenceModel.from_model(network)
    model.compile(
        keras.optimizers.SGD(0.0), losses, method=ksg.methods.TruncatedBPTT(2)
    )
    logs = model.fit(x, y, verbose=0).history
    assert logs["loss"][0] == pytest.approx(np.ravel(expected)[0], rel=1e-5)
