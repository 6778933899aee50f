"""What layers add to the loss is logged as Keras has it of the whole window."""

import contextlib

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from keras_seqgrad.network.nodes import means_over_rows
from tests import replicas, zoo
from tests.methods.table import TABLE

pytestmark = pytest.mark.slow

L = keras.layers
MSE = keras.losses.MeanSquaredError()
# They judge outputs apart from the layers that made them, or out of order.
REFUSED = {"bptt_checkpointed", "tprop"}
# They add it by the lines of another row.
ALIKE = {"artbp_rows", "artbp_window", "dni", "alternating"}


class Spread(L.Layer):
    """Adds what is neither a sum nor a mean over steps."""

    def call(self, inputs):
        self.add_loss(keras.ops.std(inputs))
        return inputs


def lossy(kind="gru", **options):
    options |= {"kernel_regularizer": "l2", "activity_regularizer": "l2"}
    network = zoo.network(kind, **options)
    assert network.layers[0].activity_regularizer  # SimpleRNN drops it
    behind = [Spread(), L.Dense(2, activity_regularizer="l1")]
    return keras.Sequential([keras.Input((None, 2)), *network.layers, *behind])


def compiled(network, method, rate=0.0, **options):
    model = ksg.SequenceModel.from_model(network)
    sgd = keras.optimizers.SGD(rate)
    model.compile(sgd, "mse", method=method, **options)
    return model


def assert_logs(model, x, y):
    expected, _ = zoo.keras_gradients(model.network, x, y, MSE)
    for step in model.train_on_batch, model.test_on_batch:
        logs = step(x, y, return_dict=True)
        assert logs["loss"] == pytest.approx(float(expected), rel=1e-5)
        model.reset_metrics()


@pytest.mark.parametrize("name", sorted(TABLE.keys() - ALIKE))
def test_logged_as_keras_has_it(name):
    network = lossy(TABLE[name].instead.get("gru", "gru"))
    model = compiled(network, TABLE[name].method())
    x, y = zoo.data(3)
    if name in REFUSED:
        with pytest.raises(ValueError, match="not defined for losses that lay"):
            model.train_on_batch(x, y)
        return
    assert_logs(model, x, y)


@pytest.mark.parametrize("name", ["tbptt", "dni", "fptt", "rtrl", "uoro"])
def test_with_one_target_a_sequence(name):
    network = lossy(per_sequence=True)
    x, y = zoo.data(3, per_sequence=True)
    assert_logs(compiled(network, TABLE[name].method()), x, y)


def test_draws_for_the_segments_as_ever():
    x, y = zoo.data(6)
    drawn = []
    for layers in [Spread()], []:
        layers = [*zoo.network("gru", dropout=0.5).layers, *layers]
        network = keras.Sequential([keras.Input((None, 2)), *layers])
        model = compiled(network, ksg.methods.TruncatedBPTT(3), 0.1)
        model.train_on_batch(x, y)
        drawn.append([v.numpy() for v in model.running_variables])
    np.testing.assert_array_equal(*drawn)


@pytest.mark.compiled
def test_compiled():
    method = ksg.methods.TruncatedBPTT(3)
    assert_logs(compiled(lossy(), method, jit_compile=True), *zoo.data(6))


@pytest.mark.parametrize("states", [False, True])
def test_recurrent_layers_add_what_they_add_in_keras(states):
    """Whatever this version divides by; of states that they give, too."""
    inputs = keras.Input((None, 2))
    options = {"return_sequences": True, "activity_regularizer": "l2"}
    made = L.LSTM(2, return_state=states, **options)(inputs)
    hidden = made[0] if states else made
    network = keras.Model(inputs, L.Dense(2)(hidden))
    x, y = zoo.data()
    loss, expected = zoo.keras_gradients(network, x, y, MSE)
    model = compiled(network, ksg.methods.BPTT())
    ours, found = model.estimate_gradients(x, y)
    assert float(ours) == pytest.approx(float(loss), rel=1e-5)
    zoo.assert_same(found, expected)


