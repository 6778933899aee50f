"""Every method goes on bit for bit, and so does what is compiled."""

import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo
from tests.callbacks.test_backup_and_restore import (
    Logs,
    assert_equal,
    check_same,
    numbers_of,
    run,
)
from tests.methods.table import TABLE


class Copy(keras.callbacks.Callback):
    """Copies the folder of states when so many batches are done in all.

    It has the state after the batch before: states are written last.
    """

    def __init__(self, folder, to, after):
        super().__init__()
        self.folder, self.to, self.left = folder, to, after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            shutil.copytree(self.folder, self.to)


def model_of(method="tbptt", stateful=True, **options):
    row = TABLE[method]
    kind = row.instead.get("simple_rnn", "simple_rnn")
    dropout = {} if "inversion" in method else {"dropout": 0.5}
    network = zoo.network(kind, **dropout)
    model = ksg.SequenceModel.from_model(network, stateful=stateful)
    options = {"jit_compile": False} | options
    sgd = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(sgd, "mse", method=row.method(), metrics=["mae"], **options)
    return model


def windows(count, steps, rows=zoo.BATCH):
    """Windows that go on in the same rows."""
    parts = [zoo.data(steps, seed=seed) for seed in range(count)]
    x, y = (np.stack(part)[:, :rows] for part in zip(*parts, strict=True))
    return tf.data.Dataset.from_tensor_slices((x, y))


# What they keep, another row of the table keeps, too.
ALIKE = {"bptt_checkpointed", "tbptt_stride", "artbp_rows", "dni_lambda"}
# `dni_next` keeps all that this one does.
ALIKE |= {"dni"}


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(TABLE.keys() - ALIKE))
def test_every_method_goes_on_bit_for_bit(method, tmp_path):
    """From what the disk held in the middle of the second epoch."""
    whole, found, kept = model_of(method), model_of(method), tmp_path / "kept"
    # RTRL takes a pass a row. Of two segments, one of them shorter.
    data = windows(2, 3, 1 if method == "rtrl" else zoo.BATCH)
    expected = Logs()
    backup = ksg.callbacks.BackupAndRestore(tmp_path / "states", 1)
    copy = Copy(tmp_path / "states", kept, 4)
    whole.fit(data, epochs=2, verbose=0, callbacks=[backup, copy, expected])
    logs = run(found, data, kept)
    assert logs == {1: expected.epochs[1]}
    assert_equal(numbers_of(found), numbers_of(whole))


@pytest.mark.slow
@pytest.mark.compiled
def test_compiled_in_executions_of_several_steps(tmp_path):
    check_same(
        lambda: model_of("artbp", steps_per_execution=2),
        lambda: windows(5, 4),
        tmp_path / "states",
        [5],
    )
