import keras
import numpy as np
import pytest

from keras_seqgrad.callbacks import AverageWeights
from keras_seqgrad.optimizers import FPTT

X = np.linspace(-1, 1, 24).astype("float32").reshape(8, 3)
Y = (X @ np.float32([[1.0], [-2.0], [3.0]])) + 1


def model_of(optimizer):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


def fit(model, callback, validate, epochs=1):
    options = {"batch_size": 4, "shuffle": False, "verbose": 0}
    if validate:
        options["validation_data"] = X, Y
    return model.fit(X, Y, epochs=epochs, callbacks=callback, **options).history


def state(model):
    """(parameters, averages, multipliers) as arrays."""
    optimizer = model.optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not isinstance(optimizer, FPTT):
        optimizer = model.optimizer
    return [
        [v.numpy() for v in held]
        for held in (
            optimizer.regularized,
            optimizer.averages,
            optimizer.multipliers,
        )
    ]


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def scaled():
    return keras.optimizers.LossScaleOptimizer(FPTT("sgd"))


@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize("make", [lambda: FPTT("sgd"), scaled], ids=["", "ls"])
def test_swaps_once_an_epoch_before_evaluation(validate, make):
    plain = model_of(make())
    fit(plain, [], validate)
    _, averages, _ = state(plain)
    model = model_of(make())
    history = fit(model, [AverageWeights()], validate)
    parameters, kept, multipliers = state(model)
    assert_equal(parameters, averages)
    assert_equal(kept, averages)
    assert all((m == 0).all() for m in multipliers)
    if validate:
        # What was evaluated is what training goes on from.
        expected = model.evaluate(X, Y, verbose=0)
        assert history["val_loss"] == pytest.approx([expected], rel=1e-6)
        assert history["val_loss"] != pytest.approx(
            [plain.evaluate(X, Y, verbose=0)], rel=1e-3
        )


def test_multipliers_may_go_on():
    plain = model_of(FPTT("sgd"))
    fit(plain, [], False)
    model = model_of(FPTT("sgd"))
    fit(model, [AverageWeights(reset_multipliers=False)], False)
    assert_equal(state(model)[2], state(plain)[2])


def test_training_goes_on_from_the_average():
    model = model_of(FPTT("sgd"))
    fit(model, [AverageWeights()], False, epochs=3)
    twin = model_of(FPTT("sgd"))
    for _ in range(3):
        fit(twin, [], False)
        twin.optimizer.average()
    assert_equal(model.get_weights(), twin.get_weights())


@pytest.mark.slow
def test_evaluating_the_average_moves_nothing():
    plain = model_of(FPTT("sgd"))
    fit(plain, [], True, epochs=3)
    model = model_of(FPTT("sgd"))
    history = fit(model, [AverageWeights("evaluate")], True, epochs=3)
    for found, expected in zip(state(model), state(plain), strict=True):
        assert_equal(found, expected)
    model.optimizer.average()
    expected = model.evaluate(X, Y, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(expected, rel=1e-6)
    assert expected != pytest.approx(plain.evaluate(X, Y, verbose=0), rel=1e-3)


def test_refusals():
    with pytest.raises(ValueError, match=r"'evaluate'\). Received: mode='no'"):
        AverageWeights("no")
    with pytest.raises(ValueError, match=r"FPTT\(optimizer\). Received: SGD"):
        fit(model_of("sgd"), [AverageWeights()], False)
