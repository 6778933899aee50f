"""Lambda-returns against exact gradients, sums by hand and one segment's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.methods import SyntheticGradients
from tests import zoo
from tests.methods.synthetic_gradients.synthesizing import (
    Constant,
    lessons,
    make,
    taught,
)
from tests.methods.synthetic_gradients.test_data import (
    companions,
    counting,
    windows,
)
from tests.methods.synthetic_gradients.test_method import NETWORKS

LENGTH, STEPS = 2, 7


def taught_with(monkeypatch, network, x, y, lambda_, weight=None, **options):
    """The lessons of one window."""
    stateful = options.pop("stateful", False)
    options.setdefault("synthesizer", Constant())
    method = SyntheticGradients(LENGTH, lambda_=lambda_, **options)
    return taught(monkeypatch, method, network, x, y, weight, stateful=stateful)


def targets(*args, **options):
    """What is taught on one window, in rows that count; else zero."""
    return [
        np.where(lesson.rows[:, None], lesson.target, 0.0)
        for lesson in taught_with(*args, **options)
    ]


def truth(network, x, y, weight=None):
    """The exact gradients at the boundaries."""
    model = make(SyntheticGradients(LENGTH), network, run_eagerly=True)
    return ksg.diagnostics.boundary_gradients(model, x, y, weight).true


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, guess",
    [
        ("two layers of lstm", 1.0),
        ("stacked", 1.0),
        ("own", 1.0),
        ("gru", np.inf),
    ],
)
def test_all_the_way_to_the_end_it_is_exact_whatever_is_guessed(
    kind, guess, monkeypatch
):
    x, y = zoo.data(STEPS)
    network = NETWORKS[kind]()
    options = {"synthesizer": Constant(guess), "inject": False}
    found = targets(monkeypatch, network, x, y, 1.0, **options)
    true = truth(network, x, y)
    zoo.assert_same(found, true)
    if kind == "own":
        half = targets(monkeypatch, network, x, y, 0.5, **options)
        assert zoo.differ(half, true)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["reset", "mask", "weight"])
def test_all_the_way_to_the_end_it_is_exact_with(kind, monkeypatch):
    x, y, weight = companions(kind)
    if kind == "reset":  # at a boundary behind others
        x["reset"][0, 6] = True
    network = zoo.network("lstm")
    lessons = taught_with(monkeypatch, network, x, y, 1.0, weight)
    true = truth(network, x, y, weight)
    for lesson, expected in zip(lessons, true, strict=True):
        zoo.assert_same([lesson.target[lesson.rows]], [expected[lesson.rows]])
    counted = sum(lesson.rows.sum() for lesson in lessons)
    assert counted == {"reset": 7, "mask": 7, "weight": 9}[kind]


def test_with_one_target_a_sequence(monkeypatch):
    x, y = zoo.data(STEPS, per_sequence=True)
    network = zoo.network("gru", per_sequence=True)
    found = targets(monkeypatch, network, x, y, 1.0)
    zoo.assert_same(found, truth(network, x, y))


@pytest.mark.slow
def test_a_scaled_loss_changes_nothing_and_an_overflow_stays_where_it_is(
    monkeypatch,
):
    x, y = zoo.data(STEPS)
    network = zoo.network("simple_rnn")

    def scaled(y):
        model = make(
            SyntheticGradients(LENGTH, Constant(), lambda_=0.5), network
        )
        model.compile(
            keras.optimizers.LossScaleOptimizer(
                keras.optimizers.SGD(0.0), initial_scale=64.0
            ),
            "mse",
            method=model.method,
            run_eagerly=True,
        )
        with lessons(monkeypatch) as found:
            model.fit(x, y, zoo.BATCH, shuffle=False, verbose=0)
        return np.stack([lesson.target for lesson in found])

    plain = np.stack(targets(monkeypatch, network, x, y, 0.5))
    zoo.assert_same(scaled(y), plain)
    y[0, 6] = np.inf
    found = scaled(y)
    zoo.assert_same(found[:, 1:], plain[:, 1:])
    # The row's last boundary is lost; those before it trust the guess.
    one = np.stack(targets(monkeypatch, network, x, y, 0.0))
    assert not np.isfinite(found[-1, 0]).any()
    zoo.assert_same([found[-2, 0]], [one[-2, 0]])
    assert np.isfinite(found[0, 0]).all()


@pytest.mark.slow
@pytest.mark.parametrize("stateful", [False, True])
def test_it_is_the_weighted_mean_of_returns_of_n_segments(
    stateful, monkeypatch
):
    """(1 - lambda) sum of lambda^(n-1) R^n, the longest with what is left.

    R_k^n = d/dh_k (sum of b^i l_{k+i}, i < n, + b^n h_{k+n} . M_{k+n})
    """
    lambda_, discount, guess = 0.3, 0.7, 2.0
    x, y = zoo.data(8)
    network = zoo.network("gru")
    layer, readout = network.layers
    pieces = [slice(start, start + LENGTH) for start in range(0, 8, LENGTH)]

    def run(state, piece):
        """A row's loss, summed over a segment, and the state after it."""
        hidden = layer(x[:, piece], initial_state=state)
        error = tf.reduce_mean((readout(hidden) - y[:, piece]) ** 2, axis=2)
        return tf.reduce_sum(error), hidden[:, -1]

    def return_of(k, state, segments):
        with tf.GradientTape() as tape:
            tape.watch(state)
            total, h = 0.0, state
            for i in range(segments):
                loss, h = run(h, pieces[k + i])
                total += discount**i * loss
            if stateful or k + segments < len(pieces):
                total += discount**segments * guess * tf.reduce_sum(h)
        return tape.gradient(total, state)

    state, expected = tf.zeros([zoo.BATCH, 3]), []
    for k in range(len(pieces)):
        longest = len(pieces) - k
        parts = [return_of(k, state, n + 1) for n in range(longest)]
        shares = (1 - lambda_) * lambda_ ** np.arange(longest)
        shares[-1] = lambda_ ** (longest - 1)
        assert shares.sum() == pytest.approx(1)
        expected.append(sum(a * b for a, b in zip(shares, parts, strict=True)))
        _, state = run(state, pieces[k])
    found = targets(
        monkeypatch,
        network,
        x,
        y,
        lambda_,
        synthesizer=Constant(guess),
        bootstrap=discount,
        stateful=stateful,
    )
    zoo.assert_same(found, expected[1:])  # nothing is taught at the start


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"condition": "next_input", "auxiliary": 0.5, "bootstrap": 0.4},
        {"synthesizer": counting},
        {"stateful": True, "synthesizer": counting},
        {"kind": "reset"},
        {"kind": "mask"},
    ],
    ids=lambda options: "-".join(options) + str(options.get("kind", "")),
)
def test_in_the_limit_it_is_the_target_of_one_segment(options, monkeypatch):
    options = dict(options)
    kind = options.pop("kind", None)
    x, y = companions(kind)[:2] if kind else zoo.data(STEPS)
    if options.get("stateful"):
        x, y = zoo.data(8)
        x, y = windows(x, 4), windows(y, 4)
    network = zoo.network("simple_rnn")
    one = targets(monkeypatch, network, x, y, 0.0, **options)
    limit = targets(monkeypatch, network, x, y, 1e-30, **options)
    zoo.assert_same(limit, one)
    if not kind:
        whole = targets(monkeypatch, network, x, y, 1.0, **options)
        assert zoo.differ(whole, one)


