"""ARTBP: unbiased by enumerating every cut pattern of a short sequence."""

import itertools

import keras
import numpy as np
import pytest

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import ARTBP
from keras_seqgrad.methods.base import WindowMethod
from keras_seqgrad.network import scans
from keras_seqgrad.truncation import Random
from keras_seqgrad.window.pullback import pull_window
from tests import zoo

STEPS = 4


class GivenGates(WindowMethod):
    """Back-propagation through links of a given worth."""

    def __init__(self, gates):
        self.given = gates

    def pull(self, window, seed=None):
        return pull_window(window, self.given)


def patterns(law, compensate):
    """(probability, gates) of every pattern of cuts of a sequence."""
    for cuts in itertools.product([False, True], repeat=STEPS - 1):
        probability, age, gates = 1.0, 0, [1.0]
        for cut in cuts:
            age += 1
            chance = law.cut_probability(age)
            probability *= chance if cut else 1.0 - chance
            gates.append(0.0 if cut else compensate(law, age))
            age = 0 if cut else age
        yield probability, np.array(gates, "float32")


def right(law, age):
    return 1.0 / (1.0 - law.cut_probability(age))


def off_by_one(law, age):
    """The weight of the link before, as the authors' released code has it."""
    return 1.0 if age == 1 else 1.0 / (1.0 - law.cut_probability(age - 1))


def expected_gradient(kind, law, compensate):
    network = zoo.network(kind, layers=2 if kind == "lstm" else 1)
    x, y = zoo.data(STEPS)
    model = SequenceModel.from_model(network)
    model.compile("sgd", "mse", method="bptt")
    _, exact = model.estimate_gradients(x, y)
    total, mean = 0.0, [0.0] * len(exact)
    gates = keras.Variable(np.ones(STEPS, "float32"), trainable=False)
    model.compile("sgd", "mse", method=GivenGates(gates))
    for probability, drawn in patterns(law, compensate):
        gates.assign(drawn)
        _, gradients = model.estimate_gradients(x, y)
        total += probability
        mean = [
            m + probability * g.numpy()
            for m, g in zip(mean, gradients, strict=True)
        ]
    assert total == pytest.approx(1.0)
    return mean, exact


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, alpha",
    [("lstm", None), ("lstm", 4.0), ("lstm", 6.0), ("gru", 4.0), ("own", 4.0)],
)
def test_expectation_over_every_cut_pattern_is_bptt(kind, alpha):
    mean, exact = expected_gradient(kind, Random(3, alpha), right)
    zoo.assert_same(mean, exact)


@pytest.mark.slow
def test_off_by_one_compensation_fails_the_same_test():
    mean, exact = expected_gradient("lstm", Random(3, 4.0), off_by_one)
    with pytest.raises(AssertionError, match="relative error"):
        zoo.assert_same(mean, exact)


@pytest.mark.compiled
@pytest.mark.parametrize("per_row", [False, True])
def test_own_draws_are_unbiased_in_the_mean(per_row):
    """The z-test of the draws, which a skewed reference must fail."""
    network = zoo.network("simple_rnn")
    x, y = zoo.data(STEPS)
    model = SequenceModel.from_model(network)
    model.compile("sgd", "mse", method="bptt", jit_compile=False)
    _, exact = model.estimate_gradients(x, y)
    exact = exact[1].numpy()
    method = ARTBP(3, per_row=per_row)
    model.compile("sgd", "mse", method=method, jit_compile=False)
    draws = np.stack(
        [
            model.estimate_gradients(x, y, seed=seed)[1][1].numpy()
            for seed in range(300)
        ]
    )
    error = draws.std(axis=0) / np.sqrt(len(draws))
    z = np.abs(draws.mean(axis=0) - exact) / error
    assert z.max() < 4.0
    skewed = np.abs(draws.mean(axis=0) - 1.5 * exact) / error
    assert skewed.max() > 4.0


def test_cuts_by_windows_reweigh_every_link():
    x, y = zoo.data(STEPS)
    model = SequenceModel.from_model(zoo.network("lstm"))
    method = ARTBP(3, cuts="window")
    model.compile("sgd", "mse", method=method)
    _, found = model.estimate_gradients(x, y)
    weights = method.law.link_weights(STEPS)
    model.compile("sgd", "mse", method=GivenGates(weights))
    zoo.assert_same(found, model.estimate_gradients(x, y)[1])


