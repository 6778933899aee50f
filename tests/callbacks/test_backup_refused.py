"""States that are of something else, and arguments out of their range."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests.callbacks.test_backup_and_restore import (
    Batches,
    batches,
    plain_model,
    run,
)


def test_what_is_refused_before_fit(tmp_path):
    for given, text in [
        ({"backup_dir": ""}, "`backup_dir` must be the path of a folder"),
        ({"save_freq": 0}, "`save_freq` must be an integer of 1 or more"),
        ({"save_freq": True}, "Received: save_freq=True"),
        ({"save_freq": "batch"}, "Received: save_freq='batch'"),
    ]:
        with pytest.raises(ValueError, match=text):
            ksg.callbacks.BackupAndRestore(**{"backup_dir": "d"} | given)


def test_other_models_are_refused(tmp_path):
    model = keras.Sequential([keras.Input((2, 1)), keras.layers.Flatten()])
    model.compile("sgd", "mse")
    backup = ksg.callbacks.BackupAndRestore(tmp_path)
    with pytest.raises(ValueError, match=r"needs a ksg.SequenceModel.*Seq"):
        model.fit(batches(), callbacks=[backup], verbose=0)


@pytest.mark.parametrize(
    "data, options, text",
    [
        (batches(7), {}, "Expected 3 batches in an epoch, received 7"),
        (
            batches().repeat(),
            {"steps_per_epoch": 3},
            "Expected steps_per_epoch=None, received 3",
        ),
        (batches(), {"steps_per_epoch": 2}, "a divisor of the 3 batches, rec"),
        (Batches(), {"steps_per_epoch": 3}, "received Batches"),
        (
            tf.data.Dataset.from_generator(
                lambda: iter(batches(1)),
                output_signature=batches().element_spec,
            ),
            {},
            "Expected 2 batches or more in epoch 1, received fewer",
        ),
    ],
    ids=["more", "endless", "no divisor", "sequence", "fewer"],
)
def test_other_data_is_refused(data, options, text, tmp_path):
    assert run(plain_model(), batches(), tmp_path, 3) is None
    with pytest.raises(ValueError, match=text):
        run(plain_model(), data, tmp_path, **options)


def test_other_models_and_methods_are_refused(tmp_path):
    assert run(plain_model(), batches(), tmp_path, 2) is None
    model = plain_model()
    model.compile("sgd", "mse", method=ksg.methods.BPTT(1))
    with pytest.raises(ValueError, match="method=.*checkpoint_every"):
        run(model, batches(), tmp_path)
    model = plain_model(stateful=True)
    with pytest.raises(ValueError, match="stateful=False, received True"):
        run(model, batches(), tmp_path)
    network = keras.Sequential(
        [keras.Input((None, 1)), keras.layers.SimpleRNN(2)]
    )
    model = ksg.SequenceModel.from_model(network)
    model.compile(keras.optimizers.SGD(0.1, 0.9), "mse", metrics=["mae"])
    with pytest.raises(ValueError, match="another model, in its weights"):
        model.fit(
            batches().map(lambda x, y: (x, tf.repeat(y, 2, 1))),
            callbacks=[ksg.callbacks.BackupAndRestore(tmp_path)],
            verbose=0,
        )


def test_epochs_of_different_lengths_are_told_of(tmp_path):
    lengths = iter([3, 5, 4, 3])

    def pieces(_):
        count = tf.numpy_function(lambda: np.int64(next(lengths)), [], "int64")
        return batches(5).take(tf.ensure_shape(count, ()))

    data = tf.data.Dataset.range(1).flat_map(pieces)
    with pytest.warns(UserWarning, match=r"from epoch to epoch \[3, 4\]"):
        run(plain_model(), data, tmp_path)