def regularised(per_sequence=False, **options):
    """L1 and L2 of what layers give at every step, or of the last output."""
    options |= {"kernel_regularizer": "l2", "activity_regularizer": "l2"}
    network = zoo.network("gru", per_sequence=per_sequence, **options)
    behind = L.Dense(2, activity_regularizer=None if per_sequence else "l1")
    front = [keras.Input((None, 2)), L.Masking()]
    return keras.Sequential([*front, *network.layers, behind])


@pytest.mark.compiled
@pytest.mark.parametrize(
    "every, compiled_as",
    [(3, {"run_eagerly": True}), ("auto", {"jit_compile": False})],
)
def test_checkpoints_sum_regularisers_of_every_step(every, compiled_as):
    x, y = zoo.data(5)
    x[0, 3:] = 0.0
    found = []
    for method in ksg.methods.BPTT(), ksg.methods.BPTT(every):
        options = compiled_as if found else {"run_eagerly": True}
        model = compiled(regularised(), method, 0.1, **options)
        loss = model.train_on_batch(x, y)
        found.append([*model.get_weights(), loss])
    zoo.assert_same(*found[::-1], tolerance=1e-5)


@pytest.mark.parametrize(
    "method",
    [
        ksg.methods.TruncatedBPTT(2),
        ksg.methods.TruncatedBPTT(4, 2),
        ksg.methods.TruncatedBPTT(3, 2),
        ksg.methods.ARTBP(3, seed=1, update="cut"),
    ],
    ids=str,
)
def test_updates_count_what_a_step_adds_once(method):
    """Of an L1 behind what stays, all updates together are that of BPTT."""
    x, y = zoo.data(7)
    found = []
    for each in method, ksg.methods.BPTT():
        front = zoo.network("gru").layers[0]
        front.trainable = False
        behind = L.Dense(2, activity_regularizer=keras.regularizers.L1(1.0))
        network = keras.Sequential([keras.Input((None, 2)), front, behind])
        model = compiled(network, each, 1e-3, loss_weights=0.0)
        before = [v.numpy() for v in behind.weights]
        model.train_on_batch(x, y)
        after = [v.numpy() for v in behind.weights]
        found.append(
            [1e3 * (b - a) for a, b in zip(before, after, strict=True)]
        )
    assert np.abs(found[1][0]).min() > 0.1
    zoo.assert_same(*found, tolerance=1e-3)


def estimates(network, *methods):
    x, y = zoo.data(5)
    return [
        compiled(network, each).estimate_gradients(x, y) for each in methods
    ]


@pytest.mark.parametrize(
    "method",
    [
        ksg.methods.SnAp(7),
        ksg.methods.RTRL(2),
        ksg.methods.SyntheticGradients(7),
        ksg.methods.TruncatedBPTT(7, 2),
    ],
    ids=str,
)
def test_estimates_that_reach_all_are_exact(method):
    found, expected = estimates(regularised(), method, ksg.methods.BPTT())
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-5)
    zoo.assert_same(found[1], expected[1])


@pytest.mark.parametrize(
    "method",
    [
        ksg.methods.SnAp(2),
        ksg.methods.SyntheticGradients(2),
        ksg.methods.TruncatedBPTT(3, 2),
    ],
    ids=str,
)
def test_estimates_have_every_step_of_the_last_layer(method):
    """Nothing of its gradient goes back in time, so that none is cut."""
    found, expected = estimates(regularised(), method, ksg.methods.BPTT())
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-5)
    zoo.assert_same(found[1][-2:], expected[1][-2:])
    assert zoo.differ(found[1], expected[1])


def early(method, rate=0.0, **compiled_as):
    """One target a sequence, and an L2 of every step of a lower layer."""
    keras.utils.set_random_seed(1)
    options = {"return_sequences": True, "activity_regularizer": "l2"}
    layers = [L.GRU(3, **options), L.SimpleRNN(2), L.Dense(1)]
    network = keras.Sequential([keras.Input((None, 2)), L.Masking(), *layers])
    return compiled(network, method, rate, loss_weights=0.1, **compiled_as)


