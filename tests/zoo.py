"""Small models and data that several test files use."""

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.state import beside

STEPS, BATCH, FEATURES = 7, 3, 2


@keras.saving.register_keras_serializable("tests")
class PlainCell(keras.layers.Layer):
    """A user's own cell: a leaky unit with one state tensor."""

    def __init__(self, units=3, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), name="w")
        self.recurrent = self.add_weight(
            shape=(self.units, self.units), name="u"
        )

    def call(self, inputs, states, training=False):
        new = 0.7 * states[0] + keras.ops.tanh(
            keras.ops.matmul(inputs, self.kernel)
            + keras.ops.matmul(states[0], self.recurrent)
        )
        return 2.0 * new, [new]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("tests")
class Counting(keras.layers.Layer):
    """Passes on what it is given, and counts its calls; of a graph, traces."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = 0

    def call(self, inputs):
        self.calls += 1
        return inputs


def recurrent(kind, **options):
    """A recurrent layer of three units."""
    layers = keras.layers
    options.setdefault("return_sequences", True)
    return {
        "simple_rnn": lambda: layers.SimpleRNN(3, **options),
        "gru": lambda: layers.GRU(3, **options),
        "gru_before": lambda: layers.GRU(3, reset_after=False, **options),
        "lstm": lambda: layers.LSTM(3, **options),
        "stacked": lambda: layers.RNN(
            [layers.LSTMCell(3), layers.GRUCell(2)], **options
        ),
        "own": lambda: layers.RNN(PlainCell(), **options),
    }[kind]()


KINDS = ["simple_rnn", "gru", "gru_before", "lstm", "stacked", "own"]


def network(kind="lstm", layers=1, steps=None, per_sequence=False, **options):
    """Recurrent layers and a readout of two numbers, weights seeded."""
    keras.utils.set_random_seed(1)
    stack = [keras.Input((steps, FEATURES))]
    for place in range(layers):
        last = place == layers - 1
        stack.append(
            recurrent(
                kind, return_sequences=not (last and per_sequence), **options
            )
        )
    return keras.Sequential([*stack, keras.layers.Dense(2)])


def data(steps=STEPS, per_sequence=False, seed=0):
    """(x, y) of the shapes `network` takes."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(BATCH, steps, FEATURES)).astype("float32")
    shape = (BATCH, 2) if per_sequence else (BATCH, steps, 2)
    return x, generator.normal(size=shape).astype("float32")


def generated(batches, *shapes):
    """A dataset of batches of which TensorFlow knows these shapes alone."""
    dataset = tf.data.Dataset.from_generator(
        lambda: iter(batches),
        output_signature=tuple(tf.TensorSpec(shape) for shape in shapes),
    )
    options = tf.data.Options()
    # Its thread may end after the test, and the generator with the test.
    options.autotune.enabled = False
    return dataset.with_options(options)


def everything(model):
    """Variables of a model, and of what it keeps beside its weights."""
    return [*model.variables, *beside.variables(model)]


def repeated(times, *arrays):
    """A batch many times over: an epoch of many updates takes less time than
    as many epochs, and `fit` must not shuffle it."""
    return [np.concatenate([array] * times) for array in arrays]


def keras_gradients(model, x, y, loss, sample_weight=None):
    """The gradient of a stock Keras model by its own tape."""
    with tf.GradientTape() as tape:
        value = loss(y, model(x, training=True), sample_weight)
        value += sum(model.losses)
    gradients = tape.gradient(value, model.trainable_variables)
    return value, [tf.convert_to_tensor(g) for g in gradients]


def assert_same(gradients, expected, tolerance=2e-5):
    """Lists every gradient that differs, not the first alone."""
    wrong = []
    for place, (a, b) in enumerate(zip(gradients, expected, strict=True)):
        a, b = np.asarray(a), np.asarray(b)
        scale = max(1e-3, np.abs(b).max())
        error = np.abs(a - b).max() / scale
        if not error <= tolerance:
            wrong.append(f"{place}: relative error {error:.1e}")
    assert not wrong, wrong


def numbers(logs):
    """Logs as floats; older versions of Keras give arrays for a batch."""
    return {name: float(value) for name, value in logs.items()}


def differ(first, second):
    """Whether any pair of gradients differs clearly."""
    return any(
        np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-3
        for a, b in zip(first, second, strict=True)
    )
