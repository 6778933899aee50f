"""The tasks of compare_methods.py: data, model, score, learning rates."""

import dataclasses
from typing import Any

import keras
import numpy as np

import keras_seqgrad as ksg

LAYERS = {"GRU": keras.layers.GRU, "MinGRU": ksg.layers.MinGRU}


@dataclasses.dataclass
class Task:
    """What is learnt, and how it is scored.

    `windows` is one epoch, `probe` a window of the same shape, `score` takes
    the model and the validation loss.
    """

    network: keras.Model
    windows: Any
    probe: tuple
    label: str
    score: Any
    length: int
    rates: tuple
    validation: Any = None
    loss: Any = "mse"
    optimizer: Any = keras.optimizers.Adam
    stateful: bool = False
    one_target: bool = False


def recurrent(settings, features, *after, sequences=True):
    return keras.Sequential(
        [
            keras.Input((None, features)),
            LAYERS[settings.layer](settings.units, return_sequences=sequences),
            *after,
        ]
    )


def influence(settings, seed):
    """θ of a linear system; a stream of one row, without any chance."""
    goal = ksg.data.tasks.InfluenceBalancing(length=400)
    steps = goal.length * settings.windows
    ones = np.ones((steps, 1), "float32")
    cell = ksg.data.tasks.InfluenceBalancingCell()
    layers = [keras.Input((None, 1)), keras.layers.RNN(cell, True)]
    return Task(
        keras.Sequential(layers),
        ksg.data.stream(0 * ones, 1, goal.length, targets=ones),
        (np.zeros((1, goal.length, 1)), np.ones((1, goal.length, 1))),
        "distance of θ from its best",
        lambda model, loss: abs(
            float(model.trainable_variables[0]) - goal.optimum
        ),
        length=20,
        rates=(1e-5, 1e-4, 1e-3, 1e-2),
        optimizer=keras.optimizers.SGD,
        stateful=True,
    )


def drawn(task, settings, seed, **options):
    """A task of fresh examples, tested on a thousand others."""
    generator = np.random.default_rng(10_000)
    test = task.draw(1000, generator)
    return Task(
        windows=task.dataset(settings.rows, settings.windows, seed),
        probe=task.draw(settings.rows, generator),
        validation=test,
        rates=(1e-3, 3e-3, 1e-2, 3e-2),
        **options,
    )


def adding(settings, seed):
    return drawn(
        ksg.data.tasks.Adding(100),
        settings,
        seed,
        network=recurrent(settings, 2, keras.layers.Dense(1), sequences=False),
        label="mean squared error",
        score=lambda model, loss: loss,
        length=20,
        one_target=True,
    )


def copy(settings, seed):
    task = ksg.data.tasks.copy(10, bits=2, varied=False)
    return drawn(
        task,
        settings,
        seed,
        network=recurrent(settings, 4, keras.layers.Dense(2)),
        label="bits per bit",
        loss=keras.losses.BinaryCrossentropy(from_logits=True),
        score=lambda model, loss: ksg.data.text.bits(loss),
        length=5,
    )


def text(settings, seed):
    window = 100
    corpus = ksg.data.text.get("stdlib")
    size = len(corpus.vocabulary)
    tokens = settings.rows * window * settings.windows + 1
    valid = ksg.data.stream(corpus.valid, settings.rows, window)
    layers = [
        keras.Input((None,), dtype="int32"),
        keras.layers.Embedding(size, 32),
        LAYERS[settings.layer](settings.units, return_sequences=True),
        keras.layers.Dense(size),
    ]
    return Task(
        keras.Sequential(layers),
        ksg.data.stream(corpus.train[:tokens], settings.rows, window),
        next(iter(valid)),
        "bits per character",
        lambda model, loss: ksg.data.text.bits(loss),
        length=10,
        validation=valid,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        rates=(3e-4, 1e-3, 3e-3, 1e-2),
        stateful=True,
    )


TASKS = {"influence": influence, "adding": adding, "copy": copy, "text": text}
