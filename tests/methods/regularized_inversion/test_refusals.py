"""What RegularizedInversion refuses, and what it says."""

import keras
import pytest
import tensorflow as tf

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import RegularizedInversion
from tests import zoo

L = keras.layers


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"target_rate": 0, "regularization": 1}, "above 0. Received: target"),
        ({"target_rate": 1}, "`regularization` must be a number above 0"),
        ({"target_rate": 1, "regularization": -1}, "Received: regularization"),
        (
            {"target_rate": 1, "regularization": 1, "propagation": "exact"},
            r"one of \('linearized', .*'learned'\). Received: propagation",
        ),
        (
            {"target_rate": 1, "regularization": 1, "propagation": "learned"},
            "Set regularization=None. Received: regularization=1",
        ),
        (
            {"target_rate": 1, "regularization": 1, "margin": 0.5},
            "above 0 and below 0.5. Received: margin=0.5",
        ),
        (
            {"target_rate": 1, "propagation": "learned", "noise": -1},
            "`noise` must be a number of 0 or more. Received: noise=-1",
        ),
    ],
)
def test_refused_arguments(arguments, text):
    with pytest.raises(ValueError, match=text):
        RegularizedInversion(**arguments)


@pytest.mark.parametrize(
    "layer, propagation, text",
    [
        (lambda: zoo.recurrent("lstm"), "linearized", "has two states"),
        (lambda: zoo.recurrent("own"), "learned", r"\(PlainCell\) has no reg"),
        (lambda: zoo.recurrent("stacked"), "linearized", "StackedRNNCells"),
        (
            lambda: L.SimpleRNN(3, activation="elu"),
            "linearized",
            "Received: activation='elu'",
        ),
        (
            lambda: L.GRU(3, activation="relu"),
            "linearized",
            "Received: activation='relu'",
        ),
        (
            lambda: L.GRU(3, recurrent_activation="tanh"),
            "linearized",
            "activation='tanh', recurrent_activation='tanh'",
        ),
        (lambda: L.GRU(3), "difference", r"\('linearized', 'learned'\)"),
        (
            lambda: L.SimpleRNN(3, recurrent_dropout=0.5),
            "linearized",
            "has recurrent_dropout=0.5",
        ),
        (lambda: L.GRU(3, dropout=0.5), "linearized", "has dropout=0.5"),
        (lambda: L.SimpleRNN(3, dropout=0.5), "none", "has dropout=0.5"),
    ],
)
def test_refused_layers(layer, propagation, text):
    network = keras.Sequential([keras.Input((None, 2)), layer()])
    model = SequenceModel.from_model(network)
    regularization = None if propagation == "learned" else 1.0
    method = RegularizedInversion(0.1, regularization, propagation)
    with pytest.raises(ValueError, match=text):
        model.compile("sgd", "mse", method=method)


def test_a_subclass_of_the_users_own_is_refused():
    class Own(SequenceModel):
        def initial_state(self, batch_size):
            return [tf.zeros((batch_size, 1))]

        def call_segment(self, inputs, state, training=False):
            return inputs, state

    with pytest.raises(ValueError, match="received a subclass with its own"):
        Own().compile("sgd", "mse", method="regularized_inversion")