@pytest.mark.slow
def test_a_stream_ends_in_a_guess_and_its_next_window_begins_with_a_return(
    monkeypatch,
):
    x, y = zoo.data(8)
    network = zoo.network("gru")
    given = windows(x, 4), windows(y, 4)
    found = targets(monkeypatch, network, *given, 1.0, stateful=True)
    assert len(found) == 3  # before steps 2, 4 and 6
    one = targets(monkeypatch, network, *given, 0.0, stateful=True)
    # A single segment is left of the window, so it is as without returns.
    zoo.assert_same([found[0], found[2]], [one[0], one[2]])
    assert zoo.differ([found[1]], [one[1]])


@pytest.mark.slow
def test_what_running_ahead_moves_is_put_back():
    """Without injection it trains as truncation does, to the last bit."""
    x, y = zoo.data(6)
    found = []
    for method in (
        SyntheticGradients(LENGTH, "linear", inject=False, lambda_=0.7),
        ksg.methods.TruncatedBPTT(LENGTH),
    ):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((None, zoo.FEATURES))
        hidden = keras.layers.GRU(3, return_sequences=True)(inputs)
        hidden = keras.layers.Dropout(0.5, seed=7)(hidden)
        heads = {name: keras.layers.Dense(2, name=name) for name in "ab"}
        network = keras.Model(inputs, {n: h(hidden) for n, h in heads.items()})
        model = make(
            method,
            network,
            rate=0.1,
            loss={"a": "mse", "b": "mae"},
            metrics={"a": "mae"},
        )
        targets = {"a": y, "b": -y}
        history = model.fit(x, targets, epochs=2, verbose=0).history
        logged = ["loss", "a_loss", "b_loss", "a_mae"]
        found.append([*network.get_weights(), *[history[n] for n in logged]])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_what_layers_drew_ahead_is_what_they_draw(monkeypatch):
    """At lambda = 1 a return is the gradient of the very pass that follows."""
    x, y = zoo.data(STEPS)
    keras.utils.set_random_seed(1)
    network = keras.Sequential(
        [
            keras.Input((None, zoo.FEATURES)),
            keras.layers.GRU(3, return_sequences=True),
            keras.layers.Dropout(0.5, seed=7),
            keras.layers.Dense(2),
        ]
    )
    draws = network.layers[1].seed_generator.state
    before = draws.numpy()
    found = targets(monkeypatch, network, x, y, 1.0)
    draws.assign(before)
    true = truth(network, x, y)
    zoo.assert_same(found, true)
    draws.assign(before + 1)
    assert zoo.differ(found[-1:], truth(network, x, y)[-1:])


