"""The plain recurrence, for each activation, keeps what scans promise."""

import functools

import keras
import pytest
import tensorflow as tf

from keras_seqgrad.ops.simple_rnn import simple_rnn
from tests.ops.promises import ScanPromises
from tests.ops.reference import (
    Case,
    assert_same,
    evaluate,
    loop,
    make_links,
    make_problem,
)


def case_of(activation):
    activate = keras.activations.get(activation)

    def step(x, state, weights):
        kernel, recurrent_kernel, bias = weights
        return [activate(x @ kernel + state[0] @ recurrent_kernel + bias)]

    scan = functools.partial(simple_rnn, activation=activation)
    return Case(scan, step, states=1, blocks=1)


class TestTanh(ScanPromises):
    case = case_of("tanh")
    layer = keras.layers.SimpleRNN


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "linear"])
def test_other_activations_equal_the_plain_loop(activation):
    case = case_of(activation)
    problem = make_problem(case)
    links = make_links() | {"reset_state": problem.reset_state}
    assert_same(
        evaluate(case.scan, problem, **links),
        evaluate(functools.partial(loop, case), problem, **links),
    )


def test_unknown_activation_is_refused():
    problem = make_problem(case_of("tanh"), dtype=tf.float64)
    with pytest.raises(
        ValueError,
        match=r"`activation` must be one of .*Received: activation='gelu'",
    ):
        simple_rnn(
            problem.inputs,
            problem.state,
            *problem.weights,
            activation="gelu",
        )
