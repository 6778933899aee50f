"""A step of a SequenceModel by BPTT is the step of a stock Keras model."""

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from tests import zoo

L = keras.layers
ROWS, STEPS = 8, 6


def pair(network, **options):
    """A stock model and a SequenceModel on a copy of it, compiled alike."""
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    model = ksg.SequenceModel.from_model(copy)
    compiled = {"optimizer": "sgd", "loss": "mse", "jit_compile": False}
    compiled |= options
    for each in network, model:
        made = {k: v() if callable(v) else v for k, v in compiled.items()}
        each.compile(**made)
    return network, model


def numbers(outputs=2, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(ROWS, STEPS, 2)).astype("float32")
    x[0, -2:] = 0
    x[5, -4:] = 0
    y = generator.normal(size=(ROWS, STEPS, outputs)).astype("float32")
    return x, y


def weights_of(*shape, seed=5):
    return np.random.default_rng(seed).random(shape).astype("float32")


def assert_same_training(stock, model, *args, tolerance=1e-5, **kwargs):
    """Fits both and compares logs and weights; they must have moved."""
    before = [np.array(w) for w in stock.get_weights()]
    kwargs = {"batch_size": 4, "epochs": 2, "shuffle": False, **kwargs}
    expected = stock.fit(*args, verbose=0, **kwargs).history
    found = model.fit(*args, verbose=0, **kwargs).history
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(
            found[name], expected[name], rtol=10 * tolerance, err_msg=name
        )
    wanted = stock.get_weights()
    zoo.assert_same(model.network.get_weights(), wanted, tolerance)
    assert zoo.differ(wanted, before)


def simple(masked=False, **readout):
    layers = [keras.Input((None, 2)), *([L.Masking()] if masked else [])]
    layers += [L.LSTM(3, return_sequences=True), L.Dense(2, **readout)]
    return keras.Sequential(layers)


def two_headed(as_dict=False, per_sequence=False):
    inputs = keras.Input((None, 2))
    hidden = L.GRU(3, return_sequences=not per_sequence)(inputs)
    outputs = [L.Dense(2, name="b")(hidden), L.Dense(1, name="a")(hidden)]
    if as_dict:
        outputs = {"b": outputs[0], "a": outputs[1]}
    return keras.Model(inputs, outputs)


@pytest.mark.parametrize("shape", [(), (ROWS, STEPS), (ROWS, 1)])
@pytest.mark.parametrize("masked", [False, True])
def test_weights_and_masks(shape, masked):
    x, y = numbers()
    stock, model = pair(
        simple(masked),
        loss=lambda: keras.losses.MeanSquaredError(),
        metrics=lambda: ["mae"],
        weighted_metrics=lambda: ["mse"],
    )
    weight = weights_of(*shape) if shape else None
    assert_same_training(stock, model, x, y, sample_weight=weight)


def test_a_weight_for_each_sequence_counts_at_every_step():
    """Stock Keras wants it as (batch, 1)."""
    weight = weights_of(ROWS)
    stock, model = pair(simple(), weighted_metrics=lambda: ["mse"])
    x, y = numbers()
    expected = stock.evaluate(x, y, 4, 0, sample_weight=weight[:, None])
    found = model.evaluate(x, y, 4, 0, sample_weight=weight)
    assert found == pytest.approx(expected, rel=1e-5)
    fit = {"batch_size": 4, "shuffle": False, "verbose": 0}
    stock.fit(x, y, sample_weight=weight[:, None], **fit)
    model.fit(x, y, sample_weight=weight, **fit)
    zoo.assert_same(model.network.get_weights(), stock.get_weights())