def test_one_target_and_what_is_added_early():
    """The influence brings it back as far as it comes, which is exact."""
    x, y = zoo.data(3, per_sequence=True)
    expected = early(ksg.methods.BPTT()).estimate_gradients(x, y[:, :1])
    for method in ksg.methods.RTRL(2), ksg.methods.TruncatedBPTT(7):
        found = early(method).estimate_gradients(x, y[:, :1])
        assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-5)
        zoo.assert_same(found[1], expected[1])
    cut = early(ksg.methods.TruncatedBPTT(2)).estimate_gradients(x, y[:, :1])
    assert zoo.differ(cut[1], expected[1])


@pytest.mark.parametrize(
    "method",
    [
        ksg.methods.TruncatedBPTT(2),
        ksg.methods.TruncatedBPTT(3),
        ksg.methods.SnAp(2),
    ],
    ids=str,
)
def test_one_target_trains_what_is_added_early_as_estimated(method):
    x, y = zoo.data(7, per_sequence=True)
    model = early(method, rate=1.0)
    _, gradients = model.estimate_gradients(x, y[:, :1])
    before = model.get_weights()
    model.train_on_batch(x, y[:, :1])
    moved = zip(before, model.get_weights(), strict=True)
    zoo.assert_same([b - a for b, a in moved], gradients, 1e-4)


def test_estimates_refuse_what_is_no_sum():
    with pytest.raises(ValueError, match="not defined for losses that layers"):
        estimates(lossy(), ksg.methods.SnAp(2))


def test_checkpoints_refuse_a_regulariser_of_the_last_step():
    """In every segment it would be of another step."""
    model = compiled(regularised(per_sequence=True), ksg.methods.BPTT(3))
    with pytest.raises(ValueError, match="take an L1 or L2 of outputs at ev"):
        model.train_on_batch(*zoo.data(5, per_sequence=True))


@pytest.mark.skipif(
    not means_over_rows(), reason="replicas of this Keras have losses apart"
)
@pytest.mark.parametrize(
    "method, per_sequence",
    [
        (lambda: ksg.methods.BPTT(2), False),
        (lambda: ksg.methods.TruncatedBPTT(2), False),
        (lambda: ksg.methods.FPTT(2), True),
    ],
    ids=["checkpoints", "tbptt", "fptt"],
)
def test_replicas_add_it_once(method, per_sequence):
    x, y = zoo.data(4, per_sequence=per_sequence)
    x, y = replicas.four_rows(x, y)
    found = []
    for scope in contextlib.nullcontext(), replicas.strategy().scope():
        with scope:
            model = compiled(regularised(per_sequence), method(), 0.1)
        logs = model.fit(x, y, batch_size=4, verbose=0).history["loss"]
        found.append([*model.get_weights(), logs])
    zoo.assert_same(*found, tolerance=1e-5)


class Own(ksg.SequenceModel):
    """A subclass, whose layers are its own affair."""

    def __init__(self):
        super().__init__()
        self.cell = L.GRUCell(2)
        self.spread = Spread()

    def initial_state(self, batch_size):
        return keras.ops.zeros((batch_size, 2))

    def call_segment(self, inputs, state, training=False):
        outputs, state = ksg.ops.rnn(
            lambda x, h: self.cell(x, h), inputs, [state]
        )
        return self.spread(outputs), state[0]


def test_a_subclass_whose_layers_add_losses():
    model = Own()
    method = ksg.methods.TruncatedBPTT(3)
    model.compile(keras.optimizers.SGD(0.0), "mse", method=method)
    x, y = zoo.data()
    logged = model.train_on_batch(x, y)
    outputs = model(x)
    expected = MSE(y, outputs) + keras.ops.std(outputs)
    assert logged == pytest.approx(float(expected), rel=1e-5)
