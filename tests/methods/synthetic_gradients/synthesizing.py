"""What the tests of synthetic gradients share."""

import contextlib
import dataclasses

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.methods.synthetic_gradients.synthesis import Synthesis
from tests import zoo


@keras.saving.register_keras_serializable("tests")
class Zero(keras.layers.Layer):
    """Guesses nothing, learns nothing."""

    def call(self, inputs):
        return tf.zeros_like(inputs)


@keras.saving.register_keras_serializable("tests")
class Constant(keras.layers.Layer):
    """Guesses one number for every unit."""

    def __init__(self, value=1.0, **kwargs):
        super().__init__(**kwargs)
        self.value = value

    def call(self, inputs):
        return tf.ones_like(inputs) * self.value

    def get_config(self):
        return {**super().get_config(), "value": self.value}


class Oracle(keras.layers.Layer):
    """Knows what to guess at some states, and looks for the nearest."""

    def __init__(self, states, guesses):
        super().__init__()
        self.states = tf.constant(states)
        self.guesses = tf.constant(guesses)

    def call(self, inputs):
        distance = tf.reduce_sum((inputs[:, None] - self.states) ** 2, axis=-1)
        return tf.gather(self.guesses, tf.argmin(distance, axis=1))


@dataclasses.dataclass
class Lesson:
    """What a synthesiser was taught at one boundary."""

    state: np.ndarray
    target: np.ndarray
    rows: np.ndarray


@contextlib.contextmanager
def lessons(monkeypatch):
    """Collects what synthesisers are taught, in place of learning it."""
    found = []

    def learn(self, reading, memory, target, rows, ahead):
        arrays = (reading["state"], target, rows)
        counted = rows if ahead is None else rows | ahead[-1]
        if np.any(counted):
            found.append(Lesson(*(array.numpy() for array in arrays)))

    with monkeypatch.context() as patch:
        patch.setattr(Synthesis, "learn", learn)
        yield found


def make(method, network=None, rate=0.0, stateful=False, **options):
    """A model under a method, which stands still unless given a rate."""
    model = ksg.SequenceModel.from_model(
        network or zoo.network("lstm"), stateful=stateful
    )
    options.setdefault("jit_compile", False)
    options.setdefault("loss", "mse")
    model.compile(keras.optimizers.SGD(rate), method=method, **options)
    return model


def taught(monkeypatch, method, network, x, y, weight=None, **options):
    """The lessons of one window, parameters standing still."""
    model = make(method, network, run_eagerly=True, **options)
    with lessons(monkeypatch) as found:
        model.fit(
            x, y, zoo.BATCH, sample_weight=weight, shuffle=False, verbose=0
        )
    return found


def oracle(monkeypatch, network, x, y, length, weight=None):
    """A synthesiser that guesses right on one window, and what it knows.

    Its `taught` is what one that guesses nothing was taught there.
    """
    method = ksg.methods.SyntheticGradients(length, Zero())
    found = taught(monkeypatch, method, network, x, y, weight)
    states = [lesson.state for lesson in found]
    model = make(method, network, run_eagerly=True)
    true = ksg.diagnostics.boundary_gradients(model, x, y, weight).true
    knowing = Oracle(np.concatenate(states), np.concatenate(true))
    knowing.taught = [lesson.target for lesson in found]
    return knowing, true
