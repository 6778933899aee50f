"""The terminal loss against NumPy, and the user's own loss of a part."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import FPTT
from keras_seqgrad.methods.fptt import part_losses
from keras_seqgrad.window.opening import open_window
from tests import replicas, zoo
from tests.network.test_segmented import Own

L = keras.layers
CLASSES = 3
SPARSE = keras.losses.SparseCategoricalCrossentropy
DENSE = keras.losses.CategoricalCrossentropy


def network(activation=None, steps=None):
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((steps, 2)),
        L.SimpleRNN(3),
        L.Dense(CLASSES, activation),
    ]
    return keras.Sequential(layers)


def model_of(loss, method, rate=0.1, jit=False, net=None, **options):
    model = SequenceModel.from_model(net or network())
    options = {"metrics": ["accuracy"], "jit_compile": jit, **options}
    model.compile(keras.optimizers.SGD(rate), loss, method=method, **options)
    return model


def numbers(seed=0):
    x, _ = zoo.data(seed=seed)
    return x, np.array([[2, 0, 2], [1, 2, 0]][seed % 2])


def table_of(model):
    return model.method_state.parts[part_losses.TABLE]


def said_after(model, x, ends):
    """Predicted distributions (parts, batch, classes)."""
    logits = [model.network(x[:, :end]) for end in ends]
    exponentials = np.exp(np.array(logits, "float64"))
    return exponentials / exponentials.sum(-1, keepdims=True)


def fit(model, x, y, **options):
    return model.fit(x, y, batch_size=3, shuffle=False, verbose=0, **options)


@pytest.mark.compiled
def test_distributions_are_those_of_the_epoch_before():
    """Parts of 3 of 7 steps, frozen weights: everything by hand."""
    method = FPTT(3, regularize=False)
    model = model_of(SPARSE(from_logits=True), method, rate=0.0, jit=True)
    table = table_of(model)
    np.testing.assert_allclose(table.table.numpy(), 1 / CLASSES)
    x = np.concatenate([numbers(0)[0], numbers(1)[0]])
    y = np.concatenate([numbers(0)[1], numbers(1)[1]])
    said = said_after(model, x, (3, 6, 7))
    sums = np.stack([said[:, y == c].sum(1) for c in range(CLASSES)], axis=1)
    fit(model, x, y)
    np.testing.assert_allclose(table.sums.numpy(), sums, rtol=1e-5)
    np.testing.assert_allclose(table.table.numpy(), 1 / CLASSES)
    # The second epoch sees one class only; the first one's means are used.
    only = y == 2
    fit(model, x[only][:3], y[only][:3])
    counts = np.array([(y == c).sum() for c in range(CLASSES)])
    means = sums / counts[:, None]
    np.testing.assert_allclose(table.table.numpy(), means, rtol=1e-5)
    # The third keeps what the second had nothing to say about.
    fit(model, x, y)
    means[:, 2] = said[:, np.where(only)[0][:3]].mean(1)
    np.testing.assert_allclose(table.table.numpy(), means, rtol=1e-5)


@pytest.mark.parametrize("weights", [None, [2.0, 0.0, 1.0]])
@pytest.mark.parametrize("kind", ["sparse", "one-hot", "probabilities"])
def test_terminal_loss_of_each_part(kind, weights):
    """Value of every part, with a table that is not uniform."""
    loss = {
        "sparse": SPARSE(from_logits=True),
        "one-hot": DENSE(from_logits=True),
        "probabilities": "sparse_categorical_crossentropy",
    }[kind]
    net = network("softmax" if kind == "probabilities" else None)
    method = FPTT(3, regularize=False, part_loss="terminal")
    model = model_of(loss, method, net=net)
    generator = np.random.default_rng(0)
    table = generator.dirichlet(np.ones(CLASSES), size=(3, CLASSES))
    table_of(model).table.assign(table)
    x, labels = numbers()
    y = np.eye(CLASSES)[labels] if kind == "one-hot" else labels
    w = np.ones(3) if weights is None else np.array(weights)
    for part, end in enumerate((3, 6, 7)):
        outputs = net(x[:, :end]).numpy().astype("float64")
        said = outputs
        if kind != "probabilities":
            said = np.exp(outputs) / np.exp(outputs).sum(-1, keepdims=True)
        logs = np.log(said)
        entropy = -logs[np.arange(3), labels]
        divergence = -np.sum(table[part, labels] * logs, axis=1)
        beta = end / 7
        expected = np.mean(w * (beta * entropy + (1 - beta) * divergence))
        found = value(model, x, y, weights, part, end)
        assert found == pytest.approx(expected, rel=1e-5)
        assert found != pytest.approx(np.mean(w * entropy), 1e-5) or end == 7


def value(model, x, y, weights, part, end):
    """The terminal loss of part `part`, which ends before step `end`."""
    weight = None if weights is None else tf.constant(weights)
    data = tf.constant(x), tf.constant(y), weight
    window = open_window(model, model.carried["training"], data, True)
    segment = window.segment(3 * part, end - 3 * part)
    state = window.advance(0, 3 * part, window.state) if part else window.state
    outputs, _ = window.forward(segment, state)
    return float(part_losses.terminal(window, 3)(segment, outputs))


@pytest.mark.slow
def test_an_output_may_be_in_a_list_or_a_dict():
    x, y = numbers()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    results = []
    for form in (None, "list", "dict"):
        net = network()
        output = net.outputs[0]
        if form:
            output = [output] if form == "list" else {"out": output}
        net = keras.Model(net.inputs[0], output)
        given = dict(y={"out": y} if form == "dict" else y)
        model = model_of(loss, FPTT(3), net=net, metrics=None)
        model.fit(x, **given, epochs=2, verbose=0)
        results.append(model.get_weights())
    plain, *nested = results
    for each in nested:
        zoo.assert_same(each, plain)


def test_rows_of_weight_0_are_not_in_the_table():
    method = FPTT(3, regularize=False)
    model = model_of(SPARSE(from_logits=True), method, rate=0.0)
    x, y = numbers()
    weight = np.array([1.0, 0.0, 1.0])
    fit(model, x, y, sample_weight=weight)
    sums = table_of(model).sums.numpy()
    np.testing.assert_allclose(sums.sum((1, 2)), 2.0, rtol=1e-5)
    assert (sums[:, 0] == 0).all() and (sums[:, 2] > 0).all()


@pytest.mark.slow
def test_it_learns():
    model = model_of(SPARSE(from_logits=True), FPTT(3, 0.1), rate=0.5)
    history = fit(model, *numbers(), epochs=8).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]


@pytest.mark.slow
def test_it_resumes_bit_for_bit(tmp_path):
    x, y = numbers()
    model = model_of(SPARSE(from_logits=True), FPTT(3, 0.1), rate=0.3)
    fit(model, x, y, epochs=2)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    fit(again, x, y, epochs=4, initial_epoch=2)
    fit(model, x, y, epochs=4, initial_epoch=2)
    for a, b in zip(*map(zoo.everything, (again, model)), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.slow
def test_which_loss_auto_is():
    """(loss, parts of the network) -> the terminal loss or not."""
    steps = zoo.network("simple_rnn")
    for loss, net, terminal in [
        (SPARSE(), None, True),
        ("categorical_crossentropy", None, True),
        (keras.losses.categorical_crossentropy, None, True),
        ("mse", None, False),
        (SPARSE(ignore_class=0), None, False),
        ("sparse_categorical_crossentropy", steps, False),
    ]:
        model = model_of(loss, FPTT(3), net=net)
        assert (part_losses.TABLE in model.method_state.parts) == terminal
    model = model_of(SPARSE(), FPTT(length=3), net=network(steps=7))
    assert table_of(model).table.shape == (3, CLASSES, CLASSES)
    model = model_of(SPARSE(), FPTT(length=3))
    assert model.method_state.parts == {}


def test_terminal_loss_is_refused_where_it_has_no_meaning():
    method = FPTT(3, part_loss="terminal")
    for text, arguments in {
        "loss='mse'": ("mse", method),
        "of unknown length": (SPARSE(), FPTT(length=3, part_loss="terminal")),
    }.items():
        with pytest.raises(ValueError, match=f"{text}. Set part_loss="):
            model_of(*arguments)
    with pytest.raises(ValueError, match="not one output with one target"):
        model_of(SPARSE(), method, net=zoo.network("simple_rnn"))
    with pytest.raises(ValueError, match="a subclass, whose outputs"):
        Own(units=4).compile("sgd", SPARSE(), method=method)


@keras.saving.register_keras_serializable("tests")
def late(loss, y, y_pred, progress):
    return progress * loss


@pytest.mark.slow
def test_a_function_of_the_user(tmp_path):
    """6 of 6 steps in 3 parts: t / T is (part + 1) / K."""
    x, y = zoo.data(6, per_sequence=True)
    found = []
    for part_loss in ("weighted", late):
        net = zoo.network("simple_rnn", per_sequence=True)
        model = SequenceModel.from_model(net)
        model.compile("sgd", "mse", method=FPTT(3, part_loss=part_loss))
        fit(model, x, y)
        found.append(net.get_weights())
    zoo.assert_same(*found)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.method.part_loss is late
    fit(again, x, y)
    fit(model, x, y)
    zoo.assert_same(again.get_weights(), model.get_weights(), 0.0)


def test_a_function_also_sees_targets_at_every_step():
    x, y = zoo.data()
    shapes = []

    def half(loss, y, y_pred, progress):
        shapes.append((tuple(y.shape), tuple(y_pred.shape)))
        return 0.5 * loss

    found = []
    for part_loss, rate in (("auto", 0.1), (half, 0.2)):
        net = zoo.network("simple_rnn")
        model = SequenceModel.from_model(net)
        method = FPTT(3, regularize=False, part_loss=part_loss)
        model.compile(keras.optimizers.SGD(rate), "mse", method=method)
        fit(model, x, y)
        found.append(net.get_weights())
    zoo.assert_same(*found)
    assert ((3, 3, 2), (3, 3, 2)) in shapes and ((3, 1, 2), (3, 1, 2)) in shapes


@pytest.mark.slow
def test_two_replicas_train_as_one():
    def train(**options):
        model = model_of(SPARSE(from_logits=True), FPTT(2), **options)
        [x], y = replicas.four_rows(zoo.data()[0]), np.array([0, 2, 2, 1])
        options = {"epochs": 2, "shuffle": False, "verbose": 0}
        losses = model.fit(x, y, 4, **options).history["loss"]
        table = table_of(model)
        return [*model.get_weights(), table.table, table.sums, losses]

    expected = train()
    with replicas.strategy().scope():
        found = train()
    zoo.assert_same(found, expected, 1e-4)
