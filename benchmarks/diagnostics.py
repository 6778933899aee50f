"""What GradientDiagnostics adds to the time of training.

The model of `examples/char_lm.py --full` (two LSTMs of 256 on characters, 32
rows, windows of 200, TruncatedBPTT(50)) trains on the same windows twice in
turn, without and with a measurement after every 200 of them on one window of
32 rows. Nothing bounds the measurements (max_share=None). Time is that of an
epoch without its first window. The first epoch of each compiles and does not
count; the callback's first measurement, which compiles too, is shown.
"""

import statistics
import tempfile
import time

import keras
import tensorflow as tf

import keras_seqgrad as ksg
from benchmarks import characters
from benchmarks.table import Table


class Seconds(keras.callbacks.Callback):
    """Of every epoch without its first batch, with other callbacks' work."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def on_train_batch_end(self, batch, logs=None):
        if batch == 0:
            self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(time.perf_counter() - self.began)


def measurements(folder):
    """Seconds of each, from the event files."""
    found = []
    for path in tf.io.gfile.glob(folder + "/events*"):
        for record in tf.data.TFRecordDataset(path):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.tag == "diagnostics/seconds":
                    found.append(float(tf.make_ndarray(value.tensor)))
    return found


def run(settings, log_dir=None):
    """Seconds of epochs, and of measurements if there is a `log_dir`."""
    batch_size, units, window, length, windows, epochs = settings
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = characters.compiled(
        characters.network(units, 2), ksg.methods.TruncatedBPTT(length), "adam"
    )
    tokens = characters.tokens(batch_size, window * windows)
    seconds = Seconds()
    callbacks = [seconds]
    if log_dir is not None:
        probe = next(iter(ksg.data.stream(tokens, batch_size, window)))
        callbacks = [
            ksg.callbacks.GradientDiagnostics(
                log_dir, probe, every=windows, max_share=None
            ),
            seconds,
        ]
    model.fit(
        ksg.data.stream(tokens, batch_size, window),
        epochs=1 + epochs,
        callbacks=callbacks,
        verbose=0,
    )
    return seconds.epochs[1:], measurements(log_dir) if log_dir else None


def tables(quick):
    settings = (2, 3, 20, 10, 2, 1) if quick else (32, 256, 200, 50, 200, 2)
    with tempfile.TemporaryDirectory() as folder:
        watched, (first, *costs) = run(settings, folder)
    plain, _ = run(settings)
    plain, watched = statistics.median(plain), statistics.median(watched)
    cost = statistics.median(costs)
    cells = [plain, watched, first, cost]
    cells = [f"{seconds:.1f}" for seconds in cells]
    head = ["epoch without (s)", "epoch with (s)"]
    head += ["first measurement (s)", "others (s)", "others, of an epoch"]
    row = [*cells, f"{100 * cost / plain:.1f} %"]
    yield Table("diagnostics", head, [row])
