"""State carried between windows, restarted inside them, and learned."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo
from tests.zoo import BATCH

L = keras.layers
TOTAL, WINDOW = 8, 4
FIT = {"batch_size": BATCH, "shuffle": False, "verbose": 0}


def windows(array):
    """(batch, TOTAL, ...) as windows one after another, along the batch."""
    return np.concatenate([array[:, :WINDOW], array[:, WINDOW:]])


def stateful(kind="lstm", method="bptt", optimizer="sgd", **options):
    network = zoo.network(kind)
    model = ksg.SequenceModel.from_model(network, stateful=True, **options)
    model.compile(optimizer, "mse", method=method, jit_compile=False)
    return network, model


@pytest.mark.parametrize("kind", ["lstm", "stacked"])
def test_windows_predict_and_evaluate_as_the_sequence_they_make(kind):
    network, model = stateful(kind)
    x, y = zoo.data(TOTAL)
    whole = network(x)
    for _ in range(2):  # anew every time
        found = model.predict(windows(x), BATCH, verbose=0)
        np.testing.assert_allclose(found, windows(whole), atol=1e-6)
        loss = model.evaluate(windows(x), windows(y), BATCH, verbose=0)
        assert loss == pytest.approx(np.mean((whole - y) ** 2), rel=1e-5)
    apart = network(windows(x))
    assert np.abs(found - apart).max() > 1e-3


def reference(network, x, y, epochs, rate=0.01):
    """Stateful training in plain Keras: the state is handed on by hand."""
    lstm, readout = network.layers
    losses = []
    for _ in range(epochs):
        state, found = lstm.get_initial_state(BATCH), []
        for at in 0, BATCH:
            with tf.GradientTape() as tape:
                hidden = state
                outputs = []
                for step in range(WINDOW):
                    now = x[at : at + BATCH, step]
                    output, hidden = lstm.cell(now, hidden)
                    outputs.append(readout(output))
                outputs = tf.stack(outputs, axis=1)
                loss = tf.reduce_mean((outputs - y[at : at + BATCH]) ** 2)
            state = hidden
            variables = network.trainable_variables
            for v, g in zip(
                variables, tape.gradient(loss, variables), strict=True
            ):
                v.assign_sub(rate * g)
            found.append(float(loss))
        losses.append(np.mean(found))
    return losses


@pytest.mark.slow
@pytest.mark.parametrize("validated", [False, True])
def test_training_carries_the_state_and_starts_anew_every_epoch(validated):
    """Validation inside fit leaves the state of training alone."""
    network, model = stateful()
    x, y = map(windows, zoo.data(TOTAL))
    expected = reference(network, x, y, epochs=2)
    wanted = network.get_weights()
    network.set_weights(zoo.network().get_weights())
    model.fit(x, y, **FIT, epochs=1)  # an epoch before that must not matter
    network.set_weights(zoo.network().get_weights())
    other = {"validation_data": (2 * x, y)} if validated else {}
    found = model.fit(x, y, **FIT, epochs=2, **other).history["loss"]
    assert found == pytest.approx(expected, rel=1e-5)
    zoo.assert_same(network.get_weights(), wanted)


def test_datasets_are_stateful_too():
    network, model = stateful()
    x, y = map(windows, zoo.data(TOTAL))
    expected = reference(network, x, y, epochs=1)
    network.set_weights(zoo.network().get_weights())
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    found = model.fit(dataset.batch(BATCH, drop_remainder=True), verbose=0)
    assert found.history["loss"] == pytest.approx(expected, rel=1e-5)


def test_rows_restart_one_by_one():
    network, model = stateful()
    x, _ = zoo.data(TOTAL)
    first, second = x[:, :WINDOW], x[:, WINDOW:]
    whole, apart = network(x)[:, WINDOW:], network(second)
    for rows in [1], np.array([False, True, False]):
        model.reset_state()
        model.predict_on_batch(first)
        model.reset_state(rows)
        found = model.predict_on_batch(second)
        np.testing.assert_allclose(found[1], apart[1], atol=1e-6)
        np.testing.assert_allclose(found[::2], whole[::2], atol=1e-6)
    assert zoo.differ([apart], [whole])


def test_another_number_of_rows_starts_anew():
    _, model = stateful()
    x, y = map(windows, zoo.data(TOTAL))
    for size in (BATCH, 2 * BATCH, BATCH):
        model.fit(x, y, **{**FIT, "batch_size": size})
        assert model.carried["training"].batch_size == size
        part = x[:size], y[:size]
        carried = float(model.estimate_gradients(*part)[0])
        model.reset_state()
        assert abs(carried - float(model.estimate_gradients(*part)[0])) > 1e-5
    assert len(model.carried["training"].variables) == 3


def test_validation_may_have_another_number_of_rows():
    network, model = stateful()
    x, y = map(windows, zoo.data(TOTAL))
    expected = reference(network, x, y, epochs=2)
    network.set_weights(zoo.network().get_weights())
    other = {"validation_data": (x[:4], y[:4]), "validation_batch_size": 2}
    found = model.fit(x, y, **FIT, epochs=2, **other).history["loss"]
    assert found == pytest.approx(expected, rel=1e-5)
    assert model.carried["evaluation"].batch_size == 2


@pytest.mark.compiled
def test_wrong_rows_are_refused():
    (_, model), (x, y) = stateful(), zoo.data()
    with pytest.raises(ValueError, match="shuffle=False .* shuffle=True"):
        model.fit(x, y, batch_size=BATCH)
    message = "multiple of batch_size=2 rows, received 3"
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, batch_size=2, shuffle=False)
    model.train_on_batch(x, y)
    with pytest.raises(ValueError, match="Expected 3, received 2"):
        model.estimate_gradients(x[:2], y[:2])
    with pytest.raises(ValueError, match="Expected 3, received"):
        model.train_on_batch(x[:2], y[:2])
    unknown = tf.TensorSpec((None, *x.shape[1:]))
    step = tf.function(model.train_step, [(unknown, unknown)], autograph=False)
    with pytest.raises(ValueError, match="received an unknown number"):
        step((x, y))
    message = r"Expected shape \(3,\), received \(2,\)"
    with pytest.raises(ValueError, match=message):
        model.reset_state(np.array([True, False]))
    plain = ksg.SequenceModel.from_model(zoo.network())
    with pytest.raises(ValueError, match="stateful=True"):
        plain.reset_state()


# --- documents inside a window ----------------------------------------------

# Lengths of the documents in each row; the first began in a window before.
DOCUMENTS = [[2, 3], [5], [1, 1, 3]]


def documents(x, y):
    """(x, y) of each document by itself."""
    for row, lengths in enumerate(DOCUMENTS):
        start = 0
        for length in lengths:
            part = slice(start, start + length)
            yield x[row : row + 1, part], y[row : row + 1, part]
            start += length


def reset_flags(steps=5):
    reset = np.zeros((BATCH, steps), bool)
    for row, lengths in enumerate(DOCUMENTS):
        reset[row, np.cumsum(lengths)[:-1]] = True
    return reset


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lstm", "stacked"])
def test_documents_in_a_window_are_as_by_themselves(kind):
    network = zoo.network(kind)
    model = ksg.SequenceModel.from_model(network)
    x, y = zoo.data(5)
    gradients = [np.zeros(v.shape) for v in network.trainable_variables]
    total = 0.0
    for part in documents(x, y):
        loss, found = zoo.keras_gradients(
            network, *part, keras.losses.MeanSquaredError()
        )
        share = part[0].shape[1] / (BATCH * 5)
        total += share * float(loss)
        for gradient, each in zip(gradients, found, strict=True):
            gradient += share * each.numpy()
    together = {"inputs": x, "reset": reset_flags()}
    for method in ksg.methods.BPTT(), ksg.methods.TruncatedBPTT(5):
        model.compile("sgd", "mse", method=method, jit_compile=False)
        loss, found = model.estimate_gradients(together, y)
        assert float(loss) == pytest.approx(total, rel=1e-5)
        zoo.assert_same(found, gradients)
    _, without = model.estimate_gradients(x, y)
    assert zoo.differ(without, gradients)
    assert model.evaluate(together, y, verbose=0) == pytest.approx(
        total, rel=1e-5
    )


@pytest.mark.slow
def test_padding_passes_the_state_unchanged_and_counts_for_nothing():
    network, model = stateful()
    x, y = zoo.data(TOTAL)
    wide = 2
    padded = {
        "inputs": np.pad(windows(x), ((0, 0), (0, wide), (0, 0)), mode="edge"),
        "mask": np.arange(WINDOW + wide) < np.full((2 * BATCH, 1), WINDOW),
    }
    targets = np.pad(windows(y), ((0, 0), (0, wide), (0, 0)))
    expected = model.evaluate(windows(x), windows(y), BATCH, verbose=0)
    found = model.evaluate(padded, targets, BATCH, verbose=0)
    assert found == pytest.approx(expected, rel=1e-5)
    unmasked = model.evaluate(padded["inputs"], targets, BATCH, verbose=0)
    assert abs(unmasked - expected) > 1e-3
    histories, weights = [], []
    for x_given, y_given in (windows(x), windows(y)), (padded, targets):
        network.set_weights(zoo.network().get_weights())
        fitted = model.fit(x_given, y_given, **FIT, epochs=2)
        histories.append(fitted.history["loss"])
        weights.append(network.get_weights())
    assert histories[0] == pytest.approx(histories[1], rel=1e-5)
    zoo.assert_same(weights[0], weights[1])


# --- learned initial state --------------------------------------------------


@pytest.fixture
def double():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def initial_differences(model, *data):
    """Gradients of the initial state by finite differences."""
    step, found = 1e-6, []
    for variable in model.initial_state_weights:
        value = variable.numpy()
        gradient = np.zeros_like(value)
        for place in np.ndindex(value.shape):
            losses = []
            for sign in 1, -1:
                moved = value.copy()
                moved[place] += sign * step
                variable.assign(moved)
                losses.append(float(model.estimate_gradients(*data)[0]))
            gradient[place] = (losses[0] - losses[1]) / (2 * step)
        variable.assign(value)
        found.append(gradient)
    return found


def learning(kind="lstm", method="bptt", **options):
    keras.utils.set_random_seed(2)
    model = ksg.SequenceModel.from_model(
        zoo.network(kind), learn_initial_state=True, **options
    )
    model.compile("sgd", "mse", method=method, jit_compile=False)
    for weight in model.initial_state_weights:
        weight.assign(np.random.default_rng(0).normal(size=weight.shape))
    return model


def initial_gradients(model, *data):
    """Estimated gradients of the initial state."""
    _, gradients = model.estimate_gradients(*data)
    place = {id(v): n for n, v in enumerate(model.trainable_variables)}
    weights = model.initial_state_weights
    return [gradients[place[id(w)]].numpy() for w in weights]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, with_reset", [("lstm", False), ("lstm", True), ("own", True)]
)
def test_learned_initial_state_by_finite_differences(kind, with_reset, double):
    x, y = zoo.data(4)
    reset = np.zeros(x.shape[:2], bool)
    reset[1, 2] = reset[2, 1] = True
    given = {"inputs": x, "reset": reset} if with_reset else x
    model = learning(kind)
    assert len(model.initial_state_weights) == (2 if kind == "lstm" else 1)
    found = initial_gradients(model, given, y)
    zoo.assert_same(found, initial_differences(model, given, y), 1e-6)
    for method in ksg.methods.BPTT(2), ksg.methods.TruncatedBPTT(4):
        other = learning(kind, method)
        zoo.assert_same(initial_gradients(other, given, y), found, 1e-9)
    cut = learning(kind, ksg.methods.TruncatedBPTT(2))
    assert zoo.differ(initial_gradients(cut, given, y), found)


def test_only_fresh_rows_start_from_the_learned_state(double):
    x, y = zoo.data(4)
    model = learning(stateful=True)
    model.train_on_batch(x, y)
    found = initial_gradients(model, x, y)
    assert not any(np.any(gradient) for gradient in found)
    model.reset_state([1])
    found = initial_gradients(model, x, y)
    zoo.assert_same(found, initial_differences(model, x, y), 1e-6)
    start = model.initial_state(BATCH)
    start = keras.tree.map_structure(lambda t: t[1:2], start)
    alone, _ = model.run_segment(tf.constant(x[1:2]), start, training=False)
    (together, _) = model.run_segment(
        tf.constant(x),
        keras.tree.map_structure(tf.zeros_like, model.initial_state(BATCH)),
        training=False,
        fresh=tf.constant([False, True, False]),
    )
    np.testing.assert_allclose(together[1:2], alone, atol=1e-12)


@pytest.mark.parametrize(
    "method", ["bptt", ksg.methods.TruncatedBPTT(3), ksg.methods.ARTBP(3)]
)
def test_learned_initial_state_learns(method):
    model = learning(method=method, stateful=True)
    before = [w.numpy() for w in model.initial_state_weights]
    x, y = map(windows, zoo.data(TOTAL))
    model.fit(x, y, **FIT)
    after = [w.numpy() for w in model.initial_state_weights]
    assert all(np.all(a != b) for a, b in zip(before, after, strict=True))


def test_learned_initial_state_of_a_network_with_its_own_is_refused():
    inputs, context = keras.Input((None, 2)), keras.Input((3,))
    network = keras.Model(
        [inputs, context], L.GRU(3)(inputs, initial_state=context)
    )
    with pytest.raises(ValueError, match="layers that start from zeros"):
        ksg.SequenceModel.from_model(network, learn_initial_state=True)
