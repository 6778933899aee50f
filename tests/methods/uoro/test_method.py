"""UORO, enumerated over its signs."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.methods import BPTT, UORO, TruncatedBPTT
from keras_seqgrad.methods.uoro import method as uoro
from tests import zoo
from tests.methods import wide

pytestmark = pytest.mark.usefixtures("float64")


def enumerated(network, x, y, monkeypatch, boundaries, alike=False):
    """The mean over all signs; half of them, since -v gives what v does."""
    model = wide.compiled(network, UORO(1))
    shape = (boundaries, len(x), 1 if alike else 2)
    count = int(np.prod(shape))
    total, number = 0.0, 0
    for bits in itertools.product([1.0, -1.0], repeat=count - 1):
        signs = np.reshape([1.0, *bits], shape)
        left = iter([*signs, np.ones_like(signs[0])])
        monkeypatch.setattr(
            uoro,
            "draw_signs",
            lambda pair, like: tf.ones_like(like) * next(left),  # noqa: B023
        )
        found = model.estimate_gradients(x, y)[1]
        total += np.concatenate([np.ravel(g) for g in found])
        number += 1
    return total / number


def flat(gradients):
    return np.concatenate([np.ravel(g) for g in gradients])


@pytest.mark.slow
def test_the_mean_over_all_signs_is_exact(monkeypatch):
    network = wide.network("simple_rnn", dense=True, units=2)
    x, y = (each[:1, :3] for each in wide.data())
    exact = flat(wide.estimate(network, BPTT(), x, y))
    found = enumerated(network, x, y, monkeypatch, 2)
    np.testing.assert_allclose(found, exact, atol=1e-13)
    cut = flat(wide.estimate(network, TruncatedBPTT(1), x, y))
    assert np.abs(cut - exact).max() > 0.05
    alike = enumerated(network, x, y, monkeypatch, 2, alike=True)
    assert np.abs(alike - exact).max() > 0.05
    plain = UORO.advance

    def too_large(self, run, influence):
        of_state, of_parameters, pair = plain(self, run, influence)
        return of_state, 1.15 * of_parameters, pair

    x, y = x[:, :2], y[:, :2]
    exact = flat(wide.estimate(network, BPTT(), x, y))
    right = enumerated(network, x, y, monkeypatch, 1)
    np.testing.assert_allclose(right, exact, atol=1e-13)
    monkeypatch.setattr(UORO, "advance", too_large)
    other = enumerated(network, x, y, monkeypatch, 1)
    assert np.abs(other - exact).max() > 0.01


@pytest.mark.slow
def test_one_vector_serves_all_rows(monkeypatch):
    network = wide.network("simple_rnn", dense=True, units=2)
    x, y = (each[:2, :2] for each in wide.data())
    exact = flat(wide.estimate(network, BPTT(), x, y))
    found = enumerated(network, x, y, monkeypatch, 1)
    np.testing.assert_allclose(found, exact, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "own"])
def test_tangents_of_any_cell_masked_and_reset(kind):
    """Against differences; the states of two layers go along."""
    network = zoo.network(kind, layers=2)
    x, y = zoo.data(4)
    mask = np.random.default_rng(1).random(x.shape[:2]) < 0.7
    reset = np.zeros_like(mask)
    reset[1, 2] = True
    model = wide.compiled(network, UORO(4), stateful=True)
    draw = np.random.default_rng(2).normal
    found = {}

    def advance(self, run, influence):
        way = [draw(size=leaf.shape) for leaf in run.leaves]
        found["tangents"] = uoro.pushed(run, [tf.constant(w) for w in way])
        ends = []
        for small in (1e-6, -1e-6):
            flat = [a + small * b for a, b in zip(run.leaves, way, strict=True)]
            state = keras.tree.pack_sequence_as(run.state, flat)
            _, end = run.window.forward(run.segment, state)
            ends.append(keras.tree.flatten(end))
        found["differences"] = [
            (a - b) / 2e-6 for a, b in zip(*ends, strict=True)
        ]
        return influence

    patch = pytest.MonkeyPatch()
    with patch.context() as patched:
        patched.setattr(UORO, "advance", advance)
        # In the first window rows start from what no tangent reaches.
        for _ in range(2):
            model.train_on_batch({"inputs": x, "mask": mask, "reset": reset}, y)
    pairs = zip(found["tangents"], found["differences"], strict=True)
    assert len(found["tangents"]) == 4
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, atol=1e-8)
        assert np.abs(theirs).max() > 0.01


@pytest.mark.slow
def test_draws():
    """A seed repeats them; without one, estimates show the next ones."""
    network, (x, y) = wide.network("simple_rnn", dense=True), wide.data(2)
    model = wide.compiled(network, UORO(1, seed=5))
    next_one = model.estimate_gradients(x, y)[1]
    assert wide.error(model.estimate_gradients(x, y)[1], next_one) == 0
    seeded = model.estimate_gradients(x, y, seed=7)[1]
    assert wide.error(seeded, next_one) > 0.01
    assert wide.error(model.estimate_gradients(x, y, seed=7)[1], seeded) == 0
    model.train_on_batch(x, y)
    assert wide.error(model.estimate_gradients(x, y)[1], next_one) > 0.01
    signs = uoro.draw_signs(tf.constant([1, 2]), tf.zeros((100, 4)))
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert abs(np.mean(signs)) < 0.2


def test_refusals():
    with pytest.raises(ValueError, match="`length` must be an integer of 1"):
        UORO(0)


def test_operations_without_tangents_are_told_of():
    layers = keras.Input((None, 2)), keras.layers.GRU(2, "softsign")
    model = wide.compiled(keras.Sequential([*layers]), UORO(2))
    x = np.ones((2, 3, 2))
    with pytest.raises(ValueError, match=r"write x / \(1 \+ abs\(x\)\)"):
        model.fit(x, x[:, -1], verbose=0)


@pytest.mark.compiled
@pytest.mark.slow
def test_linear_cells_in_rows_whose_number_is_not_known():
    # A projection told its shape, and a gate in blocks told its own.
    layers = [ksg.layers.MinGRU, ksg.layers.RGLRU]
    network = keras.Sequential(
        [
            keras.Input((None, 2)),
            *(layer(2, return_sequences=True) for layer in layers),
        ]
    )
    model = ksg.SequenceModel.from_model(network)
    sgd = keras.optimizers.SGD(0.0)
    model.compile(sgd, "mse", method=UORO(2), jit_compile=False)
    x = np.ones([2, 4, 2])
    [loss] = model.fit(x, x, verbose=0).history["loss"]
    assert loss == pytest.approx(np.mean((network(x) - x) ** 2), rel=1e-6)
