"""The FPTT optimizer in a plain Keras model: fit, callbacks, saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.optimizers import FPTT, fptt
from tests import zoo


def problem():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(16, 3)).astype("float32")
    return x, x @ np.float32([[1.0], [-2.0], [0.5]]) + 0.3


def model_of(optimizer, jit=False, built=True, **options):
    keras.utils.set_random_seed(3)
    layers = [keras.layers.Dense(4, "tanh"), keras.layers.Dense(1)]
    model = keras.Sequential([*([keras.Input((3,))] if built else []), *layers])
    model.compile(optimizer, "mse", jit_compile=jit, **options)
    return model


def fit(model, epochs=2, **options):
    options = {"batch_size": 8, "shuffle": False, "verbose": 0, **options}
    return model.fit(*problem(), epochs=epochs, **options).history


def values(optimizer):
    return [v.numpy().astype("float64") for v in optimizer.variables]


OPTIMIZERS = {
    "adam": lambda: FPTT(keras.optimizers.Adam(0.01, clipnorm=1.0), 0.1),
    "paper": lambda: FPTT("rmsprop", 0.1, 0.3, "paper", 0.5, 0.1),
    "accumulated": lambda: FPTT(
        keras.optimizers.SGD(0.01, gradient_accumulation_steps=2)
    ),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(
        FPTT(keras.optimizers.Adam(0.01, use_ema=True))
    ),
}


@pytest.mark.compiled
@pytest.mark.parametrize("name", ["accumulated", "scaled"])
def test_jit_changes_no_number(name):
    found = []
    for jit in (False, True):
        model = model_of(OPTIMIZERS[name](), jit, run_eagerly=not jit)
        history = fit(model)["loss"]
        held = values(model.optimizer)
        found.append([*model.get_weights(), *held, history])
    zoo.assert_same(*found, tolerance=2e-4)


@pytest.mark.compiled
def test_a_model_built_by_its_first_batch():
    """In a step of Keras', whatever runs it."""
    ways = {"run_eagerly": True}, {"jit": True}
    expected = fit(model_of(FPTT("sgd"), **ways[0]))["loss"]
    for way in ways:
        found = fit(model_of(FPTT("sgd"), built=False, **way))["loss"]
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_resumed_equals_uninterrupted(name, tmp_path):
    whole = model_of(OPTIMIZERS[name]())
    fit(whole, 4)
    model = model_of(OPTIMIZERS[name]())
    if name == "scaled":
        # Keras moves the weights to their average at the end of every fit.
        model.optimizer.finalize_variable_values = lambda variables: None
    fit(model, 2)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.optimizer.get_config() == model.optimizer.get_config()
    fit(again, 4, initial_epoch=2)
    for a, b in zip(
        [*again.weights, *again.optimizer.variables],
        [*whole.weights, *whole.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_learning_rate_is_that_of_the_inner_optimizer():
    model = model_of(FPTT(keras.optimizers.SGD(0.5)))
    seen = []

    def schedule(epoch, rate):
        seen.append(rate)
        return rate / 2

    callbacks = [
        keras.callbacks.LearningRateScheduler(schedule),
        keras.callbacks.ReduceLROnPlateau("loss", 0.1, 1, min_delta=1e9),
    ]
    fit(model, 3, callbacks=callbacks)
    assert seen == pytest.approx([0.5, 0.25, 0.0125])
    inner = model.optimizer.inner_optimizer
    assert float(inner.learning_rate) == pytest.approx(0.000625)
    decay = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    model = model_of(FPTT(keras.optimizers.SGD(decay)))
    fit(model, 1)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.5 / 4)


def test_weights_of_the_optimizer_are_all_set():
    first, second = (model_of(FPTT("adam")) for _ in range(2))
    fit(first)
    second.optimizer.build(second.trainable_variables)
    second.optimizer.set_weights([v.numpy() for v in first.optimizer.variables])
    zoo.assert_same(values(second.optimizer), values(first.optimizer), 0.0)


def test_wrapping_puts_the_loss_scale_outside():
    inner = keras.optimizers.Adam()
    scaled = keras.optimizers.LossScaleOptimizer(inner, 8.0, 5)
    wrapped = fptt.wrap(scaled, alpha=0.1)
    found = fptt.find(wrapped)
    assert wrapped.inner_optimizer is found and found.inner_optimizer is inner
    assert (wrapped.initial_scale, wrapped.dynamic_growth_steps) == (8.0, 5)
    assert found.alpha == 0.1
    assert fptt.find(scaled) is fptt.find(None) is None


@pytest.mark.parametrize(
    "options, text",
    [
        ({"alpha": 0.0}, "`alpha` must be a number above 0. Received: alpha"),
        ({"alpha": float("nan")}, "`alpha` must be a number above 0"),
        ({"beta": 1.5}, r"`beta` must be a number in \(0, 1\]. Received"),
        (
            {"form": "book"},
            r"one of \('code', 'paper'\). Received: form='book'",
        ),
        ({"weight": -1}, "`weight` must be a number 0 or more"),
        ({"rho": "half"}, r"`rho` must be a number in \[0, 1\]. Received"),
        (
            {
                "inner": keras.optimizers.LossScaleOptimizer(
                    keras.optimizers.SGD()
                )
            },
            r"Expected LossScaleOptimizer\(FPTT\(inner\)\)",
        ),
        ({"inner": FPTT("sgd")}, "an optimizer without FPTT. Received"),
    ],
    ids=["zero", "nan", "beta", "form", "weight", "rho", "scaled", "twice"],
)
def test_refusals(options, text):
    with pytest.raises(ValueError, match=text):
        FPTT(**{"inner": "sgd", **options})


def test_variables_it_does_not_know_are_refused():
    known, other = (keras.Variable(tf.zeros(2)) for _ in range(2))
    optimizer = FPTT("sgd")
    with pytest.raises(ValueError, match=r"Call `build\(variables\)` first"):
        optimizer.apply([tf.zeros(2)])
    optimizer.build([known])
    with pytest.raises(ValueError, match="Unknown variable.*Make a new"):
        optimizer.apply([tf.zeros(2)], [other])
