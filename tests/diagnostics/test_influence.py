"""How far a loss reaches back: closed forms, and a tape by hand."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.diagnostics import (
    InfluenceProfile,
    influence_profile,
    suggest_truncation_length,
)
from tests import zoo
from tests.network.test_segmented import Own


def make(network, loss="mse", **options):
    model = ksg.SequenceModel.from_model(network, **options)
    model.compile("sgd", loss, jit_compile=False)
    return model


def linear(rate, units=4, seed=0):
    """A linear recurrence whose matrix is `rate` times a rotation."""
    layer = keras.layers.SimpleRNN(units, "linear", return_sequences=True)
    network = keras.Sequential([keras.Input((None, 2)), layer])
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.normal(size=(units, units)))
    kernel, _, bias = layer.get_weights()
    layer.set_weights([kernel, rate * rotation, bias])
    return network


@pytest.mark.slow
def test_decay_of_a_known_spectrum():
    x, _ = zoo.data(12)
    y = np.ones((zoo.BATCH, 12, 4), "float32")
    model = make(linear(0.6))
    profile = influence_profile(model, x, y, 8, targets=4)
    norms = profile.norms["all"]
    np.testing.assert_allclose(norms / norms[0], 0.6 ** np.arange(9), 1e-4)
    assert profile.decay_rates["all"] == pytest.approx(0.6, abs=1e-4)
    # The sums of a geometric series.
    assert profile.tail(4) == pytest.approx(0.6**5, rel=1e-3)
    assert profile.tail(30) == pytest.approx(0.6**31, rel=1e-2)
    assert profile.relative_bias(5, stride=1) == pytest.approx(0.6**5, 1e-3)
    by_hand = np.mean([0.6 ** (j + 1) for j in range(5)])
    assert profile.relative_bias(5) == pytest.approx(by_hand, rel=1e-3)
    # Nothing cancels here, so truncation loses no more than the norms say.
    length = suggest_truncation_length(profile, 0.3)
    assert length < 6
    method = ksg.methods.TruncatedBPTT(length)
    found = ksg.diagnostics.compare_gradients(model, x, y, {"cut": method})
    assert 0 < found["cut"].relative_bias < 0.3


@pytest.mark.parametrize("stride", [None, 1, 3])
@pytest.mark.parametrize("rate", [0.5, 0.95])
def test_suggestion_is_the_shortest(stride, rate):
    profile = InfluenceProfile({"all": rate ** np.arange(25)})
    length = suggest_truncation_length(profile, 0.05, stride)
    assert profile.relative_bias(length, stride) < 0.05
    assert profile.relative_bias(length - 1, stride) >= 0.05
    assert length > suggest_truncation_length(profile, 0.2, stride)


@pytest.mark.slow
def test_linear_system_in_closed_form():
    task, steps, lag = ksg.data.tasks.InfluenceBalancing(16), 8, 5
    cell = ksg.data.tasks.InfluenceBalancingCell()
    network = [keras.Input((None, 1)), keras.layers.RNN(cell, True)]
    model = make(keras.Sequential(network))
    x = np.zeros((1, steps, 1), "float32")
    profile = influence_profile(model, x, np.ones_like(x), lag)
    state, errors = np.ones(23), []
    for _ in range(steps):
        state = task.matrix @ state + 0.5 * task.direction
        errors.append(2 * abs(state[0] - 1.0))
    powers, row = [], np.eye(23)[0]
    for _ in range(lag + 1):
        powers.append(np.linalg.norm(row))
        row = row @ task.matrix
    expected = np.mean(errors[lag:]) * np.array(powers)
    np.testing.assert_allclose(profile.norms["all"], expected, rtol=1e-4)


def by_hand(network, x, y, weight, max_lag):
    """Norms of a GRU and an LSTM above it, by a tape over Keras' cells."""
    gru, lstm, readout = network.layers
    steps, states, losses = x.shape[1], [], []
    first, second = tf.zeros((3, 3)), [tf.zeros((3, 3)), tf.zeros((3, 3))]
    with tf.GradientTape(persistent=True) as tape:
        for step in range(steps):
            first = gru.cell(x[:, step], [first])[0]
            tape.watch(first)
            _, second = lstm.cell(first, second)
            # Copies, so that what the cell itself made of c is left out.
            second = [tf.identity(s) for s in second]
            tape.watch(second)
            states.append([[first], second])
            error = tf.reduce_mean((readout(second[0]) - y[:, step]) ** 2, 1)
            losses.append(error * weight[:, step])
    norms = np.zeros((3, max_lag + 1))
    for step in range(max_lag, steps):
        for lag in range(max_lag + 1):
            parts = []
            for place, leaves in enumerate(states[step - lag]):
                found = tape.gradient(
                    losses[step], leaves, unconnected_gradients="zero"
                )
                parts.append(np.concatenate(found, axis=1))
                norms[place, lag] += np.linalg.norm(parts[-1], axis=1).mean()
            whole = np.concatenate(parts, axis=1)
            norms[2, lag] += np.linalg.norm(whole, axis=1).mean()
    return norms / (steps - max_lag)


