"""Truncated BPTT against a plain Python reference on Keras' own tape."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import TruncatedBPTT
from tests import zoo

LOSS = keras.losses.MeanSquaredError()


def run(network, x, state):
    """Steps of a one-layer Keras network, and the state after them."""
    layer, readout = network.layers
    outputs, state = [], list(state)
    for step in range(x.shape[1]):
        output, state = layer.cell(x[:, step], state)
        outputs.append(readout(output))
    return tf.stack(outputs, axis=1) if outputs else None, state


def start(network):
    return network.layers[0].get_initial_state(zoo.BATCH)


def reach_gradient(network, x, y, end, length, stride):
    """Gradient of the loss of the steps before `end`, `length` back."""
    first = max(0, end - length)
    _, state = run(network, x[:, :first], start(network))
    counted = (end - 1) // stride * stride
    with tf.GradientTape() as tape:
        outputs, _ = run(network, x[:, first:end], state)
        loss = LOSS(y[:, counted:end], outputs[:, counted - first :])
    return loss, tape.gradient(loss, network.trainable_variables)


CASES = [(3, None), (2, None), (4, 2), (5, 2), (6, 3), (3, 1), (7, 2)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, length, stride",
    [
        *(("simple_rnn", *case) for case in CASES),
        ("own", 3, None),
        ("own", 5, 2),
    ],
)
def test_gradient_of_the_window(kind, length, stride):
    network = zoo.network(kind)
    x, y = zoo.data()
    model = SequenceModel.from_model(network)
    model.compile("sgd", LOSS, method=TruncatedBPTT(length, stride))
    loss, found = model.estimate_gradients(x, y)
    step = stride or length
    total, expected = 0.0, [0.0] * len(found)
    for begin in range(0, zoo.STEPS, step):
        end = min(begin + step, zoo.STEPS)
        share = (end - begin) / zoo.STEPS
        # Without a stride no gradient leaves the segment, short or not.
        reach = end - begin if stride is None else length
        part, gradients = reach_gradient(network, x, y, end, reach, step)
        total += share * part
        expected = [
            e + share * g for e, g in zip(expected, gradients, strict=True)
        ]
    assert float(loss) == pytest.approx(float(total), rel=1e-5)
    zoo.assert_same(found, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "length, stride, jit",
    [(3, None, False), (4, 2, False), (5, 2, False), (5, 2, True)],
)
def test_training_updates_after_every_stride(length, stride, jit):
    """The weights after one window, updates and all, against Python."""
    x, y = zoo.data()
    network = zoo.network("simple_rnn")
    optimizer = keras.optimizers.SGD(0.1)
    step = stride or length
    losses, state = [], start(network)
    states = {0: state}
    for begin in range(0, zoo.STEPS, step):
        end = min(begin + step, zoo.STEPS)
        if stride is None:
            with tf.GradientTape() as tape:
                outputs, state = run(network, x[:, begin:end], state)
                loss = LOSS(y[:, begin:end], outputs)
            gradients = tape.gradient(loss, network.trainable_variables)
        else:
            loss, gradients, states = overlapping(
                network, x, y, begin, end, length, step, states
            )
        optimizer.apply(gradients, network.trainable_variables)
        losses.append(float(loss) * (end - begin) / zoo.STEPS)
    expected = network.get_weights()

    network = zoo.network("simple_rnn")
    model = SequenceModel.from_model(network)
    model.compile(
        keras.optimizers.SGD(0.1),
        LOSS,
        method=TruncatedBPTT(length, stride),
        jit_compile=jit,
    )
    history = model.fit(x, y, batch_size=3, verbose=0)
    zoo.assert_same(network.get_weights(), expected)
    assert history.history["loss"][0] == pytest.approx(sum(losses), rel=1e-5)
    assert int(model.optimizer.iterations) == -(-zoo.STEPS // step)


def overlapping(network, x, y, begin, end, length, stride, states):
    """One update's loss and gradient.

    `states` are those before the strides, by step, each made by the weights of
    the update before the one that first starts there.
    """
    last_full = begin if end - begin == stride else begin - stride
    first = max(0, last_full + stride - -(-length // stride) * stride)
    cut = max(first, end - length)
    with tf.GradientTape() as tape:
        _, middle = run(network, x[:, first:cut], states[first])
        middle = [tf.stop_gradient(s) for s in middle]
        outputs, _ = run(network, x[:, cut:end], middle)
        loss = LOSS(y[:, begin:end], outputs[:, begin - cut :])
    gradients = tape.gradient(loss, network.trainable_variables)
    _, moved = run(network, x[:, first : first + stride], states[first])
    return loss, gradients, {**states, first + stride: moved}


@pytest.mark.compiled
def test_lengths_that_are_not_known_change_no_number():
    """Windows that end in a whole stride, a shorter one, and within one."""
    windows = [zoo.data(steps) for steps in (6, 5, 1, 2)]
    shape = zoo.BATCH, None, 2
    found = []
    for eagerly in (True, False):
        network = zoo.network("simple_rnn")
        model = SequenceModel.from_model(network)
        model.compile(
            keras.optimizers.SGD(0.1),
            LOSS,
            method=TruncatedBPTT(3, 2),
            run_eagerly=eagerly,
            jit_compile=False,
            steps_per_execution=1 if eagerly else 2,
        )
        model.fit(zoo.generated(windows, shape, shape), verbose=0)
        found.append(network.get_weights())
    zoo.assert_same(*found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", zoo.KINDS)
def test_length_of_the_window_is_bptt_and_less_is_not(kind):
    network = zoo.network(kind, layers=2 if kind == "lstm" else 1)
    x, y = zoo.data()
    _, exact = zoo.keras_gradients(network, x, y, LOSS)
    model = SequenceModel.from_model(network)
    others = [(20, None), (7, 3)] if kind == "lstm" else []
    for length, stride in [(7, None), *others]:
        model.compile("sgd", LOSS, method=TruncatedBPTT(length, stride))
        zoo.assert_same(model.estimate_gradients(x, y)[1], exact)
    model.compile("sgd", LOSS, method=TruncatedBPTT(3), run_eagerly=True)
    assert zoo.differ(model.estimate_gradients(x, y)[1], exact)


@pytest.mark.parametrize("steps", [7, 2])
def test_one_target_per_sequence_updates_once(steps):
    network = zoo.network("gru", per_sequence=True)
    x, y = zoo.data(steps, per_sequence=True)
    layer, readout = network.layers
    first = max(0, steps - 3)
    state = start(network)
    for step in range(first):
        _, state = layer.cell(x[:, step], state)
    with tf.GradientTape() as tape:
        for step in range(first, steps):
            output, state = layer.cell(x[:, step], state)
        loss = LOSS(y, readout(output))
    expected = tape.gradient(loss, network.trainable_variables)
    model = SequenceModel.from_model(network)
    model.compile("sgd", LOSS, method=TruncatedBPTT(3), metrics=["mse"])
    found_loss, found = model.estimate_gradients(x, y)
    assert float(found_loss) == pytest.approx(float(loss), rel=1e-5)
    zoo.assert_same(found, expected)
    before = network.get_weights()
    history = model.fit(x, y, batch_size=3, verbose=0)
    rate = 0.01
    zoo.assert_same(
        [b - a for b, a in zip(before, network.get_weights(), strict=True)],
        [rate * g.numpy() for g in expected],
        tolerance=1e-3,
    )
    assert int(model.optimizer.iterations) == 1
    assert history.history["mse"][0] == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.parametrize(
    "arguments, text",
    [
        ((0,), "`length` must be an integer of 1 or more"),
        ((5, 0), "`stride` must be an integer of 1 or more"),
        ((5, 6), "`stride` must not be above `length`"),
    ],
)
def test_refusals(arguments, text):
    with pytest.raises(ValueError, match=text):
        TruncatedBPTT(*arguments)


def test_masks_pass_through_segments():
    keras.utils.set_random_seed(5)
    network = keras.Sequential(
        [
            keras.Input((None, 2)),
            keras.layers.Masking(),
            keras.layers.GRU(3, return_sequences=True),
            keras.layers.Dense(2),
        ]
    )
    x, y = zoo.data()
    x[1, 4:] = 0.0
    model = SequenceModel.from_model(network)
    model.compile("sgd", LOSS, method=TruncatedBPTT(2))
    outputs = []
    state = network.layers[1].get_initial_state(3)
    for begin in range(0, 7, 2):
        piece = network.layers[0](x[:, begin : begin + 2])
        output = network.layers[1](piece, initial_state=state)
        state = [output[:, -1]]
        outputs.append(network.layers[2](output))
    square = np.mean((np.concatenate(outputs, 1) - y) ** 2, -1)
    valid = np.any(x != 0, -1)
    model.optimizer.learning_rate = 0.0
    history = model.fit(x, y, batch_size=3, verbose=0)
    found = history.history["loss"][0]
    assert found == pytest.approx(square[valid].mean(), rel=1e-5)
