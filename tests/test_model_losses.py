"""Every loss, weight and metric of a stock Keras model is kept by BPTT."""

import keras
import numpy as np
import pytest

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


def two_headed(as_dict=False, per_sequence=False):
    inputs = keras.Input((None, 2))
    hidden = L.SimpleRNN(3, return_sequences=not per_sequence)(inputs)
    outputs = [L.Dense(2, name="b")(hidden), L.Dense(1, name="a")(hidden)]
    if as_dict:
        outputs = {"b": outputs[0], "a": outputs[1]}
    return keras.Model(inputs, outputs)


def lossy(kind):
    """A network with losses of its own."""
    inputs = keras.Input((None, 2))
    regularised = {
        "l2": {"kernel_regularizer": keras.regularizers.L2(0.1)},
        "recurrent l2": {"recurrent_regularizer": keras.regularizers.L2(0.1)},
        "activity": {"activity_regularizer": keras.regularizers.L2(0.1)},
    }.get(kind, {})
    # Keras' SimpleRNN drops its activity_regularizer.
    hidden = L.GRU(3, return_sequences=True, **regularised)(inputs)
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


@pytest.mark.slow
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


@pytest.mark.slow
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
        [
            keras.Input((None, 2)),
            L.SimpleRNN(3),
            L.Dense(3, activation="softmax"),
        ]
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


@pytest.mark.slow
@pytest.mark.parametrize("one_hot", [False, True])
def test_class_weight_of_steps_is_a_weight_for_every_step(one_hot):
    table = {0: 0.2, 2: 3.0}
    loss = "categorical_crossentropy"
    loss = loss if one_hot else f"sparse_{loss}"
    network = keras.Sequential(
        [
            keras.Input((None, 2)),
            L.SimpleRNN(3, return_sequences=True),
            L.Dense(3, activation="softmax"),
        ]
    )
    stock, model = pair(network, loss=loss)
    x, _ = numbers()
    labels = np.random.default_rng(0).integers(0, 3, (ROWS, STEPS))
    weight = np.array([0.2, 1.0, 3.0], "float32")[labels]
    y = np.eye(3, dtype="float32")[labels] if one_hot else labels
    fit = {"batch_size": 3, "shuffle": False, "verbose": 0}
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