@pytest.mark.slow
@pytest.mark.parametrize("hazard", [None, 0.6])
def test_stream_of_drawn_windows_is_unbiased(hazard):
    """Sum over the pieces of a stream, over every way to cut it.

    The stream of four steps is cut into windows by the law; the state is
    carried, each step weighs 1 / mean length. The expectation of the sum of
    the windows' gradients must be the gradient of the whole stream.
    """
    law = Random(3, alpha=4.0, hazard=hazard)
    x, y = zoo.data(STEPS)
    network = zoo.network("lstm")
    model = SequenceModel.from_model(network, stateful=True)
    model.compile("sgd", "mse", method="bptt")
    _, exact = model.estimate_gradients(x, y)
    mean = [0.0] * len(exact)
    forward = SequenceModel.from_model(network, stateful=True)
    forward.compile("sgd", "mse", method=ARTBP(3, cuts="window", hazard=hazard))
    for cuts in itertools.product([False, True], repeat=STEPS - 1):
        ends = [i + 1 for i, cut in enumerate(cuts) if cut] + [STEPS]
        probability, start = 1.0, 0
        for end in ends:
            ages = np.arange(1, end - start)
            probability *= np.prod(1.0 - law.cut_probability(ages))
            if end < STEPS:
                probability *= law.cut_probability(end - start)
            start = end
        forward.carried["training"].reset()
        start = 0
        for end in ends:
            piece = x[:, start:end], y[:, start:end]
            _, gradients = forward.estimate_gradients(*piece)
            share = (end - start) / STEPS
            mean = [
                m + probability * share * g.numpy()
                for m, g in zip(mean, gradients, strict=True)
            ]
            state = forward.run_segment(
                piece[0], carried_state(forward, piece[0]), training=False
            )[1]
            forward.carried["training"].write(state)
            start = end
    zoo.assert_same(mean, exact)


def test_one_method_object_serves_two_models():
    x, y = zoo.data(STEPS)
    method, found = ARTBP(3, seed=7), []
    for _ in range(2):
        model = SequenceModel.from_model(zoo.network("lstm"))
        model.compile("sgd", "mse", method=method)
        found.append(model)
    first, second = (m.estimate_gradients(x, y)[1] for m in found)
    zoo.assert_same(first, second)


def carried_state(model, x):
    start = model.start_state(x, len(x))
    return model.carried["training"].read(start, len(x))[0]


def test_updates_at_every_cut_add_up_to_the_windows_gradient():
    """At a tiny rate the parameters hardly move between the cuts."""
    x, y = zoo.data(9)
    network = zoo.network("gru")
    model = SequenceModel.from_model(network)
    model.compile(
        keras.optimizers.SGD(1e-3), "mse", method=ARTBP(3, seed=1, update="cut")
    )
    _, gradients = model.estimate_gradients(x, y)
    cuts = int((model.method.gates(Steps(9), seed=1).numpy() == 0).sum())
    before = network.get_weights()
    model.fit(x, y, batch_size=3, verbose=0)
    moved = [
        (a - b) / 1e-3 * 3 / 9
        for a, b in zip(before, network.get_weights(), strict=True)
    ]
    assert cuts > 0
    assert int(model.optimizer.iterations) == cuts + 1
    zoo.assert_same(moved, gradients, tolerance=0.02)


class Steps:
    """As much of a window as the draws need."""

    one_target = False

    def __init__(self, steps):
        self.steps = steps


@pytest.mark.compiled
def test_updates_at_every_cut_are_refused_where_they_cannot_be():
    x, y = zoo.data(per_sequence=True)
    model = SequenceModel.from_model(zoo.network("gru", per_sequence=True))
    method = ARTBP(3, update="cut")
    with pytest.raises(ValueError, match="Set jit_compile=False"):
        model.compile("sgd", "mse", method=method, jit_compile=True)
    chosen = scans.resolved(model, method, {"jit_compile": "auto"})
    assert chosen["jit_compile"] is False
    assert not scans.resolved(model, ARTBP(3), {})
    model.compile("sgd", "mse", method=method)
    with pytest.raises(ValueError, match="needs targets at every step"):
        model.fit(x, y, verbose=0)


def test_draws_go_on_and_are_saved(tmp_path):
    x, y = zoo.data(STEPS)
    model = SequenceModel.from_model(zoo.network("lstm"))
    method = ARTBP(3, seed=7, checkpoint_every=4)
    model.compile("sgd", "mse", method=method)
    model.fit(x, y, batch_size=3, epochs=2, verbose=0)
    draws = model.method_state.draws.seed_and_count.numpy()
    assert draws.tolist() == [7, 2]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.method_state.draws.seed_and_count.numpy().tolist() == [7, 2]
    assert again.method.get_config() == model.method.get_config()


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"mean_length": 1}, "`mean_length` must be more than 1"),
        ({"mean_length": 5, "cuts": "never"}, "`cuts` must be one of"),
        ({"mean_length": 5, "update": "never"}, "`update` must be one of"),
        (
            {"mean_length": 5, "update": "cut", "cuts": "window"},
            'Set per_row=False and cuts="drawn"',
        ),
        (
            {"mean_length": 5, "cuts": "window", "per_row": True},
            "Set per_row=False",
        ),
        ({"mean_length": 5, "checkpoint_every": 0}, "`checkpoint_every` must"),
        (
            {"mean_length": 5, "update": "cut", "checkpoint_every": "auto"},
            'Set checkpoint_every=None, or update="window"',
        ),
    ],
)
def test_refusals(arguments, text):
    with pytest.raises(ValueError, match=text):
        ARTBP(**arguments)
