"""A training that is stopped and started again is one that was not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo


class Stop(keras.callbacks.Callback):
    """Leaves `fit` by an error when so many batches are done in all."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise InterruptedError


class Logs(keras.callbacks.Callback):
    """Keeps the logs of each epoch."""

    def on_train_begin(self, logs=None):
        self.epochs = {}

    def on_epoch_end(self, epoch, logs=None):
        self.epochs[epoch] = dict(logs)


def numbers_of(model):
    method = model.method_state.optimizer_variables
    variables = [*zoo.everything(model), *model.optimizer.variables, *method]
    return [v.numpy() for v in variables]


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def run(model, data, folder=None, stop=None, epochs=2, every=1, **options):
    """Epochs' logs; None where it was stopped."""
    kept, callbacks = Logs(), []
    if folder is not None:
        callbacks = [ksg.callbacks.BackupAndRestore(folder, every)]
    callbacks.append(kept)
    if stop:
        callbacks.append(Stop(stop))
    fit = {"epochs": epochs, "verbose": 0, "callbacks": callbacks} | options
    try:
        model.fit(data, **fit)
    except InterruptedError:
        return None
    return kept.epochs


def check_same(make_model, make_data, folder, stops, **options):
    """Asserts that a stopped training is one that was not stopped.

    Args:
        make_model: Function () -> compiled model.
        make_data: Function () -> data.
        folder: Where states are kept.
        stops: After how many batches each run is stopped, those counted that
            only pass.
        **options: Arguments of `run`.
    """
    whole = make_model()
    expected = run(whole, make_data(), **options)
    for stop in [*stops, None]:
        model = make_model()
        logs = run(model, make_data(), folder, stop, **options)
        assert (logs is None) == (stop is not None)
    assert not folder.exists()
    for a, b in zip(numbers_of(model), numbers_of(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    assert set(logs) <= set(expected)
    for epoch, values in logs.items():
        assert values == expected[epoch]


def plain_model(stateful=False):
    network = keras.Sequential(
        [keras.Input((None, 1)), keras.layers.SimpleRNN(1, seed=1)]
    )
    network.set_weights([np.eye(1) / 3, np.eye(1) / 2, np.ones(1)])
    model = ksg.SequenceModel.from_model(network, stateful=stateful)
    model.compile(keras.optimizers.SGD(0.1, 0.9), "mse", metrics=["mae"])
    return model


def plain_rows(count=6):
    x = np.linspace(-1, 1, count * 2, dtype="float32").reshape(count, 2, 1)
    return x, np.cos(3 * x[:, 0])


def batches(count=3):
    """Batches of two rows."""
    return tf.data.Dataset.from_tensor_slices(plain_rows(2 * count)).batch(2)


def shuffled():
    rows = tf.data.Dataset.from_tensor_slices(plain_rows())
    return rows.shuffle(6, seed=3).batch(2)


def generator():
    while True:
        yield from batches().as_numpy_iterator()


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, place):
        return [part[2 * place : 2 * place + 2] for part in plain_rows()]


TWO = {"steps_per_epoch": 2, "epochs": 3}
DATA = {
    # An epoch is a part of a pass, or goes over several.
    "parts": (lambda: batches(4), TWO),
    "shuffled": (shuffled, {}),
    "shuffled_repeated": (lambda: shuffled().repeat(), TWO),
    "generator": (generator, TWO),
    "sequence": (Batches, {"shuffle": False}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA)
def test_data_goes_on_where_it_was(name, tmp_path):
    make_data, options = DATA[name]
    stops = [1, 4]
    check_same(plain_model, make_data, tmp_path / "states", stops, **options)


def test_epochs_alone(tmp_path):
    """Saved at epochs' ends, of data that is another in every pass."""
    folder = tmp_path / "states"
    options = {"every": "epoch", "epochs": 3}
    check_same(plain_model, shuffled, folder, [5, 5], **options)


@pytest.mark.slow
def test_windows_cut_at_random(tmp_path):
    """Padded to lengths that differ, so by a model that reads masks."""

    def model():
        network = keras.Sequential(
            [
                keras.Input((None, 1)),
                keras.layers.SimpleRNN(1, return_sequences=True, seed=1),
            ]
        )
        network.set_weights([np.eye(1) / 3, np.eye(1) / 2, np.ones(1)])
        model = ksg.SequenceModel.from_model(network, stateful=True)
        method = ksg.methods.ARTBP(2, cuts="window", seed=1)
        model.compile("sgd", "mse", method=method)
        return model

    def data():
        x, y = plain_rows(40)
        law = ksg.truncation.Random(4)
        stream = ksg.data.stream(x[:, 0], 2, law, targets=y, seed=1)
        return stream.repeat()

    check_same(model, data, tmp_path / "states", [4], steps_per_epoch=3)


def test_nine_updates_for_nine(tmp_path):
    """Keras' own begins the epoch again from the weights in its middle."""
    folder, options = tmp_path / "states", {"epochs": 3, "every": 2}
    model = plain_model()
    assert run(model, batches(), folder, 5, **options) is None
    model = plain_model()
    run(model, batches(), folder, **options)
    assert model.optimizer.iterations == 9


def test_arrays_in_order(tmp_path):
    x, y = plain_rows()
    options = {"y": y, "batch_size": 2, "shuffle": False}
    check_same(plain_model, lambda: x, tmp_path / "s", [2, 4], **options)


def test_shuffled_arrays_are_told_of(tmp_path):
    x, y = plain_rows()
    options = {"y": y, "batch_size": 2}
    assert run(plain_model(), x, tmp_path, 2, **options) is None
    with pytest.warns(UserWarning, match=r"shuffled anew.*In epoch 1 some"):
        run(plain_model(), x, tmp_path, **options)


def test_validation_and_other_callbacks(tmp_path):
    """An epoch that was over but for its evaluation; rates of epochs."""

    def scheduled(model, data, folder=None, stop=None):
        rates = keras.callbacks.LearningRateScheduler(
            lambda epoch, rate: 0.1 / (1 + epoch)
        )
        others = [rates, Logs(), *([Stop(stop)] if stop else [])]
        if folder is not None:
            backup = ksg.callbacks.BackupAndRestore(folder, 3)
            others.insert(0, backup)
        try:
            return model.fit(
                data,
                epochs=3,
                verbose=0,
                validation_data=batches(2),
                callbacks=others,
            ).history
        except InterruptedError:
            return None

    class EvaluationFails(plain_model().__class__):
        def evaluate(self, *args, **kwargs):
            if self.optimizer.iterations == 6:
                raise InterruptedError
            return super().evaluate(*args, **kwargs)

    whole, stopped, last = plain_model(), plain_model(), plain_model()
    expected = scheduled(whole, batches())
    stopped.__class__ = EvaluationFails
    assert scheduled(stopped, batches(), tmp_path / "s") is None
    found = scheduled(last, batches(), tmp_path / "s")
    assert found == {name: logs[1:] for name, logs in expected.items()}
    for a, b in zip(numbers_of(last), numbers_of(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_finished_and_kept(tmp_path):
    """As with Keras' own: nothing is left to do, or only more epochs."""
    fit = {"verbose": 0, "epochs": 2}
    backup = ksg.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
    model, again = plain_model(), plain_model()
    model.fit(batches(), callbacks=[backup], **fit)
    again.fit(batches(), callbacks=[backup], **fit)
    assert again.optimizer.iterations == 6
    for a, b in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    again.fit(batches(), callbacks=[backup], **fit | {"epochs": 3})
    assert again.optimizer.iterations == 9


def test_a_fit_left_while_batches_pass(tmp_path):
    model = plain_model()
    assert run(model, batches(), tmp_path, 3) is None
    assert run(model, batches(), tmp_path, 1) is None
    model.fit(batches(), verbose=0)
    assert model.optimizer.iterations == 5


@pytest.mark.slow
def test_a_damaged_file_is_passed_over(tmp_path):
    """By a stop in the middle of writing, or a bad disk."""
    folder = tmp_path / "states"
    whole = plain_model()
    run(whole, batches())
    assert run(plain_model(), batches(), folder, 5) is None
    latest, before = sorted(folder.glob("*"), reverse=True)
    latest.write_bytes(latest.read_bytes()[:-100])
    (folder / "unfinished.tmp").write_bytes(b"half")
    model = plain_model()
    text = f"{latest.name} .damaged..*goes on from .*{before.name}"
    with pytest.warns(UserWarning, match=text):
        run(model, batches(), folder)
    for a, b in zip(numbers_of(model), numbers_of(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not folder.exists()
