"""A synthesiser while it learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad import synthesizers
from keras_seqgrad.methods import SyntheticGradients
from keras_seqgrad.methods.synthetic_gradients import synthesis
from keras_seqgrad.state import vector
from tests import zoo
from tests.methods.synthetic_gradients.synthesizing import make


def learner(network, optimizer="sgd", auxiliary=False):
    optimizer = keras.optimizers.get(optimizer)
    return synthesis.Synthesis(network, 3, optimizer, False, auxiliary)


def test_joined_and_split_again():
    leaves = [tf.ones((2, 3)), tf.fill((2, 2, 2), tf.constant(2.0, "float16"))]
    joined = vector.join(leaves)
    assert joined.dtype == "float32"
    expected = [[1.0] * 3 + [2.0] * 4] * 2
    np.testing.assert_array_equal(joined, expected)
    for made, leaf in zip(vector.split(joined, leaves), leaves, strict=True):
        assert made.dtype == leaf.dtype
        np.testing.assert_array_equal(made, leaf)


def test_one_step_by_hand():
    network = synthesizers.linear(3)
    network.set_weights([np.eye(3), np.zeros(3)])
    learning = learner(network, keras.optimizers.SGD(0.6))
    state = tf.constant([[1.0, 2.0, 3.0], [9.0, 9.0, 9.0]])
    target = tf.constant([[0.0, 2.0, 5.0], [0.0, 0.0, 0.0]])
    rows = tf.constant([True, False])
    learning.learn({"state": state}, [], target, rows, None)
    # The mean over three units of one row; errors 1, 0 and -2.
    assert float(learning.loss_tracker.result()) == pytest.approx(5 / 3)
    ratio = np.sqrt(14.0) / np.sqrt(29.0)
    assert float(learning.ratio_tracker.result()) == pytest.approx(ratio)
    weights, bias = network.get_weights()
    slope = 0.6 * 2 / 3 * np.array([1.0, 0.0, -2.0])
    np.testing.assert_allclose(bias, -slope, atol=1e-6)
    expected = np.eye(3) - np.outer([1.0, 2.0, 3.0], slope)
    np.testing.assert_allclose(weights, expected, atol=1e-6)


def test_an_overflow_teaches_nothing():
    network = synthesizers.linear(3)
    network.set_weights([np.eye(3), np.ones(3)])
    learning = learner(network)
    target = tf.constant([[np.inf, 0.0, 0.0], [0.0, np.nan, 0.0]])
    rows = tf.constant([True, True])
    learning.learn({"state": tf.ones((2, 3))}, [], target, rows, None)
    np.testing.assert_array_equal(network.get_weights()[0], np.eye(3))
    assert float(learning.loss_tracker.result()) == 0.0


@pytest.mark.parametrize("jit", [False, True])
def test_where_nobody_counts_nothing_moves(jit):
    network = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(3, kernel_regularizer="l2"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5, seed=1),
        ]
    )
    learning = learner(network, keras.optimizers.Adam(0.1), auxiliary=True)
    ahead = tf.ones((1, 3)), tf.ones((1, 3))

    @tf.function(jit_compile=jit)
    def learn(row, row_ahead):
        state, target = tf.ones((1, 3)), tf.zeros((1, 3))
        lesson = {"state": state}, [], target, row, (*ahead, row_ahead)
        learning.learn(*lesson)

    somebody, nobody = tf.constant([True]), tf.constant([False])
    learn(somebody, somebody)  # Adam now has momentum
    before = [variable.numpy() for variable in learning.moving]
    learn(nobody, nobody)
    for variable, value in zip(learning.moving, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    for rows in ((somebody, nobody), (nobody, somebody)):
        before = [variable.numpy() for variable in learning.learned]
        learn(*rows)
        after = [variable.numpy() for variable in learning.learned]
        assert zoo.differ(before, after)


def test_regularisers_of_the_synthesiser_are_its_own():
    network = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(3, kernel_regularizer="l2")]
    )
    before = network.get_weights()[0]
    learning = learner(network, keras.optimizers.SGD(1.0))
    state = tf.ones((1, 3))
    right = network(state)
    learning.learn({"state": state}, [], right, tf.constant([True]), None)
    after = network.get_weights()[0]
    np.testing.assert_allclose(after, 0.98 * before, rtol=1e-5)
    x, y = zoo.data()
    plain = make(SyntheticGradients(3, "linear"), zoo.network("gru"))
    regular = make(SyntheticGradients(3, network), zoo.network("gru"))
    options = {"verbose": 0, "return_dict": True}
    assert plain.evaluate(x, y, **options) == regular.evaluate(x, y, **options)


def test_the_second_head_learns_beside():
    learning = learner(synthesizers.linear(3), auxiliary=True)
    assert len(learning.learned) == 4
    ahead = tf.ones((2, 3)), tf.ones((2, 3)), tf.constant([True, True])
    nobody = tf.constant([False, False])
    learning.learn(
        {"state": tf.ones((2, 3))}, [], tf.ones((2, 3)), nobody, ahead
    )
    assert np.all(learning.head.get_weights()[0] > 0)
    assert not np.any(learning.network.get_weights()[0])


@pytest.mark.slow
def test_its_learning_rate_follows_the_models():
    x, y = zoo.data()
    model = make(SyntheticGradients(3), zoo.network("gru"), rate=0.1)
    model.fit(x, y, verbose=0)
    own = model.method_state.parts["synthesis"].optimizer
    assert isinstance(own, keras.optimizers.SGD)
    assert float(own.learning_rate) == pytest.approx(0.01)
    model.optimizer.learning_rate = 0.01
    model.fit(x, y, verbose=0)
    assert float(own.learning_rate) == pytest.approx(0.001)
    method = SyntheticGradients(3, synthesizer_optimizer="adam")
    model = make(method, zoo.network("gru"), rate=0.1)
    model.fit(x, y, verbose=0)
    own = model.method_state.parts["synthesis"].optimizer
    assert isinstance(own, keras.optimizers.Adam)
    assert float(own.learning_rate) == pytest.approx(0.001)


def test_its_variables_are_not_the_models_to_train():
    model = make(SyntheticGradients(3), zoo.network("gru"))
    own = model.method_state.parts["synthesis"].learned
    assert len(own) == 4
    assert len(model.trainable_variables) == 5
    assert not {id(v) for v in own} & {id(v) for v in model.variables}
    kept = {id(v) for v in model.method_state.variables}
    assert {id(v) for v in own} <= kept


@pytest.mark.parametrize(
    "network, text",
    [
        (synthesizers.linear(4), r"state has 3 units.*\(None, 4\)"),
        (
            keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]),
            r"must map \(None, 3\) to \(None, 3\)\. Received .*\(None, 2\)",
        ),
        (
            keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(3)]),
            r"must map \(None, None, 3\)",
        ),
    ],
    ids=["input", "output", "last of a sequence"],
)
def test_refuses_a_network_that_does_not_fit(network, text):
    with pytest.raises(ValueError, match=text):
        make(SyntheticGradients(3, network), zoo.network("gru"))


def test_refuses_to_read_what_is_not_there():
    inputs = {name: keras.Input((3,), name=name) for name in ("state", "label")}
    network = keras.Model(inputs, inputs["state"] + inputs["label"])
    with pytest.raises(ValueError, match="Received the names: .'label', 'st"):
        make(SyntheticGradients(3, network), zoo.network("gru"))
