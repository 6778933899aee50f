"""The blocks of a window, run as rows of one batch and one after another."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods.target_propagation.blocks import Blocks
from tests import zoo
from tests.network import networks


def both(model, x, y, length, weight=None, jit=False):
    """What `run` gives from the states of `run_in_order`, and those.

    Each is (outputs, states between blocks, last state), flattened.
    """

    def step(window, seed):
        blocks = Blocks(window, length)
        ordered = blocks.run_in_order()
        parallel = blocks.run(ordered[1])
        astray = blocks.run([leaf + 1.0 for leaf in ordered[1]])
        return [
            keras.tree.flatten(made) for made in (parallel, ordered, astray)
        ], blocks.crossed

    made, crossed = model.probe(step, x, y, weight, jit=jit)
    parallel, ordered, astray = made
    return parallel, ordered, astray, crossed.numpy()


def model_of(network, **options):
    model = SequenceModel.from_model(network, **options)
    model.compile("sgd", "mse", jit_compile=False)
    return model


def assert_parallel_equals_in_order(found, expected, astray):
    zoo.assert_same(found, expected, 1e-5)
    # The control: from other states the blocks come to elsewhere.
    assert zoo.differ(astray[:2], expected[:2])


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, layers, steps",
    [*((kind, 1, 7) for kind in zoo.KINDS), ("lstm", 2, 7), ("gru", 1, 6)],
)
def test_in_parallel_as_in_order(kind, layers, steps):
    """A shorter last block, and none."""
    length = 3
    x, y = zoo.data(steps)
    model = model_of(zoo.network(kind, layers=layers))
    parallel, ordered, astray, crossed = both(model, x, y, length)
    assert crossed.shape == (zoo.BATCH, (steps - 1) // length)
    assert crossed.all()
    assert parallel[1].shape[:2] == crossed.shape
    assert_parallel_equals_in_order(parallel, ordered, astray)
    np.testing.assert_allclose(ordered[0], model(x), atol=1e-6)
    # The first states between blocks are those after as many steps.
    begin = model.initial_state(zoo.BATCH)
    _, state = model.call_segment(x[:, :length], begin)
    state = keras.tree.flatten(state)
    first = [leaf[:, 0] for leaf in ordered[1 : 1 + len(state)]]
    zoo.assert_same(first, state)


@pytest.mark.parametrize("jit", [False, True])
def test_masks_resets_and_carried_state(jit):
    x, y = zoo.data(8)
    model = model_of(zoo.network("gru"), stateful=True)
    model.fit(x, y, batch_size=zoo.BATCH, shuffle=False, verbose=0)
    mask = np.ones((zoo.BATCH, 8), bool)
    mask[0, 2:5] = False
    mask[1, 3:] = False
    reset = np.zeros((zoo.BATCH, 8), bool)
    reset[2, 6] = reset[0, 1] = True
    given = {"inputs": x, "mask": mask, "reset": reset}
    parallel, ordered, astray, crossed = both(model, given, y, 3, jit=jit)
    assert_parallel_equals_in_order(parallel, ordered, astray)
    # Row 1 is over at step 3, row 2 begins anew at step 6.
    assert crossed.tolist() == [[True, True], [False, False], [True, False]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "static input",
        "state from an input",
        "dictionaries",
        "state as output",
        "masked own cell",
        "integer tokens",
        "ConvLSTM1D",
        "nested in Sequential",
    ],
)
def test_graphs_of_every_form(name):
    network = networks.NETWORKS[name]()
    x = networks.numbers(network)
    model = model_of(network)
    y = keras.tree.map_structure(np.zeros_like, network(x))
    parallel, ordered, astray, _ = both(model, x, y, 3)
    assert_parallel_equals_in_order(parallel, ordered, astray)


def test_a_learned_initial_state_is_the_first_block_s_alone():
    x, y = zoo.data(6)
    model = model_of(zoo.network("gru"), learn_initial_state=True)
    model.initial_state_weights[0].assign([0.5, -1.0, 1.5])
    parallel, ordered, astray, _ = both(model, x, y, 3)
    assert_parallel_equals_in_order(parallel, ordered, astray)
    np.testing.assert_allclose(ordered[0], model(x), atol=1e-6)


def test_a_subclass_runs_in_blocks():
    class Sums(SequenceModel):
        def initial_state(self, batch_size):
            return {"sum": tf.zeros((batch_size, zoo.FEATURES))}

        def call_segment(self, inputs, state, training=False):
            sums = tf.cumsum(inputs, axis=1) + state["sum"][:, None]
            return sums, {"sum": sums[:, -1]}

    x, y = zoo.data()
    model = Sums()
    model.compile("sgd", "mse", jit_compile=False)
    parallel, ordered, astray, _ = both(model, x, y, 3)
    assert_parallel_equals_in_order(parallel, ordered, astray)
    np.testing.assert_allclose(parallel[0], np.cumsum(x, axis=1), atol=1e-5)


def test_a_window_of_one_block_has_no_boundary():
    x, y = zoo.data()
    model = model_of(zoo.network("gru"))
    for length in (7, 20):
        parallel, _, _, crossed = both(model, x, y, length)
        assert crossed.shape == (zoo.BATCH, 0)
        np.testing.assert_allclose(parallel[0], model(x), atol=1e-6)


def test_losses_of_layers_are_refused():
    network = zoo.network("gru", activity_regularizer="l2")
    model = model_of(network)
    with pytest.raises(ValueError, match="losses that layers add themselves"):
        both(model, *zoo.data(), 3)
