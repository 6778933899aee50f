"""The loop of Keras' own layer beside the scan of its cell."""

import keras
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.layers import cudnn
from keras_seqgrad.layers.scan import scan
from tests.cudnn import gpu
from tests.layers.common import (
    BATCH,
    FEATURES,
    STEPS,
    UNITS,
    assert_close,
    random,
)

KINDS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}


def made(kind, **options):
    options.setdefault("return_sequences", True)
    layer = KINDS[kind](UNITS, **options)
    layer.build((BATCH, STEPS, FEATURES))
    for place, variable in enumerate(layer.trainable_variables):
        variable.assign(random(*variable.shape, seed=place))
    return layer


def results(run, layer, training=False):
    """Outputs and state, and gradients by inputs, state and weights."""
    given = [random(BATCH, STEPS, FEATURES)]
    given += [random(*s.shape, seed=9) for s in layer.get_initial_state(BATCH)]
    variables = [v.value for v in layer.trainable_variables]
    with tf.GradientTape() as tape:
        tape.watch(given)
        outputs, state = run(given[0], given[1:], training)
        found = [outputs[:, -1], *state]
        if layer.return_sequences:
            found.append(outputs)
        loss = tf.add_n(
            [
                tf.reduce_sum(each * random(*each.shape, seed=place))
                for place, each in enumerate(found)
            ]
        )
    return found, tape.gradient(loss, given + variables)


def both(layer, training=False):
    """(by cuDNN, by the scan), from the same seeds of dropout."""

    def by_kernel(sequences, state, training):
        return cudnn.run(layer, sequences, state, training)

    def by_scan(sequences, state, training):
        return scan(layer.cell, sequences, state, training=training)

    drawn = [v.numpy() for v in layer.non_trainable_variables]
    with gpu() as calls:
        assert cudnn.refusal(layer) is None
        found = results(by_kernel, layer, training)
    assert len(calls) == 1
    after = [v.numpy() for v in layer.non_trainable_variables]
    for variable, value in zip(
        layer.non_trainable_variables, drawn, strict=True
    ):
        variable.assign(value)
    expected = results(by_scan, layer, training)
    assert_close([v.numpy() for v in layer.non_trainable_variables], after)
    return found, expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("return_sequences", [True, False])
def test_equals_the_scan(kind, return_sequences):
    layer = made(kind, return_sequences=return_sequences)
    assert_close(*both(layer))


@pytest.mark.parametrize("kind", KINDS)
def test_drops_inputs_as_the_scan_does(kind):
    layer = made(kind, dropout=0.5, seed=1)
    dropped, expected = both(layer, training=True)
    assert_close(dropped, expected)
    found, expected = both(layer)
    assert_close(found, expected)
    with pytest.raises(AssertionError):
        assert_close(dropped, found)


def test_of_float16():
    layer = made("lstm", dtype="mixed_float16")
    sequences, state = tf.ones((2, 3, FEATURES)), layer.get_initial_state(2)
    with gpu() as calls:
        outputs, end = cudnn.run(layer, sequences, state)
    assert calls and {t.dtype for t in [outputs, *end]} == {tf.float16}


@pytest.mark.parametrize("kind", KINDS)
def test_falls_to_the_loop_of_keras(kind):
    """Where there is no kernel after all, as on this machine."""
    layer = made(kind)
    sequences = random(BATCH, STEPS, FEATURES)
    state = layer.get_initial_state(BATCH)
    found = cudnn.run(layer, sequences, state)
    assert_close(found, scan(layer.cell, sequences, state))


@pytest.mark.parametrize(
    "layer, reason",
    [
        (keras.layers.LSTM(2), None),
        (keras.layers.GRU(2, dropout=0.5, activation=tf.tanh), None),
        (keras.layers.SimpleRNN(2), "cuDNN has no kernel for SimpleRNN"),
        (
            keras.layers.RNN(keras.layers.LSTMCell(2)),
            "cuDNN has no kernel for RNN",
        ),
        (keras.layers.LSTM(2, use_cudnn=False), "use_cudnn=False"),
        (
            keras.layers.LSTM(2, activation="relu"),
            "cuDNN needs activation='tanh'",
        ),
        (
            keras.layers.GRU(2, recurrent_activation="tanh"),
            "cuDNN needs recurrent_activation='sigmoid'",
        ),
        (keras.layers.LSTM(2, use_bias=False), "cuDNN needs use_bias=True"),
        (
            keras.layers.GRU(2, reset_after=False),
            "cuDNN needs reset_after=True",
        ),
        (
            keras.layers.LSTM(2, recurrent_dropout=0.1),
            "cuDNN needs recurrent_dropout=0",
        ),
        (
            keras.layers.LSTM(2, dropout=0.1, implementation=1),
            "cuDNN needs one mask of dropout",
        ),
        (
            keras.layers.LSTM(2, dtype="bfloat16"),
            "cuDNN needs a dtype of ('float16', 'float32', 'float64')",
        ),
    ],
)
def test_refusal(layer, reason):
    assert cudnn.refusal(layer) == (reason or "no GPU is visible")
    with gpu():
        assert cudnn.refusal(layer) == reason


def test_refuses_a_cell_of_the_users_own():
    class Cell(keras.layers.LSTMCell):
        pass

    layer = keras.layers.LSTM(2)
    layer.cell = Cell(2)
    with gpu():
        assert cudnn.refusal(layer) == "its cell is not that of Keras"


@pytest.mark.parametrize(
    "layer, scan, why",
    [
        (keras.layers.LSTM(2), "fast", "no GPU is visible"),
        (
            keras.layers.SimpleRNN(2),
            "fast",
            "cuDNN has no kernel for SimpleRNN",
        ),
        (
            keras.layers.RNN([keras.layers.LSTMCell(2)] * 2),
            "fast",
            "each of its cells has one",
        ),
        (
            keras.layers.RNN(
                [
                    keras.layers.LSTMCell(2, recurrent_dropout=0.5),
                    keras.layers.LSTMCell(2),
                ]
            ),
            "general",
            "dropout within the step",
        ),
        (
            keras.layers.LSTM(2, recurrent_dropout=0.5),
            "general",
            "dropout within the step",
        ),
        (
            keras.layers.GRU(2, activation="silu"),
            "general",
            "activations without a fast scan",
        ),
        (
            ksg.layers.MinGRU(2),
            "linear",
            "its recurrence is linear in the state",
        ),
    ],
)
def test_choice_on_a_cpu(layer, scan, why):
    assert cudnn.choose(layer) == (scan, why)


def test_choice_on_a_gpu():
    layer = keras.layers.LSTM(2)
    with gpu():
        chosen = cudnn.choose(layer)
        assert chosen == ("cudnn", "a GPU is visible, and XLA is not used")
        assert cudnn.choose(layer, "gates") == ("fast", "gates")
