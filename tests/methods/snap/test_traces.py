"""The traces of a segment against traces step by step, and their definition."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.methods.snap import memory, traces, visits
from keras_seqgrad.methods.snap.cells import rule_of

pytestmark = pytest.mark.usefixtures("float64")
UNITS, STEPS = 3, 5
CELLS = {
    "simple_rnn": keras.layers.SimpleRNNCell,
    "gru": keras.layers.GRUCell,
    "lstm": keras.layers.LSTMCell,
}


def visit(cell, x, state, mask=None, reset=None, training=False):
    """What is recorded of a cell's run, and the state after it."""
    recorder = visits.Recorder()
    _, state = recorder(
        cell,
        tf.constant(x),
        state,
        training=training,
        mask=mask,
        reset=reset,
        reset_state=None,
        gates=None,
        previous_output=None,
    )
    [found] = recorder.visits.values()
    return found, list(state)


def start(cell, rows, dtype="float64"):
    """A state and traces that are not 0, drawn."""
    draw = np.random.default_rng(3).normal
    shape = cell.kernel.shape[:1]
    specs = memory.specs_of(cell, shape, cell.trainable_variables)
    traced = tf.nest.map_structure(
        lambda spec: tf.constant(draw(size=(rows, *spec.shape)), dtype), specs
    )
    sizes = keras.tree.flatten(cell.state_size)
    state = [tf.constant(draw(size=(rows, UNITS)), dtype) for _ in sizes]
    return state, traced


@pytest.mark.parametrize("kind", CELLS)
def test_one_product_equals_step_by_step(kind):
    keras.utils.set_random_seed(1)
    cell = CELLS[kind](UNITS)
    cell.build((None, 2))
    draw = np.random.default_rng(0)
    x = draw.normal(size=(4, STEPS, 2))
    mask = draw.random((4, STEPS)) < 0.7
    reset = draw.random((4, STEPS)) < 0.2
    assert mask.any() and reset.any() and not mask.all()
    state, traced = start(cell, 4)
    whole, _ = visit(cell, x, state, mask, reset)
    found = traces.advance(whole, traced, True)
    for t in range(STEPS):
        piece = slice(t, t + 1)
        one, state = visit(
            cell, x[:, piece], state, mask[:, piece], reset[:, piece]
        )
        traced = traces.advance(one, traced, True)
    for a, b in zip(*map(tf.nest.flatten, (found, traced)), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-13)


def test_traces_are_the_whole_influence_masked():
    """J = mask(D J + I), D and I by automatic differentiation of the cell."""
    keras.utils.set_random_seed(1)
    cell = keras.layers.LSTMCell(2)
    cell.build((None, 2))
    x = np.random.default_rng(0).normal(size=(1, 4, 2))
    variables = cell.trainable_variables
    size = sum(int(np.prod(v.shape)) for v in variables)
    unit = np.concatenate(
        [np.broadcast_to(np.arange(8) % 2, v.shape).ravel() for v in variables]
    )
    mask = np.tile(np.arange(2), 2)[:, None] == unit
    state = [tf.zeros((1, 2), "float64")] * 2
    influence, first = np.zeros((4, size)), state
    for t in range(4):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(state)
            end = tf.concat(cell(x[:, t], state)[1], axis=1)[0]
        by_state = tape.jacobian(end, state, experimental_use_pfor=False)
        by_weight = tape.jacobian(end, variables, experimental_use_pfor=False)
        d = np.concatenate([j[:, 0] for j in by_state], axis=1)
        i = np.concatenate([np.reshape(j, (4, -1)) for j in by_weight], axis=1)
        influence = mask * (d @ influence + i)
        state = [end[None, :2], end[None, 2:]]
    _, traced = start(cell, 1)
    nothing = tf.nest.map_structure(tf.zeros_like, traced)
    found = traces.advance(visit(cell, x, first)[0], nothing, True)
    [row] = found
    for s in range(2):
        ours = np.concatenate([np.ravel(summand[s]) for summand in row])
        theirs = influence[2 * s : 2 * s + 2].sum(axis=0)
        np.testing.assert_allclose(ours, theirs, atol=1e-14)


@pytest.mark.parametrize("kind", [keras.layers.GRUCell, ksg.layers.MinGRUCell])
def test_dropped_inputs_are_what_the_traces_see(kind):
    keras.utils.set_random_seed(1)
    cell = kind(UNITS, dropout=0.5)
    cell.build((None, 8))
    state, _ = start(cell, 2)
    seen, last = visit(cell, np.ones((2, 3, 8)), state, training=True)
    assert set(np.unique(seen.inputs)) == {0.0, 2.0}
    again = np.swapaxes(seen.inputs, 0, 1)
    _, expected = visit(cell, again, state)
    np.testing.assert_array_equal(last[0], expected[0])


def test_frozen_weights_have_no_trace():
    cell = keras.layers.LSTMCell(UNITS)
    cell.build((None, 2))
    specs = memory.specs_of(cell, (2,), [cell.recurrent_kernel])
    assert [len(each) for each in specs[0]] == [0, 2, 0]
    assert len(rule_of(cell)[0][0]) == 3