OPTIMIZERS = {
    "accumulation": {"gradient_accumulation_steps": 2},
    "clipnorm": {"clipnorm": 0.01},
    "global clipnorm": {"global_clipnorm": 0.01},
    "EMA": {"use_ema": True, "ema_overwrite_frequency": 1},
    "weight decay": {"weight_decay": 0.1},
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_options_of_the_optimizer(name):
    stock, model = pair(
        simple(), optimizer=lambda: keras.optimizers.Adam(**OPTIMIZERS[name])
    )
    assert_same_training(stock, model, *numbers())
    zoo.assert_same(
        [v.numpy() for v in model.optimizer.variables],
        [v.numpy() for v in stock.optimizer.variables],
    )


@pytest.mark.parametrize(
    "options",
    [
        {"steps_per_execution": 2},
        {"run_eagerly": True},
        {"jit_compile": True},
        {"jit_compile": True, "steps_per_execution": 2},
    ],
    ids=str,
)
def test_ways_to_run(options):
    stock, model = pair(simple(masked=True), metrics=lambda: ["mae"], **options)
    x, y = numbers()
    weight = weights_of(ROWS, STEPS)
    assert_same_training(stock, model, x, y, sample_weight=weight)


def lossy(kind):
    """A network with losses of its own."""
    inputs = keras.Input((None, 2))
    regularised = {
        "l2": {"kernel_regularizer": keras.regularizers.L2(0.1)},
        "recurrent l2": {"recurrent_regularizer": keras.regularizers.L2(0.1)},
        "activity": {"activity_regularizer": keras.regularizers.L2(0.1)},
    }.get(kind, {})
    hidden = L.LSTM(3, return_sequences=True, **regularised)(inputs)
    if kind == "activity of Dense":
        hidden = L.Dense(2, activity_regularizer="l2")(hidden)
    if kind == "add_loss":
        hidden = AddsLoss()(hidden)
    return keras.Model(inputs, L.Dense(2)(hidden))


@keras.saving.register_keras_serializable("tests")
class AddsLoss(L.Layer):
    def call(self, inputs):
        self.add_loss(0.1 * keras.ops.mean(keras.ops.square(inputs)))
        return inputs


@pytest.mark.parametrize(
    "kind", ["l2", "recurrent l2", "activity", "activity of Dense", "add_loss"]
)
def test_losses_of_layers(kind):
    stock, model = pair(lossy(kind))
    x, y = numbers()
    assert_same_training(stock, model, x, y)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(
        stock.evaluate(x, y, verbose=0), rel=1e-5
    )


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("per_sequence", [False, True])
def test_several_outputs(as_dict, per_sequence):
    losses = {"b": "mse", "a": "mae"}
    weights = {"b": 0.3, "a": 2.0}
    metrics = {"b": ["mae"], "a": ["mse"]}
    shape = (ROWS,) if per_sequence else (ROWS, STEPS)
    x, b = numbers()
    a = b[..., :1] * 2
    if per_sequence:
        a, b = a[:, 0], b[:, 0]
    y = {"b": b, "a": a}
    sample = {"b": weights_of(*shape), "a": weights_of(*shape, seed=6)}

    def form(table):
        return table if as_dict else [table["b"], table["a"]]

    stock, model = pair(
        two_headed(as_dict, per_sequence),
        loss=form(losses),
        loss_weights=form(weights),
        metrics=lambda: form(metrics),
        weighted_metrics=lambda: form(metrics),
    )
    assert_same_training(stock, model, x, form(y), sample_weight=form(sample))


def test_class_weight_of_sequences_is_that_of_keras():
    network = keras.Sequential(
        [keras.Input((None, 2)), L.LSTM(3), L.Dense(3, activation="softmax")]
    )
    stock, model = pair(
        network,
        loss="sparse_categorical_crossentropy",
        weighted_metrics=lambda: ["accuracy"],
    )
    x, _ = numbers()
    table = {0: 0.2, 1: 1.0, 2: 3.0}
    assert_same_training(
        stock, model, x, np.arange(ROWS) % 3, class_weight=table
    )


@pytest.mark.parametrize("one_hot", [False, True])
def test_class_weight_of_steps_is_a_weight_for_every_step(one_hot):
    table = {0: 0.2, 2: 3.0}
    loss = "categorical_crossentropy"
    loss = loss if one_hot else f"sparse_{loss}"
    network = keras.Sequential(
        [
            keras.Input((None, 2)),
            L.LSTM(3, return_sequences=True),
            L.Dense(3, activation="softmax"),
        ]
    )
    stock, model = pair(network, loss=loss)
    x, _ = numbers()
    labels = np.random.default_rng(0).integers(0, 3, (ROWS, STEPS))
    weight = np.array([0.2, 1.0, 3.0], "float32")[labels]
    y = np.eye(3, dtype="float32")[labels] if one_hot else labels
    fit = {"batch_size": 4, "shuffle": False, "verbose": 0}
    expected = stock.fit(x, y, sample_weight=weight, **fit).history
    found = model.fit(x, y, class_weight=table, **fit).history
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    zoo.assert_same(model.network.get_weights(), stock.get_weights())
    # The table is that of one fit alone.
    assert model.fit(x, y, **fit).history["loss"] == pytest.approx(
        stock.fit(x, y, **fit).history["loss"], rel=1e-5
    )
    assert model.train_on_batch(x, y, class_weight=table) == pytest.approx(
        stock.train_on_batch(x, y, sample_weight=weight), rel=1e-5
    )
    loss, _ = model.estimate_gradients(x, y)
    assert float(loss) == pytest.approx(
        float(stock.test_on_batch(x, y)), rel=1e-5
    )


def test_class_weight_with_what_it_cannot_weigh_is_refused():
    x, y = numbers()
    _, model = pair(two_headed())
    with pytest.raises(ValueError, match="`class_weight` .* single output"):
        model.fit(x, [y, y[..., :1]], class_weight={0: 1.0}, verbose=0)
    _, model = pair(simple())
    with pytest.raises(ValueError, match="`class_weight` and `sample_weight`"):
        model.fit(
            x, y, class_weight={0: 1.0}, sample_weight=y[..., 0], verbose=0
        )


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("jit", [False, True])
def test_mixed_precision(policy, jit):
    keras.config.set_dtype_policy(policy)
    try:
        stock, model = pair(simple(), jit_compile=jit)
        scaled = isinstance(
            model.optimizer, keras.optimizers.LossScaleOptimizer
        )
        assert scaled == (policy == "mixed_float16")
        assert_same_training(stock, model, *numbers(), tolerance=0.02)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("option", ["dropout", "recurrent_dropout", "noise"])
@pytest.mark.parametrize("jit", [False, True])
def test_dropout_acts_in_training_alone(option, jit):
    if option == "noise":
        layers = [L.LSTM(3, return_sequences=True), L.Dropout(0.5)]
    else:
        layers = [L.LSTM(3, return_sequences=True, **{option: 0.5})]
    network = keras.Sequential([keras.Input((None, 2)), *layers, L.Dense(2)])
    stock, model = pair(network, jit_compile=jit)
    x, y = numbers()
    expected = stock.evaluate(x, y, verbose=0)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-5)
    first, _ = model.estimate_gradients(x, y)
    again, _ = model.estimate_gradients(x, y)
    assert float(first) == float(again) != pytest.approx(expected)
    losses = [float(model.train_on_batch(x, y)) for _ in range(2)]
    assert losses[0] == pytest.approx(float(first), rel=1e-5)
    assert np.isfinite(losses).all()


