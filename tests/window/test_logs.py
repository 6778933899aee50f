"""With parameters that stay where they are `fit` logs what `evaluate` gives."""

import keras
import numpy as np
import pytest

from keras_seqgrad import SequenceModel, methods
from keras_seqgrad.window.missing import metrics_leave_out_masked

L = keras.layers
pytestmark = pytest.mark.slow
ROWS, STEPS = 3, 4
# Segments that divide the window, and that leave a shorter last one.
METHODS = {
    "even": lambda: methods.TruncatedBPTT(2),
    "rest": lambda: methods.TruncatedBPTT(3),
    "stride": lambda: methods.TruncatedBPTT(3, 1),
    "stride_rest": lambda: methods.TruncatedBPTT(4, 3),
    "artbp": lambda: methods.ARTBP(2, seed=1),
    "artbp_cut": lambda: methods.ARTBP(2, seed=1, update="cut"),
    "dni": lambda: methods.SyntheticGradients(2, "linear"),
    "dni_rest": lambda: methods.SyntheticGradients(3, "linear", lambda_=0.5),
    "alternating": lambda: methods.AlternatingGradients(
        2, "linear", switch_epochs=[1]
    ),
    "fptt": lambda: methods.FPTT(2),
    "fptt_rest": lambda: methods.FPTT(3),
    "checkpoints": lambda: methods.BPTT(3),
    "targets": lambda: methods.TargetPropagation(3, parameter_steps=2),
    "targets_zero": lambda: methods.TargetPropagation(3, start="zero"),
    "inversion": lambda: methods.RegularizedInversion(0.5, 0.5),
    "rtrl": lambda: methods.RTRL(3),
    "uoro": lambda: methods.UORO(3, seed=1),
}
# One of each way to enter a window into the logs.
WAYS = ["rest", "stride_rest", "artbp_cut", "dni_rest", "fptt_rest"]
WAYS += ["checkpoints", "targets", "inversion", "uoro"]


def one_output(**options):
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((None, 2)),
            L.Masking(),
            L.SimpleRNN(3, return_sequences=True, **options),
            L.Dense(3, activation="softmax"),
        ]
    )


def two_outputs(late=False, names=("a", "b")):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, 2))
    hidden = L.Masking()(inputs)
    hidden = L.SimpleRNN(3, return_sequences=True)(hidden)
    last = L.SimpleRNN(2, return_sequences=not late)(hidden)
    outputs = L.Dense(1, name=names[0])(last), L.Dense(2, name=names[1])(hidden)
    return keras.Model(inputs, [*outputs])


def padded(seed=0):
    """Inputs (rows, steps, 2) whose rows end in padding."""
    x = np.random.default_rng(seed).normal(size=(ROWS, STEPS, 2))
    for row, length in enumerate([1, 4, 3]):
        x[row, length:] = 0.0
    return x.astype("float32")


def classes():
    return np.random.default_rng(1).integers(0, 3, (ROWS, STEPS))


def numbers(*shape):
    return np.random.default_rng(2).normal(size=shape).astype("float32")


def weights(*shape):
    return np.random.default_rng(3).random(shape).astype("float32")


def compiled(network, method, **options):
    model = SequenceModel.from_model(network)
    model.compile(keras.optimizers.SGD(0.0), method=method, **options)
    return model


def assert_logs(model, y, fit=(), evaluate=()):
    x, fit = padded(), {"batch_size": 4, "verbose": 0, **dict(fit)}
    logs = model.fit(x, y, shuffle=False, **fit).history
    fit.pop("class_weight", None)
    fit |= dict(evaluate)
    expected = model.evaluate(x, y, return_dict=True, **fit)
    assert set(expected) <= set(logs)
    for name, value in expected.items():
        assert logs[name][0] == pytest.approx(value, rel=1e-5), name


TWICE = {"even", "rest"}
CROSSENTROPY = keras.losses.SparseCategoricalCrossentropy


def regularized(name):
    return compiled(
        one_output(kernel_regularizer=keras.regularizers.L2(0.1)),
        METHODS[name](),
        loss=CROSSENTROPY(),
        metrics=["accuracy"],
        weighted_metrics=["accuracy"],
    )


@pytest.mark.parametrize("name", METHODS)
def test_masks_and_class_weights(name):
    """Of two methods in several batches."""
    table = {0: 0.3, 1: 1.0, 2: 4.0}
    weight = np.array([0.3, 1.0, 4.0], "float32")[classes()]
    assert_logs(
        regularized(name),
        classes(),
        {"class_weight": table, "batch_size": 2 if name in TWICE else 4},
        {"sample_weight": weight},
    )


@pytest.mark.parametrize(
    "reduction", ["sum", "none", "mean", "mean_with_sample_weight"]
)
def test_reductions_and_sample_weights(reduction):
    options = {"loss": CROSSENTROPY(reduction=reduction)}
    options["weighted_metrics"] = ["accuracy"]
    model = compiled(one_output(), METHODS["rest"](), **options)
    assert_logs(model, classes(), {"sample_weight": weights(ROWS, STEPS)})
    of_rows = weights(ROWS)
    of_steps = np.repeat(of_rows[:, None], STEPS, axis=1)
    given = {"sample_weight": of_rows}, {"sample_weight": of_steps}
    assert_logs(model, classes(), *given)


