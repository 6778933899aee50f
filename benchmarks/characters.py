"""The model on characters that several tables have in common."""

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg

VOCABULARY = 100


def network(
    units, layers=1, cell="LSTM", embedding=64, batch_size=None, steps=None
):
    """Embedding, recurrent layers and logits; with a batch size, stateful as
    Keras' own. `cell` is a layer of Keras or of this package."""
    stateful = batch_size is not None
    recurrent = getattr(keras.layers, cell, None) or getattr(ksg.layers, cell)
    return keras.Sequential(
        [
            keras.Input(batch_shape=(batch_size, steps), dtype="int32"),
            keras.layers.Embedding(VOCABULARY, embedding),
            *(
                recurrent(units, return_sequences=True, stateful=stateful)
                for _ in range(layers)
            ),
            keras.layers.Dense(VOCABULARY),
        ]
    )


def compiled(network, method, optimizer, windows_at_once=1):
    """A `SequenceModel` that carries its state, under XLA."""
    model = ksg.SequenceModel.from_model(network, stateful=True)
    model.compile(
        optimizer,
        loss(),
        method=method,
        steps_per_execution=windows_at_once,
        jit_compile=True,
    )
    return model


def loss():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def tokens(batch_size, steps):
    """Drawn tokens for so many steps in each row."""
    generator = np.random.default_rng(0)
    return generator.integers(VOCABULARY, size=batch_size * steps + 1)


def training(model, dataset):
    """A function that trains once on all windows of a data set."""
    # Without the thread that tunes tf.data: the end of a short `fit` may wait
    # for it, by up to the time `fit` itself took.
    options = tf.data.Options()
    options.autotune.enabled = False
    dataset = dataset.cache().with_options(options)
    return lambda: model.fit(dataset, verbose=0, shuffle=False)