@pytest.mark.slow
def test_layers_on_one_another_against_a_tape():
    x, y = zoo.data(5)
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((None, 2)),
            layers.GRU(3, return_sequences=True, name="low", dropout=0.5),
            layers.LSTM(3, return_sequences=True, name="high"),
            layers.Dense(2),
        ]
    )
    weight = np.random.default_rng(1).random((3, 5)).astype("float32")
    model = make(network)
    before = [v.numpy() for v in zoo.everything(model)]
    profile = influence_profile(model, x, y, 2, weight, targets=6)
    expected = by_hand(network, x, y, weight, 2)
    assert list(profile.norms) == ["low", "high", "all"]
    for name, norms in zip(profile.norms, expected, strict=True):
        np.testing.assert_allclose(profile.norms[name], norms, rtol=1e-4)
    # The states that are followed are a choice; all of them here and there.
    few = influence_profile(model, x, y, 2, weight, targets=2)
    assert zoo.differ([few.norms["all"]], [profile.norms["all"]])
    for variable, value in zip(zoo.everything(model), before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.slow
def test_one_layer_called_twice():
    """As two layers of the same weights."""
    layers = keras.layers
    x, y = zoo.data(4)
    shared, readout = layers.GRU(2, return_sequences=True), layers.Dense(2)
    inputs = keras.Input((None, 2))
    network = keras.Model(inputs, readout(shared(shared(inputs))))
    profile = influence_profile(make(network), x, y, 2)
    copies = [layers.GRU(2, return_sequences=True) for _ in range(2)]
    two = keras.Sequential([keras.Input((None, 2)), *copies, readout])
    for copied in copies:
        copied.set_weights(shared.get_weights())
    expected = influence_profile(make(two), x, y, 2)
    assert list(profile.norms) == ["gru", "gru_again", "all"]
    for found, norms in zip(
        profile.norms.values(), expected.norms.values(), strict=True
    ):
        np.testing.assert_allclose(found, norms, rtol=1e-5)


@pytest.mark.slow
def test_one_target_masks_and_resets():
    x, y = zoo.data(6, per_sequence=True)
    model = make(zoo.network("gru", per_sequence=True))
    profile = influence_profile(model, x, y, 5)
    assert profile.norms["all"][5] > 0
    reset = np.zeros((zoo.BATCH, 6), bool)
    reset[:, 4] = True
    cut = influence_profile(model, {"inputs": x, "reset": reset}, y, 5)
    np.testing.assert_array_equal(cut.norms["all"][2:], 0.0)
    assert cut.norms["all"][1] > 0
    assert cut.decay_rates["all"] == 0.0
    mask = np.ones((zoo.BATCH, 6), bool)
    mask[:, 2:4] = False
    held = influence_profile(model, {"inputs": x, "mask": mask}, y, 5)
    norms = held.norms["all"]
    # Lags 2 to 4 are one state, which waits for two steps.
    np.testing.assert_allclose(norms[2:4], norms[4], rtol=1e-5)
    assert norms[5] != pytest.approx(norms[4], rel=1e-3)


@pytest.mark.slow
def test_stateful_and_learned_start():
    x, y = zoo.data(4)
    network = zoo.network("lstm")
    model = make(network, stateful=True)
    model.fit(x, y, 3, shuffle=False, verbose=0)
    profile = influence_profile(model, x, y, 2)
    plain = influence_profile(make(network), x, y, 2)
    # The state that is carried is another one than zeros.
    assert zoo.differ([profile.norms["all"]], [plain.norms["all"]])
    learned = make(network, learn_initial_state=True)
    same = influence_profile(learned, x, y, 2)
    np.testing.assert_allclose(same.norms["all"], plain.norms["all"], rtol=1e-4)


def test_as_data_and_picture(tmp_path):
    profile = InfluenceProfile({"rnn": np.ones(4), "all": 0.5 ** np.arange(4)})
    data = json.loads(json.dumps(profile.to_dict()))
    assert data["all"]["norms"] == [1.0, 0.5, 0.25, 0.125]
    assert data["all"]["decay_rate"] == pytest.approx(0.5)
    figure = profile.plot(tmp_path / "profile.png")
    assert (tmp_path / "profile.png").stat().st_size > 5_000
    [axis] = figure.axes
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["rnn (× 1 a step)", "all (× 0.5 a step)"]
    assert axis.get_xlabel() == "lag k in steps"
    falling = 0.5 ** np.arange(9)
    [axis] = InfluenceProfile({"rnn": falling, "all": falling}).plot().axes
    # A second line would hide the first.
    assert [line.get_label()[:3] for line in axis.get_lines()] == ["rnn"]


def test_what_layers_add_is_left_out():
    found = []
    for regularizer in None, "l2":
        keras.utils.set_random_seed(1)
        network = zoo.network("gru", activity_regularizer=regularizer)
        profile = influence_profile(make(network), *zoo.data(4), 2)
        found.append([*profile.norms.values()])
    zoo.assert_same(*found, tolerance=0)


def test_refusals():
    x, y = zoo.data()
    model = make(zoo.network("gru"))
    with pytest.raises(ValueError, match="more than 7 steps, received 7"):
        influence_profile(model, x, y, 7)
    with pytest.raises(ValueError, match="`max_lag` must be an integer"):
        influence_profile(model, x, y, 0)
    with pytest.raises(ValueError, match="`targets` must be an integer"):
        influence_profile(model, x, y, 3, targets=0)
    own = Own()
    own.compile("sgd", "mse", jit_compile=False)
    with pytest.raises(ValueError, match="received a subclass with its own"):
        influence_profile(own, x, y, 3)
    flat = InfluenceProfile({"all": np.ones(9)})
    with pytest.raises(ValueError, match="rate 1.*beyond max_lag=8"):
        suggest_truncation_length(flat)
    falling = InfluenceProfile({"all": 0.5 ** np.arange(9)})
    for tolerance in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"tolerance={tolerance}"):
            suggest_truncation_length(falling, tolerance)
    with pytest.raises(ValueError, match="`stride` must be an integer"):
        suggest_truncation_length(falling, stride=0)
    with pytest.raises(ValueError, match="received one without `sums`"):
        suggest_truncation_length(falling, lengths=[1], signed=True)
    with pytest.raises(ValueError, match=r"increase. Received: lengths=\[2, 1"):
        suggest_truncation_length(falling, lengths=[2, 1])
    # Among some lengths there is always one.
    assert suggest_truncation_length(flat, lengths=[1, 5]) == 5


