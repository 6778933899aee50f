"""Room for the rows of whatever feeds a model that carries its state."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo
from tests.zoo import BATCH

L = keras.layers
KIND = "simple_rnn"
TOTAL, WINDOW = 6, 3
FIT = {"batch_size": BATCH, "shuffle": False, "verbose": 0}


def windows(array):
    """(batch, steps, ...) as windows one after another, along the batch."""
    starts = range(0, array.shape[1], WINDOW)
    return np.concatenate([array[:, at : at + WINDOW] for at in starts])


def long_data():
    """Four windows of each row."""
    return map(windows, zoo.data(2 * TOTAL))


def model_of(network=None, **options):
    network = network or zoo.network(KIND)
    model = ksg.SequenceModel.from_model(network, stateful=True)
    options.setdefault("jit_compile", False)
    model.compile("sgd", "mse", **options)
    return model


def stock(rows=BATCH):
    """A stateful network of Keras' own, with the weights of `zoo.network`."""
    network = keras.Sequential(
        [
            keras.Input(batch_shape=(rows, None, 2)),
            L.SimpleRNN(3, return_sequences=True, stateful=True),
            L.Dense(2),
        ]
    )
    network.set_weights(zoo.network(KIND).get_weights())
    network.compile("sgd", "mse", jit_compile=False)
    return network


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, size=BATCH):
        super().__init__()
        self.data, self.size = (x, y), size

    def __len__(self):
        return -(-len(self.data[0]) // self.size)

    def __getitem__(self, index):
        rows = slice(self.size * index, self.size * (index + 1))
        return tuple(part[rows] for part in self.data)


def generator(x, y):
    yield from map(Batches(x, y).__getitem__, range(len(x) // BATCH))


def dataset(x, y):
    """One that does not tell the size of its batches."""
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)


def shuffled(x, y):
    """Windows in an order that every pass over it changes."""
    return dataset(x, y).shuffle(4, seed=3)


SOURCES = {
    "PyDataset": Batches,
    "generator": generator,
    "dataset": dataset,
    "shuffled": shuffled,
}


@functools.cache
def stock_training(kind):
    """Losses and weights of Keras' own stateful layers."""
    network = stock()
    data = SOURCES[kind](*long_data())
    history = network.fit(data, shuffle=False, verbose=0).history
    return history["loss"], network.get_weights()


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("batch_shape", [False, True])
def test_training_is_that_of_stateful_layers(kind, batch_shape):
    x, y = long_data()
    wanted, weights = stock_training(kind)
    network = zoo.network(KIND)
    if batch_shape:
        shape = keras.Input(batch_shape=(BATCH, None, 2))
        network = keras.Sequential([shape, *network.layers])
    model = model_of(network)
    history = model.fit(SOURCES[kind](x, y), shuffle=False, verbose=0)
    assert history.history["loss"] == pytest.approx(wanted, rel=1e-5)
    zoo.assert_same(model.get_weights(), weights)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PyDataset", "generator", "dataset"])
def test_evaluation_and_validation(kind):
    x, y = long_data()
    network = stock()
    wanted = network.evaluate(dataset(x, y), verbose=0)
    model = model_of()
    make = SOURCES[kind]
    found = model.evaluate(make(x, y), verbose=0)
    assert found == pytest.approx(wanted, rel=1e-5)
    model.optimizer.learning_rate = 0.0
    more = {"epochs": 2, "validation_data": make(x, y)}
    if kind == "generator":  # which is at its end after an epoch
        more["epochs"] = 1
    history = model.fit(x[:3], y[:3], **FIT, **more).history
    assert history["val_loss"] == pytest.approx(
        more["epochs"] * [wanted], rel=1e-5
    )


def test_a_split_counts_its_own_rows():
    x, y = long_data()
    model = model_of()
    model.optimizer.learning_rate = 0.0
    history = model.fit(x[:9], y[:9], **FIT, validation_split=1 / 3).history
    expected = model.evaluate(x[6:9], y[6:9], BATCH, verbose=0)
    assert history["val_loss"] == pytest.approx([expected], rel=1e-6)
    expected = model.evaluate(x[:6], y[:6], BATCH, verbose=0)
    assert history["loss"] == pytest.approx([expected], rel=1e-5)


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_a_smaller_batch_is_refused_and_loses_nothing(steps_per_execution):
    """What was trained before it stays, and so does the state."""
    x, y = long_data()
    model = model_of(steps_per_execution=steps_per_execution)
    with pytest.raises(ValueError, match="Expected 3, received 2"):
        model.fit(dataset(x[:8], y[:8]), verbose=0)
    expected = model_of()
    for at in (0, 3):
        expected.train_on_batch(x[at : at + 3], y[at : at + 3])
    zoo.assert_same(model.get_weights(), expected.get_weights(), 1e-6)
    rest = x[6:9], y[6:9]
    assert model.train_on_batch(*rest) == expected.train_on_batch(*rest)


def test_predictions_of_another_number_of_rows_start_anew():
    """After a run that is over, after a reset, and back."""
    network = zoo.network(KIND)
    model = model_of(network)
    x, _ = zoo.data()
    whole = network(x).numpy()
    for rows in (3, 1, 2, 3):
        found = model.predict(x[:rows], rows, verbose=0)
        np.testing.assert_allclose(found, whole[:rows], atol=1e-6)
    # One row, step by step, after the three.
    steps = [model.predict_on_batch(x[:1, [at]]) for at in range(zoo.STEPS)]
    np.testing.assert_allclose(np.concatenate(steps, 1), whole[:1], atol=1e-6)
    with pytest.raises(ValueError, match="Expected 1, received 2"):
        model.predict_on_batch(x[:2])
    model.reset_state()
    found = model.predict_on_batch(x[:2])
    np.testing.assert_allclose(found, whole[:2], atol=1e-6)


def test_a_refused_batch_leaves_the_state_as_it_was():
    network = zoo.network(KIND)
    model = model_of(network)
    x, _ = zoo.data(TOTAL)
    model.predict_on_batch(x[:, :WINDOW])
    with pytest.raises(ValueError, match=r"or call `reset_state\(\)`"):
        model.predict_on_batch(x[:2, WINDOW:])
    found = model.predict_on_batch(x[:, WINDOW:])
    np.testing.assert_allclose(found, network(x)[:, WINDOW:], atol=1e-6)


def test_batches_of_two_sizes_in_one_execution_are_refused():
    model = model_of(steps_per_execution=2)
    x, _ = zoo.data()
    with pytest.raises(ValueError, match="Expected 2, received 1"):
        model.predict(tf.data.Dataset.from_tensor_slices(x).batch(2), verbose=0)


def test_training_on_batches_of_another_size_after_a_reset():
    x, y = zoo.data()
    model = model_of()
    first = model.train_on_batch(x, y)
    with pytest.raises(ValueError, match="Expected 3, received 2"):
        model.train_on_batch(x[:2], y[:2])
    model.reset_state()
    found = model.train_on_batch(x[:2], y[:2])
    plain = ksg.SequenceModel.from_model(zoo.network(KIND))
    plain.compile("sgd", "mse")
    assert plain.train_on_batch(x, y) == pytest.approx(first, rel=1e-6)
    assert plain.train_on_batch(x[:2], y[:2]) == pytest.approx(found, rel=1e-6)
    zoo.assert_same(model.get_weights(), plain.get_weights())


def test_estimates_of_other_rows_need_a_reset():
    x, y = zoo.data()
    model = model_of()
    model.fit(x, y, **FIT)
    with pytest.raises(ValueError, match="Expected 3, received 2"):
        model.estimate_gradients(x[:2], y[:2])
    carried = model.carried["training"]
    model.reset_state()
    before = [v.numpy() for v in carried.rows]
    found, _ = model.estimate_gradients(x[:2], y[:2])
    expected = model.evaluate(x[:2], y[:2], verbose=0)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    for variable, value in zip(carried.rows, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize("kind", ["PyDataset", "arrays", "dataset", "split"])
def test_callbacks_know_the_rows_where_they_are_told(kind):
    x, y = long_data()
    network, more = zoo.network(KIND), FIT
    given = {"arrays": (x, y), "split": (x, y)}.get(kind)
    if kind == "PyDataset":
        shape = keras.Input(batch_shape=(BATCH, None, 2))
        network = keras.Sequential([shape, *network.layers])
        given = [Batches(x, y)]
        more = {"shuffle": False, "verbose": 0}
    elif kind == "dataset":
        given = [dataset(x, y).unbatch().batch(BATCH, drop_remainder=True)]
        more = {"verbose": 0}
    elif kind == "split":
        more = FIT | {"batch_size": 32, "validation_split": 0.75}
    model = model_of(network)
    told = []
    begin = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: told.append(
            model.carried["training"].batch_size
        )
    )
    model.fit(*given, **more, callbacks=[begin])
    assert told == [BATCH]


@pytest.mark.slow
def test_a_recurrent_synthesizer_has_as_many_rows():
    """Its state is carried beside the model's."""

    def make(size):
        return keras.Sequential(
            [keras.Input((None, size)), zoo.recurrent(KIND), L.Dense(size)]
        )

    x, y = map(windows, zoo.data(TOTAL))
    losses = []
    for before in (False, True):
        method = ksg.methods.SyntheticGradients(WINDOW, make)
        model = model_of(zoo.network(KIND), method=method)
        synthesis = model.method_state.parts["synthesis"]
        if before:
            for optimizer in model.optimizer, synthesis.optimizer:
                optimizer.learning_rate = 0.0
            model.fit(x[:1], y[:1], **FIT)
            for optimizer in model.optimizer, synthesis.optimizer:
                optimizer.learning_rate = 0.01
        losses.append(model.fit(x, y, **FIT).history)
        assert synthesis.memory.batch_size == BATCH
        assert np.all(synthesis.memory.rows[0].numpy())
    assert losses[0] == losses[1]


@pytest.mark.compiled
def test_every_number_of_rows_is_traced_once():
    traces = []

    class Counting(L.Layer):
        def call(self, inputs):
            traces.append(inputs.shape[0])
            return inputs

    network = zoo.network(KIND)
    network.add(Counting())
    model = model_of(network, jit_compile=False)
    x, y = long_data()

    def once():
        for rows in (1, 3):
            model.predict(x[:3], rows, verbose=0)
            model.fit(x[:6], y[:6], **(FIT | {"batch_size": rows}))
        model.fit(Batches(x, y), shuffle=False, verbose=0)
        return len(traces)

    weights = network.get_weights()
    assert once() == once()
    network.set_weights(weights)
    model.fit(x, y, **FIT)
    eager = model_of(zoo.network(KIND), run_eagerly=True)
    eager.fit(x, y, **FIT)
    zoo.assert_same(model.get_weights(), eager.get_weights())
