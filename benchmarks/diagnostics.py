"""What GradientDiagnostics adds to the time of training.

    python benchmarks/diagnostics.py

The model of `examples/char_lm.py --full` (two LSTMs of 256 on the characters of
Python's standard library, 32 rows, windows of 200, TruncatedBPTT(50)) trains on
the same windows twice in turn, without and with a measurement after every
`--every` of them on one window of 32 rows. Nothing bounds the measurements
(max_share=None). Time is that of an epoch without its first window. The first
epoch of each compiles and does not count; the callback's first measurement,
which compiles too, is shown.
"""

import argparse
import statistics
import tempfile
import time

import keras
import tensorflow as tf

import keras_seqgrad as ksg


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


def run(corpus, settings, log_dir=None):
    """Seconds of epochs, and of measurements if there is a `log_dir`."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    size, window = len(corpus.vocabulary), 200
    layers = [keras.Input((None,), dtype="int32")]
    layers += [keras.layers.Embedding(size, 64)]
    layers += [keras.layers.LSTM(256, return_sequences=True) for _ in "12"]
    layers += [keras.layers.Dense(size)]
    network = keras.Sequential(layers)
    model = ksg.SequenceModel.from_model(network, stateful=True)
    model.compile(
        "adam",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        method=ksg.methods.TruncatedBPTT(50),
        jit_compile=True,
    )
    tokens = 32 * window * settings.windows + 1
    seconds = Seconds()
    callbacks = [seconds]
    if log_dir is not None:
        probe = next(iter(ksg.data.stream(corpus.valid, 32, window)))
        callbacks = [
            ksg.callbacks.GradientDiagnostics(
                log_dir, probe, every=settings.every, max_share=None
            ),
            seconds,
        ]
    model.fit(
        ksg.data.stream(corpus.train[:tokens], 32, window),
        epochs=1 + settings.epochs,
        callbacks=callbacks,
        verbose=0,
    )
    return seconds.epochs[1:], measurements(log_dir) if log_dir else None


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--every", type=int, default=200)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=2)
    settings = parser.parse_args()
    corpus = ksg.data.text.get("stdlib")
    with tempfile.TemporaryDirectory() as folder:
        watched, (first, *costs) = run(corpus, settings, folder)
    plain, _ = run(corpus, settings)
    plain, watched = statistics.median(plain), statistics.median(watched)
    print(f"epoch of {settings.windows} windows: {plain:.1f} s without")
    print(f"with: {watched:.1f} s, {watched / plain:.3f} times as long")
    print(f"measurement: first {first:.1f} s, then {costs}")


if __name__ == "__main__":
    main()