def test_on_batch_and_predict():
    stock, model = pair(simple(masked=True), metrics=lambda: ["mae"])
    x, y = numbers()
    for name in "train_on_batch", "test_on_batch":
        expected = getattr(stock, name)(x, y)
        np.testing.assert_allclose(getattr(model, name)(x, y), expected, 1e-5)
    np.testing.assert_allclose(
        model.predict_on_batch(x), stock.predict_on_batch(x), atol=1e-6
    )
    np.testing.assert_allclose(
        model.predict(x, verbose=0), stock.predict(x, verbose=0), atol=1e-6
    )
    np.testing.assert_allclose(model(x), stock(x), atol=1e-6)


def test_validation_data():
    stock, model = pair(simple(), metrics=lambda: ["mae"])
    x, y = numbers()
    other = numbers(seed=4)
    assert_same_training(stock, model, x, y, validation_data=other)


def test_weights_are_those_of_the_network():
    network = simple()
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse", jit_compile=False)
    x, y = numbers()
    before = network.predict(x, verbose=0)
    model.fit(x, y, verbose=0)
    assert zoo.differ([network.predict(x, verbose=0)], [before])
    assert [id(w) for w in model.trainable_variables] == [
        id(w) for w in network.trainable_variables
    ]
    network.set_weights([0 * w for w in network.get_weights()])
    assert not np.any(model.predict(x, verbose=0))


def test_functional_construction():
    inputs = keras.Input((None, 2))
    model = ksg.SequenceModel(inputs, L.LSTM(3)(inputs))
    x, _ = numbers()
    np.testing.assert_allclose(model(x), model.network(x), atol=1e-6)


def test_frozen_layers_stay():
    stock, model = pair(simple())
    for each in stock, model.network:
        each.layers[0].trainable = False
    assert_same_training(stock, model, *numbers())


def test_compiling_again_leaves_no_weights_behind():
    model = ksg.SequenceModel.from_model(simple())
    counts = []
    for _ in range(3):
        model.compile("sgd", "mse", method=ksg.methods.ARTBP(3))
        counts.append(len(model.variables))
    assert counts[1:] == counts[:1] * 2


class Halved(ksg.SequenceModel):
    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        self.traced = getattr(self, "traced", 0) + 1
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return loss / 2


def test_an_own_loss_is_followed():
    network = simple()
    x, y = numbers()
    model = Halved.from_model(network)
    model.compile("sgd", "mse", jit_compile=False)
    loss, gradients = model.estimate_gradients(x, y)
    expected = zoo.keras_gradients(
        network, x, y, keras.losses.MeanSquaredError()
    )
    assert float(loss) == pytest.approx(float(expected[0]) / 2)
    zoo.assert_same(gradients, [g / 2 for g in expected[1]])
    history = model.fit(x, y, verbose=0, batch_size=ROWS).history
    assert history["loss"][0] == pytest.approx(float(loss))
