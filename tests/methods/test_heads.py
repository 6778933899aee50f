"""What needs all steps at once, trained by every method that takes it."""

import functools

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from tests import stock, zoo
from tests.methods.table import TABLE
from tests.network.networks import L, signal

pytestmark = pytest.mark.slow

ROWS, STEPS = stock.ROWS, stock.STEPS
EXACT = {
    "bptt": lambda: ksg.methods.BPTT(),
    "bptt_checkpointed": lambda: ksg.methods.BPTT(3),
    "tbptt": lambda: ksg.methods.TruncatedBPTT(STEPS),
    "artbp": lambda: ksg.methods.ARTBP(1e9, seed=1, checkpoint_every=3),
    "rtrl": lambda: ksg.methods.RTRL(3),
}
TAKES = [name for name, row in TABLE.items() if row.method().takes_head]


def attended(masked=False, beside=True):
    """Attention over an RNN's outputs, pooled, beside their own mean."""
    inputs = signal()
    hidden = L.Masking()(inputs) if masked else inputs
    hidden = L.SimpleRNN(3, return_sequences=True)(hidden)
    seen = L.MultiHeadAttention(1, 2)(hidden, hidden)
    pooled = L.GlobalAveragePooling1D()(seen)
    if beside:
        means = L.GlobalAveragePooling1D()(hidden)
        pooled = L.Concatenate()([pooled, means])
    return keras.Model(inputs, L.Dense(2)(pooled))


def two_outputs():
    """One of each step, before the head, and one of all; a raw input, too."""
    inputs = signal(STEPS)
    hidden, state = L.GRU(3, return_sequences=True, return_state=True)(inputs)
    flat = [L.Flatten()(hidden), L.Flatten()(inputs), state]
    whole = L.Dense(1, activation="sigmoid", name="whole")
    whole = whole(L.Concatenate()(flat))
    return keras.Model(inputs, [L.Dense(2, name="steps")(hidden), whole])


def shared():
    """A layer of the head that adds to the loss with each of two calls."""
    inputs = signal()
    hidden = L.SimpleRNN(3, return_sequences=True)(inputs)
    seen = [L.Attention()([hidden, hidden]), L.Softmax(axis=1)(hidden)]
    read = L.Dense(2, activity_regularizer="l2")
    return keras.Model(inputs, L.Add()([read(each) for each in seen]))


def of_steps():
    """An output of every step behind a convolution that looks around."""
    return keras.Sequential(
        [
            signal(),
            L.LSTM(3, return_sequences=True, activity_regularizer="l2"),
            L.Conv1D(3, 3, padding="same", kernel_regularizer="l2"),
            L.BatchNormalization(momentum=0.5),
            L.Dense(2, activity_regularizer="l2"),
        ]
    )


X, Y = stock.numbers()
NETWORKS = {
    "masked": (functools.partial(attended, True), Y[:, 0], {}),
    "two outputs": (
        two_outputs,
        [Y, (Y[:, 0, :1] > 0).astype("float32")],
        {
            "loss": ["mse", "binary_crossentropy"],
            "loss_weights": [1.0, 0.5],
            "metrics": [["mae"], ["accuracy"]],
        },
    ),
    "of steps": (of_steps, Y, {"weighted_metrics": ["mae"]}),
    "shared": (shared, Y, {}),
}
WEIGHTS = {"masked": stock.weights_of(ROWS), "of steps": stock.weights_of(6, 4)}


@functools.cache
def trained(name):
    """What stock Keras makes of it: (weights before, logs, weights after)."""
    keras.utils.set_random_seed(1)
    make, y, options = NETWORKS[name]
    network = make()
    before = network.get_weights()
    network.compile("sgd", **{"loss": "mse", **options})
    logs = fitted(network, name)
    assert zoo.differ(before, network.get_weights())
    return before, logs, network.get_weights()


def fitted(model, name, x=X):
    logs = model.fit(
        x,
        NETWORKS[name][1],
        sample_weight=WEIGHTS.get(name),
        batch_size=3,
        shuffle=False,
        verbose=0,
    ).history
    found = model.evaluate(x, NETWORKS[name][1], verbose=0, return_dict=True)
    return logs | {f"val_{key}": value for key, value in found.items()}


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("name", NETWORKS)
def test_equals_keras(name, method, float64):
    before, logs, after = trained(name)
    make, _, options = NETWORKS[name]
    model = ksg.SequenceModel.from_model(make())
    model.network.set_weights(before)
    made = {"loss": "mse", **options, "method": EXACT[method]()}
    model.compile("sgd", **made)
    found = fitted(model, name)
    assert found.keys() == logs.keys()
    for key, value in logs.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-10, err_msg=key)
    zoo.assert_same(model.network.get_weights(), after, 1e-10)


def test_an_input_that_the_head_alone_reads():
    """Which Keras before 3.14 wants to be read by the body, too."""
    inputs, looked_at = signal(STEPS), signal(STEPS)
    hidden = L.SimpleRNN(3, return_sequences=True)(inputs)
    seen = L.MultiHeadAttention(1, 2)(hidden, looked_at)
    network = keras.Model([inputs, looked_at], L.Dense(2)(seen))
    expected, model = stock.pair(network)
    model.compile("sgd", "mse", method=ksg.methods.BPTT(3))
    stock.assert_same_training(expected, model, [X, 0.5 * X[::-1]], Y)


