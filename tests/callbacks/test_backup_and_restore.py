"""A training that is stopped and started again is one that was not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo
from tests.methods.table import TABLE

WINDOWS = 4


class Stop(keras.callbacks.Callback):
    """Leaves `fit` by an error when so many batches are done in all."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise InterruptedError


class Count(keras.callbacks.Callback):
    """The number of updates by `iterations`, and the last logs of epochs."""

    def on_train_begin(self, logs=None):
        self.epochs = {}

    def on_epoch_end(self, epoch, logs=None):
        self.epochs[epoch] = dict(logs)


def model_of(method="tbptt", stateful=True, **options):
    row = TABLE[method]
    kind = row.instead.get("lstm", "lstm")
    dropout = {} if "inversion" in method else {"dropout": 0.5}
    network = zoo.network(kind, **dropout)
    model = ksg.SequenceModel.from_model(network, stateful=stateful)
    options = {"jit_compile": False} | options
    model.compile(
        "adam", "mse", method=row.method(), metrics=["mae"], **options
    )
    return model


def windows(count=WINDOWS):
    """Windows that go on in the same rows."""
    parts = [zoo.data(seed=seed) for seed in range(count)]
    x, y = map(np.stack, zip(*parts, strict=True))
    return tf.data.Dataset.from_tensor_slices((x, y))


def numbers_of(model):
    method = model.method_state.optimizer_variables
    variables = [*zoo.everything(model), *model.optimizer.variables, *method]
    return [v.numpy() for v in variables]


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def run(model, data, folder=None, stop=None, epochs=2, every=1, **options):
    """Epochs' logs; None where it was stopped."""
    count, callbacks = Count(), []
    if folder is not None:
        callbacks = [ksg.callbacks.BackupAndRestore(folder, every)]
    callbacks.append(count)
    if stop:
        callbacks.append(Stop(stop))
    fit = {"epochs": epochs, "verbose": 0, "callbacks": callbacks} | options
    try:
        model.fit(data, **fit)
    except InterruptedError:
        return None
    return count.epochs


def stopped_and_whole(make_model, make_data, folder, stops, **options):
    """(model and logs of a stopped training, and of one that was not)."""
    whole = make_model()
    expected = run(whole, make_data(), **options)
    found = {}
    for stop in [*stops, None]:
        model = make_model()
        logs = run(model, make_data(), folder, stop, **options)
        assert (logs is None) == (stop is not None)
    found = logs
    assert not folder.exists()
    return (model, found), (whole, expected)


def assert_same(found, whole):
    (model, logs), (other, expected) = found, whole
    assert_equal(numbers_of(model), numbers_of(other))
    assert model.optimizer.iterations == other.optimizer.iterations
    for epoch, values in logs.items():
        assert values == expected[epoch]


@pytest.mark.parametrize("method", TABLE)
def test_every_method_goes_on_bit_for_bit(method, tmp_path):
    assert_same(
        *stopped_and_whole(
            lambda: model_of(method), windows, tmp_path / "b", [3, 3]
        )
    )
