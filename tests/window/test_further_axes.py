"""A loss of several places a row or a step is that of them side by side."""

import keras
import numpy as np
import pytest

from keras_seqgrad import SequenceModel
from tests import zoo
from tests.window.test_logs import METHODS, WAYS

L = keras.layers
pytestmark = pytest.mark.slow
ROWS, STEPS, PLACES = 4, 4, 3
# The loss is that of the numbers in one line, if a row has two for each place.
WIDTH = 2 * PLACES
MASK = np.arange(STEPS) < np.array([[4], [1], [3], [4]])
WEIGHTED_MEAN = keras.losses.MeanSquaredError(
    reduction="mean_with_sample_weight"
)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def model_of(kind, apart, method, loss="mse"):
    """Its outputs are (..., PLACES, 2) where `apart`, else (..., WIDTH)."""
    keras.utils.set_random_seed(1)

    def read(hidden, *steps):
        outputs = L.Dense(WIDTH)(hidden)
        return L.Reshape((*steps, PLACES, 2))(outputs) if apart else outputs

    inputs = keras.Input((None, 2))
    hidden = L.SimpleRNN(3, return_sequences=True)(inputs)
    late = L.SimpleRNN(2)
    outputs = {
        "each": lambda: read(hidden, -1),
        "late": lambda: read(late(hidden)),
        "both": lambda: [read(late(hidden)), read(hidden, -1)],
    }[kind]()
    model = SequenceModel(inputs, outputs)
    losses = [loss] * 2 if kind == "both" else loss
    model.compile(keras.optimizers.SGD(0.1), losses, method=METHODS[method]())
    return model


def assert_the_same(kind, method, weights=None, loss="mse", mask=MASK):
    """Trained and evaluated; the mask lies beside the inputs."""
    late, each = drawn(ROWS, WIDTH, seed=2), drawn(ROWS, STEPS, WIDTH, seed=3)
    y = {"each": each, "late": late, "both": [late, each]}[kind]
    x = drawn(ROWS, STEPS, 2)
    x = x if mask is None else {"inputs": x, "mask": mask}
    found = []
    for apart in (False, True):
        model = model_of(kind, apart, method, loss)
        targets = keras.tree.map_structure(
            lambda t, apart=apart: (
                t.reshape(*t.shape[:-1], PLACES, 2) if apart else t
            ),
            y,
        )
        given = {"x": x, "y": targets, "sample_weight": weights, "verbose": 0}
        logs = model.fit(shuffle=False, **given).history["loss"]
        logs += [keras.tree.flatten(model.evaluate(**given))[0]]
        found.append([*model.get_weights(), *logs])
    zoo.assert_same(*found)


@pytest.mark.parametrize("method", WAYS)
def test_at_every_step(method):
    """With a mask and with weights of rows and steps."""
    weights = np.random.default_rng(4).random((ROWS, STEPS)).astype("float32")
    assert_the_same("each", method, weights)


@pytest.mark.parametrize(
    "method",
    ["even", "stride", "dni_rest", "alternating", "fptt_rest", "targets"],
)
def test_once_a_sequence(method):
    assert_the_same("late", method)


@pytest.mark.parametrize(
    "method", ["even", "artbp", "fptt_rest", "checkpoints"]
)
def test_outputs_of_both_kinds(method):
    assert_the_same("both", method)


@pytest.mark.parametrize("method", ["rest", "dni", "fptt_rest"])
@pytest.mark.parametrize("kind", ["late", "each"])
def test_means_by_weights(kind, method):
    """By those of rows, or where there are none by the mask alone."""
    weights = np.array([0.5, 1.0, 0.0, 2.0])
    assert_the_same(kind, method, weights, WEIGHTED_MEAN)
    if method == "rest":
        assert_the_same(kind, method, None, WEIGHTED_MEAN)


def test_both_kinds_in_a_mean_by_weights():
    assert_the_same("both", "fptt", None, WEIGHTED_MEAN, mask=None)


@pytest.mark.parametrize("shape", [(ROWS, 1), (ROWS, PLACES)])
def test_weights_of_places_are_those_of_keras(shape):
    x, y = drawn(ROWS, STEPS, 2), drawn(ROWS, PLACES, 2)
    weights = np.random.default_rng(4).random(shape).astype("float32")
    model = model_of("late", True, "dni", WEIGHTED_MEAN)
    stock = keras.Model(model.inputs, model.outputs)
    stock.compile(loss=WEIGHTED_MEAN, run_eagerly=True)
    expected = stock.evaluate(x, y, sample_weight=weights, verbose=0)
    found = model.evaluate(x, y, sample_weight=weights, verbose=0)
    assert found == pytest.approx(expected, rel=1e-5)
    logs = model.fit(x, y, sample_weight=weights, verbose=0).history
    assert np.isfinite(logs["loss"]).all()


def test_a_model_that_computes_its_loss_is_given_the_weights_as_they_are():
    given = []

    class Own(SequenceModel):
        def compute_loss(self, x, y, y_pred, sample_weight, training):
            given.append(sample_weight.shape)
            weights = sample_weight[..., None, None]
            return keras.ops.mean(weights * keras.ops.square(y - y_pred))

    network = model_of("each", True, "even")
    model = Own(network.inputs, network.outputs)
    model.compile("sgd", "mse", method=METHODS["checkpoints"]())
    y = drawn(ROWS, STEPS, PLACES, 2)
    weights = np.ones((ROWS, STEPS), "float32")
    model.fit(drawn(ROWS, STEPS, 2), y, sample_weight=weights, verbose=0)
    assert {shape[0] for shape in given} == {ROWS}
    assert {len(shape) for shape in given} == {2}


@pytest.mark.parametrize("method", ["dni", "fptt", "even"])
def test_a_loss_that_is_one_number_a_row(method):
    """It reduces the places itself."""

    def error(y, outputs):
        return keras.ops.mean(keras.ops.square(y - outputs), axis=(1, 2))

    x, y = drawn(ROWS, STEPS, 2), drawn(ROWS, PLACES, 2)
    found = []
    for loss in ("mse", error):
        model = model_of("late", True, method, loss)
        model.fit({"inputs": x, "mask": MASK}, y, shuffle=False, verbose=0)
        found.append(model.get_weights())
    zoo.assert_same(*found)


@pytest.mark.compiled
@pytest.mark.parametrize("method, steps", [("dni", STEPS), ("even", 1)])
def test_films_under_xla(method, steps):
    """Frames (batch, time, rows, columns, 1), some of them left out."""
    x, mask = drawn(2, STEPS, 3, 3, 1)[:, :steps], MASK[:2, :steps]
    keras.utils.set_random_seed(1)
    inputs = keras.Input((None, 3, 3, 1))
    film = L.ConvLSTM2D(1, 3, padding="same", return_sequences=True)
    network = keras.Model(inputs, film(inputs))
    model = SequenceModel.from_model(network)
    model.compile(
        keras.optimizers.SGD(0.0),
        "mse",
        method=METHODS[method](),
        jit_compile=True,
    )
    given = {"inputs": x, "mask": mask}
    [loss] = model.fit(given, x + 1.0, verbose=0).history["loss"]
    # What is left out comes last.
    errors = np.square(x + 1.0 - network(x)).mean((2, 3, 4))
    assert loss == pytest.approx(errors[mask].mean(), rel=1e-5)
    if steps > 1:
        assert loss != pytest.approx(errors.mean(), rel=1e-3)
