"""Trains a language model of characters on several machines, or on one.

Every machine runs this script, at the same time, with its own number:

    TF_CONFIG='{"cluster": {"worker": ["host1:2222", "host2:2222"]},
                "task": {"type": "worker", "index": 0}}' \
    python examples/several_machines.py --folder /shared/run

where the folder is one that all of them see. If one of them dies the others end
with an error: start all of them again, and they go on at the batch that came
next. Without TF_CONFIG there is one machine, and the result is the same.
"""

import argparse
import os
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg


def text():
    """Ids of the characters of this file, many times over."""
    return np.frombuffer(Path(__file__).read_bytes() * 4, "uint8") % 128


def build():
    """The compiled model; it carries its state from window to window."""
    network = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(128, 16),
            ksg.layers.LSTM(32, return_sequences=True),
            keras.layers.Dense(128),
        ]
    )
    model = ksg.SequenceModel.from_model(network, stateful=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        keras.optimizers.SGD(0.5, momentum=0.9),
        loss,
        metrics=["accuracy"],
        method=ksg.methods.TruncatedBPTT(20),
        jit_compile=False,
    )
    return model


def main(folder, epochs):
    several = "TF_CONFIG" in os.environ
    # Before anything else is done with TensorFlow.
    make = tf.distribute.MultiWorkerMirroredStrategy
    strategy = make() if several else tf.distribute.get_strategy()
    number = strategy.cluster_resolver.task_id if several else 0
    keras.utils.set_random_seed(1)
    with strategy.scope():
        model = build()
    Path(folder).mkdir(parents=True, exist_ok=True)
    ids = text()
    batches = ksg.data.stream(ids[:-4000], batch_size=8, window=40)
    held_out = ksg.data.stream(ids[-4000:], batch_size=8, window=40)
    # All machines save, since each has some of the rows; one file is kept.
    name = "model.keras" if number == 0 else f"copy-{number}.keras"
    model.fit(
        batches,
        epochs=epochs,
        validation_data=held_out,
        callbacks=[
            keras.callbacks.ModelCheckpoint(Path(folder, name)),
            ksg.callbacks.BackupAndRestore(Path(folder, "states"), 5),
        ],
        verbose=2 if number == 0 else 0,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", default="several_machines")
    parser.add_argument("--epochs", type=int, default=3)
    main(**vars(parser.parse_args()))
