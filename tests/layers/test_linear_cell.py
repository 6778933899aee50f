"""Linear cells: their formula, and their scan against the general one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.layers import scan as scans
from keras_seqgrad.layers.linear_cell import LinearCell
from tests.layers import linear
from tests.layers.problem import (
    BATCH,
    STEPS,
    Problem,
    assert_close,
    mask_from,
    random,
)

EXACT = 1e-10


@pytest.fixture(autouse=True)
def double_precision():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")


def problem_of(name, **options):
    """Its inputs have as many features as there are units."""
    return Problem(linear.cell(name, **options), (linear.UNITS,))


@pytest.mark.parametrize("name", linear.LAYERS)
def test_equals_the_formula_in_numpy(name):
    problem = problem_of(name)
    for weight in problem.cell.weights:
        if weight.path.endswith("bias"):
            weight.assign(random(*weight.shape, seed=7))
    expected = linear.outputs_of(problem.cell, problem.inputs.numpy())
    start = problem.layer.get_initial_state(BATCH)
    outputs, _ = scans.scan(problem.cell, problem.inputs, start)
    assert_close(outputs, expected, EXACT)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", linear.LAYERS)
def test_equals_keras_over_the_cell(name, masked):
    problem = problem_of(name)
    mask = mask_from(1) if masked else None
    expected = problem.gradients(problem.keras, mask=mask)
    assert_close(problem.gradients(problem.scan, mask=mask), expected, EXACT)


def general(cell, *given, **options):
    """The scan that runs the cell step by step, whatever the cell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scans, "is_linear", lambda cell: False)
        patch.setattr(
            scans, "state_is_output", lambda cell: cell.state_is_output
        )
        patch.setattr(scans, "_description", lambda *_: None)
        return scans.scan(cell, *given, **options)


@pytest.mark.parametrize("name", linear.LAYERS)
def test_keeps_the_contract_of_the_general_scan(name):
    """Masks, gates, resets and repeated outputs, all gradients."""
    problem = problem_of(name)
    links = {
        "mask": mask_from(0),
        "gates": random(BATCH, STEPS, seed=5),
        "reset": random(BATCH, STEPS, seed=6) > 0.5,
        "reset_state": [s + 1 for s in problem.state],
    }
    if not problem.cell.state_is_output:
        shape = (BATCH, problem.cell.output_size)
        links["previous_output"] = random(*shape, seed=8)

    def by_steps(**links):
        return general(problem.cell, problem.inputs, problem.state, **links)

    expected = problem.gradients(by_steps, **links)
    assert_close(problem.gradients(problem.scan, **links), expected, EXACT)


def test_a_gate_closes_every_way_back():
    """Three steps, one weight: the way of h and that of the input before."""
    cell = linear.cell("qrnn, f")
    problem = Problem(cell, (linear.UNITS,))

    def d_inputs(gates):
        with tf.GradientTape() as tape:
            tape.watch(problem.inputs)
            outputs, _ = problem.scan(gates=tf.constant(gates))
            last = tf.reduce_sum(outputs[:, 2])
        return tape.gradient(last, problem.inputs)

    open_ = d_inputs([1.0, 1.0, 1.0, 1.0])
    assert np.all(np.any(open_[:, :3] != 0, axis=-1))
    shut = d_inputs([1.0, 1.0, 0.0, 1.0])
    assert not np.any(shut[:, :2])
    assert_close(shut[:, 2], open_[:, 2], 0)


@pytest.mark.parametrize("name", ["lru", "rg_lru", "qrnn"])
def test_a_mask_is_a_shorter_sequence_a_reset_two(name):
    problem = problem_of(name)
    cell, inputs, start = problem.cell, problem.inputs, problem.state
    mask = tf.constant([[True, False, True, True]] * BATCH)
    spoiled = tf.where(mask[..., None], inputs, np.nan)
    outputs, end = scans.scan(cell, spoiled, start, mask=mask)
    kept = tf.boolean_mask(inputs, mask)
    kept = tf.reshape(kept, [BATCH, 3, -1])
    shorter, expected = scans.scan(cell, kept, start)
    assert_close(end, expected, 1e-12)
    assert_close(tf.gather(outputs, [0, 2, 3], axis=1), shorter, 1e-12)
    assert_close(outputs[:, 1], outputs[:, 0], 0)

    reset = tf.constant([[False, False, True, False]] * BATCH)
    zeros = problem.layer.get_initial_state(BATCH)
    outputs, end = scans.scan(cell, inputs, start, reset=reset)
    first, _ = scans.scan(cell, inputs[:, :2], start)
    second, expected = scans.scan(cell, inputs[:, 2:], zeros)
    assert_close(outputs, tf.concat([first, second], axis=1), 1e-12)
    assert_close(end, expected, 1e-12)


@pytest.mark.parametrize("name", ["lru", "min_gru", "rg_lru", "qrnn"])
def test_nothing_of_a_masked_step_reaches_a_gradient(name):
    problem = problem_of(name)
    mask = mask_from(1)
    expected = problem.gradients(problem.scan, mask=mask)
    problem.inputs = tf.where(mask[..., None], problem.inputs, np.nan)
    assert_close(problem.gradients(problem.scan, mask=mask), expected, 0)


@pytest.mark.parametrize("name", ["lru", "min_lstm, positive", "rg_lru"])
def test_finite_differences(name):
    problem = problem_of(name)
    _, gradients = problem.gradients(problem.scan)
    slopes = gradients[-len(problem.variables) :]

    def loss():
        results = keras.tree.flatten(problem.scan())
        return sum(tf.reduce_sum(r * random(*r.shape, seed=4)) for r in results)

    for variable, slope in zip(
        problem.cell.trainable_variables, slopes, strict=True
    ):
        direction = random(*variable.shape, seed=9)
        variable.assign_add(1e-6 * direction)
        above = loss()
        variable.assign_add(-2e-6 * direction)
        found = (above - loss()) / 2e-6
        variable.assign_add(1e-6 * direction)
        expected = tf.reduce_sum(slope * direction)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_dropout_is_one_mask_of_the_inputs():
    problem = problem_of("min_gru", dropout=0.5, seed=1)
    expected = problem.gradients(problem.keras, training=True)
    found = problem.gradients(problem.scan, training=True)
    assert_close(found, expected, EXACT)
    dropped = found[1][0] == 0
    assert np.any(dropped) and np.all(dropped == dropped[:, :1])
    without = problem.gradients(problem.scan, training=False)
    assert not np.allclose(found[0][0], without[0][0])


def test_a_cell_with_a_step_of_its_own_runs_step_by_step():
    class Own(type(linear.cell("min_gru"))):
        def call(self, inputs, states, training=False):
            output, state = super().call(inputs, states, training)
            return 2.0 * output, state

    plain, own = linear.cell("min_gru"), Own(linear.UNITS)
    assert scans.is_linear(plain) and scans.state_is_output(plain)
    assert not scans.is_linear(own) and not scans.state_is_output(own)
    plain.call = lambda *args, **kwargs: None
    assert not scans.is_linear(plain)
    problem = Problem(own, (linear.UNITS,))
    assert_close(problem.scan(), problem.keras(), EXACT)


def test_a_recurrence_must_be_written():
    cell = LinearCell(2)
    with pytest.raises(NotImplementedError):
        cell(tf.ones((1, 2)), [tf.ones((1, 2))])
