"""Synthetic gradients over windows, resets, masks; what synthesisers read."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.methods import SyntheticGradients
from tests import zoo
from tests.methods.synthetic_gradients.synthesizing import (
    Constant,
    Zero,
    make,
    oracle,
    taught,
)

LENGTH, STEPS = 2, 7


def windows(array, size):
    """(batch, time, ...) as windows one after another, along the batch."""
    return np.concatenate(np.split(array, array.shape[1] // size, axis=1))


@pytest.mark.slow
def test_a_stream_is_taught_as_the_sequence_it_makes(monkeypatch):
    x, y = zoo.data(10)
    network = zoo.network("lstm")
    method = SyntheticGradients(LENGTH, Constant())
    whole = taught(monkeypatch, method, network, x, y)
    assert len(whole) == 4
    x, y = windows(x[:, :8], 4), windows(y[:, :8], 4)
    found = taught(monkeypatch, method, network, x, y, stateful=True)
    # Before steps 2, 4 and 6; the second lies between the two windows.
    assert len(found) == 3
    for lesson, expected in zip(found, whole, strict=False):
        assert lesson.rows.all()
        zoo.assert_same([lesson.state], [expected.state])
        zoo.assert_same([lesson.target], [expected.target])
    # Without a state that goes on, the boundary between is none.
    apart = taught(monkeypatch, method, network, x, y)
    assert len(apart) == 2


@pytest.mark.slow
def test_a_guess_that_needs_the_next_input_stays_in_its_window(monkeypatch):
    x, y = zoo.data(8)
    network = zoo.network("gru")
    method = SyntheticGradients(LENGTH, Constant(), condition="next_input")
    given = windows(x, 4), windows(y, 4)
    stream = taught(monkeypatch, method, network, *given, stateful=True)
    assert len(stream) == 3
    # The first one's target ends with the window, as that of a sequence.
    alone = taught(monkeypatch, method, network, x[:, :4], y[:, :4])
    zoo.assert_same([stream[0].target], [alone[0].target])
    model = make(method, network, stateful=True)
    with pytest.raises(ValueError, match="above length=2 steps, received 2"):
        model.fit(windows(x, 2), windows(y, 2), 3, shuffle=False)


def companions(kind):
    """Inputs with resets, masks, or neither; and sample weights."""
    x, y = zoo.data(STEPS)
    weight, extra = None, np.zeros((zoo.BATCH, STEPS), bool)
    if kind == "reset":
        extra[0, 2] = extra[1, 3] = extra[2, 5] = True
    elif kind == "mask":
        extra[0, 3:] = extra[1, 1:3] = True
        extra = ~extra
    elif kind == "weight":
        weight = np.random.default_rng(1).uniform(size=(zoo.BATCH, STEPS))
        return x, y, weight.astype("float32")
    return {"inputs": x, kind: extra}, y, weight


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["reset", "mask", "weight"])
def test_an_oracle_makes_it_exact_with(kind, monkeypatch):
    x, y, weight = companions(kind)
    network = zoo.network("lstm")
    knowing, true = oracle(monkeypatch, network, x, y, LENGTH, weight)
    _, exact = make("bptt", network, run_eagerly=True).estimate_gradients(
        x, y, weight
    )
    method = SyntheticGradients(LENGTH, knowing, scale=1.0)
    _, found = make(method, network).estimate_gradients(x, y, weight)
    zoo.assert_same(found, exact)
    method = SyntheticGradients(LENGTH, Zero())
    _, zero = make(method, network).estimate_gradients(x, y, weight)
    assert zoo.differ(zero, exact)
    method = SyntheticGradients(LENGTH, knowing)
    lessons = taught(monkeypatch, method, network, x, y, weight)
    for lesson, expected in zip(lessons, true, strict=True):
        zoo.assert_same([lesson.target[lesson.rows]], [expected[lesson.rows]])


@keras.saving.register_keras_serializable("tests")
class CountingCell(keras.layers.Layer):
    """Gives the number of boundaries it has read, to every unit."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units, self.state_size, self.output_size = units, 1, units

    def call(self, inputs, states, training=False):
        count = states[0] + 1.0
        return keras.ops.repeat(count, self.units, axis=1), [count]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def counting(size):
    return keras.Sequential(
        [
            keras.Input((None, size)),
            keras.layers.RNN(CountingCell(size), return_sequences=True),
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize("stateful", [False, True])
def test_a_recurrent_synthesiser_goes_from_boundary_to_boundary(
    stateful, monkeypatch
):
    x, y = zoo.data(8)
    if stateful:
        x, y = windows(x, 4), windows(y, 4)
    network = zoo.network("gru")

    def targets(synthesizer, bootstrap=1.0):
        method = SyntheticGradients(LENGTH, synthesizer, bootstrap=bootstrap)
        found = taught(monkeypatch, method, network, x, y, stateful=stateful)
        return np.stack([lesson.target for lesson in found])

    alone = targets(Zero())
    one = targets(Constant()) - alone
    found = targets(counting) - alone
    assert len(found) == 3
    # It reads the start of the sequence first, so the boundary at the end of
    # the second segment is its third.
    counts = np.array([3.0, 4.0, 5.0]).reshape([3, 1, 1])
    zoo.assert_same(found, one * counts)


@pytest.mark.slow
def test_what_a_recurrent_synthesiser_carries_is_saved(tmp_path):
    x, y = zoo.data(8)
    x, y = windows(x, 4), windows(y, 4)
    model = make(
        SyntheticGradients(LENGTH, counting), zoo.network("gru"), stateful=True
    )
    model.fit(x, y, 3, shuffle=False, verbose=0)
    count, _ = model.method_state.parts["synthesis"].memory.rows[:2]
    np.testing.assert_array_equal(count.numpy(), np.full((3, 1), 4.0))
    model.train_on_batch(x[:3], y[:3])
    np.testing.assert_array_equal(count.numpy(), np.full((3, 1), 6.0))
    model.reset_state([1])
    model.train_on_batch(x[:3], y[:3])
    assert count.numpy().ravel().tolist() == [8.0, 2.0, 8.0]


class Reading(keras.layers.Layer):
    """Guesses the next input's first number for every unit."""

    def call(self, state, value):
        return tf.ones_like(state) * value[:, :1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["input", "target"])
def test_a_synthesiser_may_read_what_comes_next(name, monkeypatch):
    x, y = zoo.data(6)
    network = zoo.network("gru")
    state, value = keras.Input((3,), name="state"), keras.Input((2,), name=name)
    reading = keras.Model(
        {"state": state, name: value}, Reading()(state, value)
    )

    def targets(synthesizer):
        method = SyntheticGradients(LENGTH, synthesizer)
        found = taught(monkeypatch, method, network, x, y)
        return np.stack([lesson.target for lesson in found])

    alone = targets(Zero())
    one, found = targets(Constant()) - alone, targets(reading) - alone
    read = {"input": x, "target": y}[name][:, 4, :1]
    zoo.assert_same([found[0]], [one[0] * read])
    # At the end of the window nothing is guessed.
    zoo.assert_same([found[1]], [0 * found[1]])


@pytest.mark.compiled
def test_a_recurrent_synthesiser_learns():
    x, y = zoo.data(6)

    def recurrent(size):
        return keras.Sequential(
            [
                keras.Input((None, size)),
                keras.layers.GRU(8, return_sequences=True),
                keras.layers.Dense(size),
            ]
        )

    method = SyntheticGradients(
        LENGTH,
        recurrent,
        synthesizer_optimizer=keras.optimizers.Adam(0.01),
    )
    model = make(method, zoo.network("simple_rnn"))
    x, y = zoo.repeated(10, x, y)
    history = model.fit(x, y, 3, epochs=6, shuffle=False, verbose=0).history
    losses = history["synthesizer_loss"]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.compiled
def test_one_small_network_for_every_unit_learns():
    """h' = 0.8 h after a first push: what is to come is a factor times h."""
    network = keras.Sequential(
        [
            keras.Input((None, 1)),
            keras.layers.SimpleRNN(
                2, "linear", use_bias=False, return_sequences=True
            ),
        ]
    )
    network.set_weights([np.float32([[1.0, 0.5]]), 0.8 * np.eye(2)])
    method = SyntheticGradients(
        LENGTH,
        "elementwise",
        synthesizer_optimizer=keras.optimizers.Adam(0.01),
    )
    model = make(method, network)
    x = np.zeros((64, 4, 1), "float32")
    x[:, 0] = np.random.default_rng(0).normal(size=(64, 1))
    y = np.zeros((64, 4, 2))
    model.fit(*zoo.repeated(250, x, y), 64, shuffle=False, verbose=0)
    model.run_eagerly = True  # for one look
    found = ksg.diagnostics.boundary_gradients(model, x, y)
    assert found.cosine > 0.98 and found.relative_error < 0.2


@pytest.mark.slow
def test_a_synthesiser_of_the_users_is_saved_with_its_optimizer(tmp_path):
    x, y = zoo.data(LENGTH + 1)

    def fresh():
        keras.utils.set_random_seed(1)
        synthesizer = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(5), keras.layers.Dense(3)]
        )
        method = SyntheticGradients(
            LENGTH,
            synthesizer,
            synthesizer_optimizer=keras.optimizers.SGD(0.1, momentum=0.9),
        )
        return make(method, zoo.network("gru"), rate=0.1)

    whole, model = fresh(), fresh()
    whole.fit(x, y, epochs=2, verbose=0)
    model.fit(x, y, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    again.fit(x, y, initial_epoch=1, epochs=2, verbose=0)
    one, other = (m.method_state.parts["synthesis"] for m in (again, whole))
    pairs = [
        *zip(again.variables, whole.variables, strict=True),
        *zip(one.optimizer.variables, other.optimizer.variables, strict=True),
    ]
    for a, b in pairs:
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert int(one.optimizer.iterations) == 2