@pytest.mark.parametrize("losses", [["mse", None], [None, "mse"]])
def test_what_no_loss_depends_on_does_not_decay(losses, float64):
    """Be it the head, or what of the body is not before it."""
    before, _, _ = trained("two outputs")
    found = []
    for method in None, ksg.methods.BPTT(3):
        model = two_outputs()
        model.set_weights(before)
        options = {} if method is None else {"method": method}
        if method is not None:
            model = ksg.SequenceModel.from_model(model)
        optimizer = keras.optimizers.SGD(0.1, weight_decay=0.5)
        model.compile(optimizer, losses, **options)
        model.fit(X, NETWORKS["two outputs"][1], shuffle=False, verbose=0)
        found.append(model.get_weights())
    zoo.assert_same(found[1], found[0], 1e-5)
    assert any(
        np.array_equal(*pair) for pair in zip(before, found[0], strict=True)
    )


def test_a_mask_beside_the_inputs_is_that_of_masking(float64):
    before, logs, after = trained("masked")
    model = ksg.SequenceModel.from_model(attended())
    model.network.set_weights(before)
    model.compile("sgd", "mse", method=ksg.methods.BPTT(3))
    mask = (X != 0).any(axis=-1)
    found = fitted(model, "masked", {"inputs": X, "mask": mask})
    for key, value in logs.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, err_msg=key)
    zoo.assert_same(model.network.get_weights(), after, 1e-6)


def compiled(method, network, **options):
    model = ksg.SequenceModel.from_model(network)
    model.compile(keras.optimizers.SGD(1.0), "mse", method=method, **options)
    return model


@pytest.mark.parametrize("name", TAKES)
def test_moves_along_the_gradient_that_it_estimates_once_a_window(name):
    keras.utils.set_random_seed(2)
    method = TABLE[name].method()
    model = compiled(method, attended(masked=True, beside=False))
    before = model.get_weights()
    loss, gradients = model.estimate_gradients(X, Y[:, 0])
    logs = model.train_on_batch(X, Y[:, 0], return_dict=True)
    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-6)
    assert model.optimizer.iterations == 1
    moved = [b - a for b, a in zip(before, model.get_weights(), strict=True)]
    if "inversion" in name:  # whose rate is a factor on recurrent layers
        moved[:3] = [each / 0.5 for each in moved[:3]]
    zoo.assert_same(moved, gradients, 1e-5)


def test_what_is_truncated_is_the_way_back_from_step_to_step():
    """In segments of one no gradient comes to the recurrent kernel."""
    keras.utils.set_random_seed(2)
    network = attended()
    exact, short = (
        compiled(method, network).estimate_gradients(X, Y[:, 0])[1]
        for method in (ksg.methods.BPTT(), ksg.methods.TruncatedBPTT(1))
    )
    assert not np.allclose(exact[0], short[0], rtol=0.1)
    # Of the readout it is the same.
    zoo.assert_same(exact[3:], short[3:], 1e-6)


def test_every_window_draws_anew_what_the_head_drops():
    """By whatever way back over the segments."""

    def losses(method):
        network = keras.Sequential(
            [
                signal(STEPS),
                L.SimpleRNN(2, return_sequences=True),
                L.Flatten(),
                L.Dropout(0.5, seed=3),
                L.Dense(2),
            ]
        )
        if method is None:
            network.compile(keras.optimizers.SGD(0.0), "mse")
            model = network
        else:
            model = compiled(method, network)
            model.optimizer.learning_rate = 0.0
        network.set_weights([np.full_like(w, 0.1) for w in model.get_weights()])
        return [model.train_on_batch(X, Y[:, 0]) for _ in range(3)]

    wanted = losses(None)
    assert len(set(map(float, wanted))) == 3
    for method in "bptt", "bptt_checkpointed", "rtrl":
        found = losses(EXACT[method]())
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("name", sorted(TABLE.keys() - set(TAKES)))
def test_methods_that_take_the_loss_of_segments_refuse_it_by_name(name):
    network = attended()
    said = "_attention.* segments. With one update a window ksg.methods.BPTT, A"
    with pytest.raises(ValueError, match=said):
        compiled(TABLE[name].method(), network)


def test_state_is_carried_through_it():
    """As a stateful layer of Keras carries it, whose head sees one window."""
    inputs = keras.Input(batch_shape=(3, STEPS, 2))
    layers = [
        L.SimpleRNN(3, return_sequences=True, stateful=True),
        L.Flatten(),
        L.Dense(2),
    ]
    expected = keras.Sequential([inputs, *layers])
    network = keras.Sequential(
        [signal(STEPS), L.SimpleRNN(3, return_sequences=True), *layers[1:]]
    )
    network = keras.models.clone_model(network)
    network.set_weights(expected.get_weights())
    expected.compile("sgd", "mse")
    model = ksg.SequenceModel.from_model(network, stateful=True)
    model.compile("sgd", "mse", method=ksg.methods.BPTT(3))
    for each in expected, model:
        each.fit(X, Y[:, 0], batch_size=3, shuffle=False, verbose=0)
    zoo.assert_same(network.get_weights(), expected.get_weights(), 1e-6)


@pytest.mark.slow
@pytest.mark.compiled
def test_compiled_in_executions_of_unknown_lengths():
    """By XLA, with checkpoints and influence carried forward."""
    for method in ksg.methods.BPTT(2), ksg.methods.SnAp(2):
        results = []
        for options in {"run_eagerly": True}, {"jit_compile": True}:
            keras.utils.set_random_seed(3)
            model = compiled(method, attended(masked=True), **options)
            data = zoo.generated([(X, Y[:, 0])] * 2, X.shape, Y[:, 0].shape)
            model.fit(data, verbose=0)
            results.append(model.get_weights())
        zoo.assert_same(*results, 1e-5)