@pytest.mark.slow
def test_lags_of_padded_rows_count_from_their_own_ends():
    keras.utils.set_random_seed(2)
    network = keras.Sequential(
        [keras.Input((None, 2)), keras.layers.Masking(), keras.layers.GRU(3)]
    )
    model = make(network)
    x, _ = zoo.data(4)
    y = np.ones((zoo.BATCH, 3), "float32")
    lengths, rows = [4, 2, 3], []
    for row, length in enumerate(lengths):
        x[row, length:] = 0.0
        rows.append(
            influence_profile(model, x[[row], :length], y[[row]], length - 1)
        )
    found = influence_profile(model, x, y, 3).norms["all"]
    for lag in range(4):
        long = [r.norms["all"][lag] for r in rows if len(r.norms["all"]) > lag]
        assert found[lag] == pytest.approx(np.mean(long), rel=1e-4)


def test_lengths_at_the_ends():
    """None that is too long to be found, and where nothing reaches at all."""
    rate = 1.0 - 1e-8
    slow = InfluenceProfile({"all": rate ** np.arange(9)})
    length = suggest_truncation_length(slow, 0.1, stride=1)
    # All that lies beyond lag K - 1 is rate ** K of a geometric series.
    assert length == pytest.approx(np.log(0.1) / np.log(rate), rel=1e-6)
    nothing = InfluenceProfile({"all": np.zeros(9)})
    assert nothing.tail(3) == nothing.relative_bias(30) == 0.0
    assert suggest_truncation_length(nothing) == 1