@pytest.mark.parametrize(
    "name",
    [
        "even",
        "stride",
        "artbp_cut",
        "dni",
        "fptt_rest",
        "checkpoints",
        "targets",
    ],
)
def test_several_outputs(name):
    model = compiled(
        two_outputs(),
        METHODS[name](),
        loss=["mse", keras.losses.MeanAbsoluteError(reduction="sum")],
        loss_weights=[0.5, 2.0],
        metrics=[["mae"], ["mse"]],
    )
    assert_logs(
        model,
        [numbers(ROWS, STEPS, 1), numbers(ROWS, STEPS, 2)],
        {"sample_weight": [weights(ROWS, STEPS), weights(ROWS)[:, None]]},
    )


@pytest.mark.parametrize("name", ["even", "fptt_rest"])
def test_outputs_of_both_kinds(name):
    model = compiled(
        two_outputs(late=True),
        METHODS[name](),
        loss=["mse", "mae"],
        metrics=[["mae"], ["mse"]],
    )
    assert_logs(model, [numbers(ROWS, 1), numbers(ROWS, STEPS, 2)])


@pytest.mark.parametrize("name", ["even", "dni", "dni_rest", "fptt_rest"])
def test_one_target_a_sequence(name):
    network = one_output(recurrent_regularizer=keras.regularizers.L2(0.1))
    network = keras.Model(
        network.inputs,
        L.Dense(3, "softmax")(L.SimpleRNN(2)(network.outputs[0])),
    )
    model = compiled(
        network,
        METHODS[name](),
        loss=CROSSENTROPY(),
        metrics=["accuracy"],
    )
    assert_logs(model, classes()[:, 0], {"sample_weight": weights(ROWS)})


def perplexity(y, outputs):
    """Of the whole sequence, so that parts of it do not add up."""
    terms = keras.losses.sparse_categorical_crossentropy(y, outputs)
    return keras.ops.exp(keras.ops.mean(terms, axis=1))


@pytest.mark.parametrize("name", ["even", "rest", "artbp_cut", "fptt_rest"])
@pytest.mark.parametrize("kind", ["counts", "whole"])
def test_metrics_that_are_no_means(name, kind):
    """Counts are summed over segments, others see all outputs together."""
    inputs = keras.Input((None, 2))
    hidden = L.SimpleRNN(3, return_sequences=True)(inputs)
    metrics, y = [perplexity], classes()
    network = keras.Model(inputs, L.Dense(3, "softmax")(hidden))
    loss = "sparse_categorical_crossentropy"
    if kind == "counts":
        metrics = [keras.metrics.AUC(), keras.metrics.Recall()]
        network = keras.Model(inputs, L.Dense(1, "sigmoid")(hidden))
        y, loss = y[..., None] > 1, "binary_crossentropy"
    model = compiled(network, METHODS[name](), loss=loss, metrics=metrics)
    assert_logs(model, y, {"sample_weight": weights(ROWS, STEPS)})


class Telling(SequenceModel):
    """Logs what its own `compute_metrics` returns, as any Keras model does."""

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        told = super().compute_metrics(x, y, y_pred, sample_weight)
        told["accuracy"] = 100.0 * told["accuracy"]
        told["largest"] = keras.ops.max(y_pred)
        return told


@pytest.mark.parametrize("name", WAYS)
def test_a_models_own_metrics(name):
    network = one_output()
    model = Telling(network.inputs, network.outputs)
    model.compile(
        keras.optimizers.SGD(0.0),
        CROSSENTROPY(),
        metrics=["accuracy"],
        method=METHODS[name](),
        on_bad_window="skip",
    )
    assert_logs(model, classes())
    x, y = padded(), classes()
    logs = model.train_on_batch(x, y, return_dict=True)
    outputs = network.predict(x, verbose=0)
    assert logs["largest"] == pytest.approx(outputs.max(), rel=1e-6)
    counts = x.any(-1) | (not metrics_leave_out_masked())
    right = 100.0 * (outputs.argmax(-1) == y)[counts].mean()
    assert logs["accuracy"] == pytest.approx(right, rel=1e-6)
    own = {metric.name for metric in model.method_state.metrics}
    assert set(logs) == own | {"loss", "accuracy", "largest", "bad_windows"}


def test_outputs_by_key_with_losses_of_their_own():
    names = "z", "c"
    network = two_outputs(names=names)
    network = keras.Model(
        network.input, dict(zip(names, network.outputs, strict=True))
    )
    model = compiled(
        network,
        METHODS["rest"](),
        loss={"z": "mse", "c": "mae"},
        loss_weights={"z": 0.5, "c": 2.0},
        metrics={"c": ["mse"]},
    )
    assert_logs(
        model,
        {"z": numbers(ROWS, STEPS, 1), "c": numbers(ROWS, STEPS, 2)},
    )


@pytest.mark.parametrize("length", [1, 3])
def test_weights_of_a_segment_of_one_step(length):
    model = compiled(
        one_output(),
        methods.TruncatedBPTT(length),
        loss=CROSSENTROPY(reduction="mean_with_sample_weight"),
    )
    assert_logs(
        model,
        classes(),
        {"sample_weight": weights(ROWS, STEPS)},
    )
