"""Lengths of targets where layers make another number of steps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests.methods.uncut import translated
from tests.window.test_agreement import check, compiled, spec

L = keras.layers


def halved(below):
    """A convolution with strides of 2, below a recurrent layer or above."""
    inputs = keras.Input((None, 2))
    half = L.Conv1D(3, 3, strides=2, padding="same")
    hidden = L.SimpleRNN(3, return_sequences=True)
    layers = (half, hidden) if below else (hidden, half)
    made = layers[1](layers[0](inputs))
    return keras.Model(inputs, L.Dense(2, name="out")(made))


@pytest.fixture(params=[False, True], ids=["head", "front"])
def model(request):
    found = compiled(halved(request.param), method=ksg.methods.BPTT(2))
    assert (found.network_uncut is not None) == request.param
    assert found.judged_whole
    return found


X = spec(12, 2)
TOLD = "has {} time steps, `output out` has 6. An output with a time axis has a"


@pytest.mark.parametrize("steps", [12, 5])
def test_others_are_refused(model, steps):
    with pytest.raises(ValueError, match="`y` " + TOLD.format(steps)):
        check(X, spec(steps, 2), model=model)
    with pytest.raises(ValueError, match="`sample_weight` " + TOLD.format(12)):
        check(X, spec(6, 2), spec(12), model=model)


def test_those_of_the_outputs_are_taken_and_so_is_one_for_all(model):
    for steps in 6, 1:
        assert check(X, spec(steps, 2), spec(6), model=model) == 12
    assert check(spec(None, 2), spec(5, 2), model=model) is None


def test_said_by_fit_before_anything_is_traced(model):
    x, y = np.zeros((2, 12, 2)), np.zeros((2, 12, 2))
    with pytest.raises(ValueError, match="`y` " + TOLD.format(12)):
        model.fit(x, y, verbose=0)
    assert model.fit(x, y[:, :6] + 1.0, verbose=0).history["loss"] == [1.0]


def test_of_a_decoder_the_length_is_its_own():
    model = compiled(translated(), method=ksg.methods.BPTT(2))
    x = [spec(7, dtype="int32"), spec(5, dtype="int32")]
    assert check(x, spec(5, 2), model=model) == 7
    with pytest.raises(ValueError, match="`y` has 7 time steps, `output den"):
        check(x, spec(7, 2), model=model)
    # Nothing is said where not even the axes of an input are known.
    x[1] = tf.TensorSpec(None, "int32")
    assert check(x, spec(7, 2), model=model) == 7


def test_a_loss_of_the_whole_sequence_has_targets_of_any_length():
    def of_all(y, outputs):
        mean = keras.ops.mean(outputs, axis=1, keepdims=True)
        return keras.ops.mean((y - mean) ** 2, axis=(1, 2))

    model = compiled(halved(True), loss=of_all)
    assert check(X, spec(3, 2), model=model) == 12


def test_lengths_that_the_layers_do_not_take_are_left_to_them():
    inputs = keras.Input((8, 2))
    hidden = L.Bidirectional(L.SimpleRNN(2, return_sequences=True))(inputs)
    again = L.Dense(3)(L.Reshape((8, 4))(hidden))
    made = L.SimpleRNN(2, return_sequences=True)(again)
    model = compiled(keras.Model(inputs, made))
    assert model.graph.shapes_made([(9, 2)]) == [(None, 8, 2)]
    with pytest.raises(ValueError, match="`y` has 9 time steps, `output sim"):
        check(spec(8, 2), spec(9, 2), model=model)
