import keras
import numpy as np
import pytest

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import BPTT
from tests import zoo

LOSS = keras.losses.MeanSquaredError()


def estimate(model, x, y, method, eagerly=False, **options):
    model.compile(
        "sgd", LOSS, method=method, jit_compile=False, run_eagerly=eagerly
    )
    return model.estimate_gradients(x, y, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, per_sequence",
    [*((kind, False) for kind in zoo.KINDS), ("gru", True), ("own", True)],
)
def test_equals_keras_own_gradient(kind, per_sequence):
    network = zoo.network(kind, layers=2, per_sequence=per_sequence)
    x, y = zoo.data(5, per_sequence)
    loss, expected = zoo.keras_gradients(network, x, y, LOSS)
    model = SequenceModel.from_model(network)
    for every in (None, 3):
        found_loss, found = estimate(model, x, y, BPTT(every))
        assert float(found_loss) == pytest.approx(float(loss), rel=1e-5)
        zoo.assert_same(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", zoo.KINDS)
def test_finite_differences(kind):
    """In float64 every weight is moved to and fro, on a drawn way."""
    keras.config.set_floatx("float64")
    try:
        network = zoo.network(kind)
        x, y = (a.astype("float64") for a in zoo.data(3))
        model = SequenceModel.from_model(network)
        loss = keras.losses.MeanSquaredError()
        model.compile("sgd", loss, method=BPTT(2))
        _, found = model.estimate_gradients(x, y)
        for variable, gradient in zip(
            model.trainable_variables, found, strict=True
        ):
            value, moved = variable.numpy(), []
            way = np.random.default_rng(0).normal(size=value.shape)
            for step in (1e-5, -1e-5):
                variable.assign(value + step * way)
                moved.append(float(loss(y, network(x))))
            variable.assign(value)
            slope = (moved[0] - moved[1]) / 2e-5
            expected = np.sum(gradient.numpy() * way)
            assert expected == pytest.approx(slope, rel=1e-5, abs=1e-7)
    finally:
        keras.config.set_floatx("float32")


@pytest.mark.slow
def test_checkpoints_change_nothing():
    model = SequenceModel.from_model(zoo.network("simple_rnn", layers=2))
    x, y = zoo.data()
    weight = np.random.default_rng(2).uniform(size=(3, 7)).astype("float32")
    given = {"sample_weight": weight}
    loss, stored = estimate(model, x, y, BPTT(), **given)
    for every in (1, 2, 3, 7, 20, "auto"):
        other, found = estimate(model, x, y, BPTT(every), **given)
        assert float(other) == pytest.approx(float(loss), rel=1e-6)
        zoo.assert_same(found, stored)


@pytest.mark.compiled
@pytest.mark.parametrize("every, jit", [(20, False), ("auto", True)])
def test_checkpoints_of_windows_of_unknown_length(every, jit):
    """Which are traced without one."""
    lengths, shape = (7, 2) if jit else (7, 4, 2), (zoo.BATCH, None, 2)
    windows = zoo.generated([*map(zoo.data, lengths)], shape, shape)
    found = []
    for method, compiled in (
        (BPTT(), {"run_eagerly": True}),
        (BPTT(every), {"jit_compile": jit}),
    ):
        network = zoo.network("simple_rnn")
        model = SequenceModel.from_model(network)
        model.compile("sgd", LOSS, method=method, **compiled)
        model.fit(windows, verbose=0)
        found.append(network.get_weights())
    zoo.assert_same(*found)


@pytest.mark.slow
def test_checkpoints_with_masks_and_regularisers():
    keras.utils.set_random_seed(3)
    network = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(5, 3, mask_zero=True),
            keras.layers.GRU(3, return_sequences=True, kernel_regularizer="l2"),
            keras.layers.Dense(2),
        ]
    )
    x = np.random.default_rng(0).integers(0, 5, (3, 7))
    x[:, 5:] = 0
    _, y = zoo.data()
    loss, expected = zoo.keras_gradients(network, x, y, CompiledLoss())
    model = SequenceModel.from_model(network)
    for every in (None, 3):
        found_loss, found = estimate(model, x, y, BPTT(every))
        assert float(found_loss) == pytest.approx(float(loss), rel=1e-5)
        zoo.assert_same(found, expected)
    _, unmasked = estimate(model, np.maximum(x, 1), y, BPTT(3))
    assert zoo.differ(unmasked, expected)


class CompiledLoss:
    """Keras' own loss; it takes the mask the prediction carries."""

    def __call__(self, y, prediction, sample_weight):
        return LOSS(y, prediction, sample_weight=sample_weight)


@pytest.mark.slow
@pytest.mark.parametrize("every", [None, 3])
def test_dropout_is_drawn_again_as_it_was(every):
    """With checkpoints each segment runs twice, with the same masks."""
    keras.utils.set_random_seed(4)
    network = keras.Sequential(
        [
            keras.Input((None, 2)),
            keras.layers.LSTM(3, return_sequences=True, recurrent_dropout=0.5),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2),
        ]
    )
    model = SequenceModel.from_model(network)
    x, y = zoo.data(5)
    _, found = estimate(model, x, y, BPTT(every))
    variable = model.trainable_variables[0]
    value = variable.numpy()
    moved = []
    for step in (1e-2, -1e-2):
        changed = value.copy()
        changed[0, 1] += step
        variable.assign(changed)
        moved.append(float(model.estimate_gradients(x, y)[0]))
    slope = (moved[0] - moved[1]) / 2e-2
    assert found[0].numpy()[0, 1] == pytest.approx(slope, rel=0.02, abs=1e-4)


@pytest.mark.parametrize("every", [0, -1, 2.5, "some"])
def test_refuses(every):
    with pytest.raises(ValueError, match="checkpoint_every"):
        BPTT(every)