@pytest.mark.compiled
def test_where_the_state_tells_all_it_learns_faster():
    """A slow linear system, whose guesses stay behind with a bootstrap."""
    learnt = []
    for lambda_ in (0.0, 0.9):
        keras.utils.set_random_seed(0)
        linear = keras.layers.SimpleRNN(
            16, "linear", use_bias=False, return_sequences=True
        )
        network = keras.Sequential(
            [keras.Input((60, 4)), linear, keras.layers.Dense(4)]
        )
        generator = np.random.default_rng(0)
        rotation, _ = np.linalg.qr(generator.normal(size=(16, 16)))
        kernel, _, *readout = network.get_weights()
        network.set_weights([kernel, 0.98 * rotation, *readout])
        method = SyntheticGradients(
            5,
            "linear",
            lambda_=lambda_,
            synthesizer_optimizer=keras.optimizers.SGD(0.05),
        )
        model = make(method, network, jit_compile=True)
        x = 0.1 * generator.normal(size=(1856, 60, 4))
        x[:, 0] *= 10
        y, seen, other = 0 * x, slice(256, None), slice(256)
        model.fit(x[seen], y[seen], 32, verbose=0)
        synthesis = model.method_state.parts["synthesis"]
        learnt.append(synthesis.get_weights())
    found, model.run_eagerly = [], True
    for weights in learnt:  # beside a network that has stood still
        synthesis.set_weights(weights)
        quality = ksg.diagnostics.boundary_gradients(model, x[other], y[other])
        found.append(quality.relative_error)
    # As the documentation says.
    assert found == pytest.approx([0.83, 0.64], abs=0.02)
