"""A step of a SequenceModel by BPTT is the step of a stock Keras model."""

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from tests import zoo
from tests.stock import (
    ROWS,
    STEPS,
    L,
    assert_same_training,
    numbers,
    pair,
    simple,
    weights_of,
)


@pytest.mark.slow
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
    expected = stock.evaluate(
        x, y, batch_size=3, verbose=0, sample_weight=weight[:, None]
    )
    found = model.evaluate(x, y, batch_size=3, verbose=0, sample_weight=weight)
    assert found == pytest.approx(expected, rel=1e-5)
    fit = {"batch_size": 3, "shuffle": False, "verbose": 0}
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


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_options_of_the_optimizer(name):
    stock, model = pair(
        simple(), optimizer=lambda: keras.optimizers.Adam(**OPTIMIZERS[name])
    )
    assert_same_training(stock, model, *numbers(), epochs=2)
    zoo.assert_same(
        [v.numpy() for v in model.optimizer.variables],
        [v.numpy() for v in stock.optimizer.variables],
    )


@pytest.mark.compiled
def test_several_steps_an_execution_under_xla():
    options = {"jit_compile": True, "steps_per_execution": 2}
    stock, model = pair(simple(masked=True), metrics=lambda: ["mae"], **options)
    stock.run_eagerly = True
    x, y = numbers()
    weight = weights_of(ROWS, STEPS)
    assert_same_training(stock, model, x, y, sample_weight=weight)


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy, jit", [("mixed_float16", True), ("mixed_bfloat16", False)]
)
def test_mixed_precision(policy, jit):
    keras.config.set_dtype_policy(policy)
    try:
        stock, model = pair(simple(), jit_compile=jit)
        stock.run_eagerly = True
        scaled = isinstance(
            model.optimizer, keras.optimizers.LossScaleOptimizer
        )
        assert scaled == (policy == "mixed_float16")
        assert_same_training(stock, model, *numbers(), tolerance=0.02)
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.parametrize("option", ["dropout", "recurrent_dropout", "noise"])
def test_dropout_acts_in_training_alone(option):
    if option == "noise":
        layers = [L.LSTM(3, return_sequences=True), L.Dropout(0.5)]
    else:
        layers = [L.LSTM(3, return_sequences=True, **{option: 0.5})]
    network = keras.Sequential([keras.Input((None, 2)), *layers, L.Dense(2)])
    stock, model = pair(network, jit_compile=False)
    x, y = numbers()
    expected = stock.evaluate(x, y, verbose=0)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-5)
    first, _ = model.estimate_gradients(x, y)
    again, _ = model.estimate_gradients(x, y)
    assert float(first) == float(again) != pytest.approx(expected)
    # Before Keras 3.15 a batch's loss goes into the mean of those before it.
    model.reset_metrics()
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


@pytest.mark.slow
def test_validation_data():
    stock, model = pair(simple(), metrics=lambda: ["mae"])
    x, y = numbers()
    other = numbers(seed=4)
    assert_same_training(stock, model, x, y, validation_data=other, epochs=2)


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
        counts.append(len(zoo.everything(model)))
    assert counts[1:] == counts[:1] * 2


@pytest.mark.compiled
@pytest.mark.parametrize("run", ["fit", "train_on_batch"])
def test_the_first_step_is_traced_once(run):
    """The optimizer's variables are there before; else it would be twice."""

    class Counting(ksg.SequenceModel):
        steps = 0

        def train_step(self, data):
            self.steps += 1
            return super().train_step(data)

    model = Counting.from_model(simple())
    model.compile("adam", "mse", jit_compile=False)
    if run == "fit":
        model.fit(*numbers(), ROWS, epochs=2, verbose=0)
    else:
        model.train_on_batch(*numbers())
    assert model.steps == 1


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
