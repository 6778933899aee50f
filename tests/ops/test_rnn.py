"""The general scan against a plain Python loop and finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.ops.rnn import rnn
from tests.ops.loop import (
    BATCH,
    FEATURES,
    STEPS,
    UNITS,
    Problem,
    assert_close,
    finite_difference,
    plain,
    random,
    scanned,
)


def flags(seed):
    return tf.constant(np.random.default_rng(seed).random((BATCH, STEPS)) > 0.4)


OPTIONS = {
    "nothing": {},
    "mask": {"mask": flags(1)},
    "gates of a step": {"gates": random(STEPS, seed=2)},
    "gates of a row": {"gates": random(BATCH, STEPS, seed=2)},
    "reset": {"reset": flags(3)},
    "all": {
        "mask": flags(1),
        "gates": random(BATCH, STEPS, seed=2),
        "reset": flags(3),
    },
}


@pytest.mark.parametrize(
    "name, mode",
    [(name, "eager") for name in OPTIONS]
    + [
        pytest.param(name, mode, marks=pytest.mark.compiled)
        for name, mode in [
            ("nothing", "jit"),
            ("all", "graph"),
            ("all", "loop"),
        ]
    ],
)
def test_equals_a_python_loop(name, mode):
    problem, options = Problem(), OPTIONS[name]
    expected = problem.gradients(plain, **options)

    def run():
        return problem.gradients(scanned, **options)

    def run_in_loop():
        zeros = tf.nest.map_structure(tf.zeros_like, expected)

        def body(i, total):
            return i + 1, tf.nest.map_structure(tf.add, total, run())

        return tf.while_loop(lambda i, _: i < 1, body, (0, zeros))[1]

    found = {
        "eager": run,
        "graph": tf.function(run),
        "jit": tf.function(run, jit_compile=True),
        "loop": tf.function(run_in_loop, jit_compile=True),
    }[mode]()
    assert_close(found, expected)


def test_the_comparison_sees_a_wrong_gate():
    problem = Problem()
    gates = random(STEPS, seed=2)
    expected = problem.gradients(plain, gates=gates)
    found = problem.gradients(scanned, gates=1.01 * gates)
    assert_close(found[0], expected[0])
    with pytest.raises(AssertionError):
        assert_close(found[1], expected[1], tolerance=1e-3)


def test_a_gate_of_zero_cuts():
    problem = Problem()
    gates = tf.constant([1.0, 1.0, 0.0, 1.0, 1.0])
    outputs = scanned(problem.step, *problem.tensors, gates=gates)[0]
    x, h = problem.tensors[:2]
    with tf.GradientTape() as tape:
        tape.watch([x, h])
        state = scanned(problem.step, *problem.tensors, gates=gates)[1]
    d_x, d_h = tape.gradient(state, [x, h])
    assert_close(outputs, plain(problem.step, *problem.tensors)[0])
    assert_close(d_h, tf.zeros_like(d_h))
    assert_close(d_x[:, :2], tf.zeros_like(d_x[:, :2]))
    assert np.all(np.abs(d_x[:, 2:]) > 0)


def test_a_gate_of_zero_cuts_an_infinite_gradient():
    def step(x, state):
        new = 1e200 * state[0] + x
        return new, [new]

    h = tf.zeros((1,), "float64")
    with tf.GradientTape() as tape:
        tape.watch(h)
        _, [last] = rnn(
            step,
            tf.zeros((1, 4), "float64"),
            [h],
            gates=tf.constant([1.0, 0.0, 1.0, 1.0]),
        )
    assert float(tape.gradient(last, h)[0]) == 0.0


@pytest.mark.parametrize("place", range(5))
def test_equals_finite_differences(place):
    problem = Problem()
    options = {"mask": flags(1), "reset": flags(3)}

    def loss(tensor):
        given = list(problem.tensors)
        given[place] = tensor
        outputs, state = scanned(problem.step, *given, **options)
        return tf.reduce_sum(outputs**2) + tf.reduce_sum(tf.sin(state))

    tensor = problem.tensors[place]
    direction = random(*tensor.shape, seed=7)
    with tf.GradientTape() as tape:
        tape.watch(tensor)
        value = loss(tensor)
    slope = tf.reduce_sum(tape.gradient(value, tensor) * direction)
    expected = finite_difference(loss, tensor, direction)
    np.testing.assert_allclose(slope, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("jit", [True, False])
def test_integer_inputs_and_variables_out_of_reach(jit):
    table = tf.Variable(random(7, UNITS))
    unused = tf.Variable(1.0)

    def step(inputs, state):
        token, scale = inputs["token"], inputs["scale"]
        # Read, but of no influence.
        tf.identity(unused)
        new = tf.tanh(tf.gather(table, token) + state[0])
        return {"twice": 2 * new, "token": token}, [new * scale[:, None]]

    tokens = tf.constant([[0, 1, 1, 6], [2, 2, 0, 1]])
    scales = random(2, 4)

    def run(scan):
        with tf.GradientTape() as tape:
            tape.watch(scales)
            outputs, [state] = scan(
                step,
                {"token": tokens, "scale": scales},
                [tf.zeros((2, UNITS), "float64")],
            )
            loss = tf.reduce_sum(outputs["twice"] ** 2) + tf.reduce_sum(state)
        d_table, d_scales, d_unused = tape.gradient(
            loss, [table, scales, unused], unconnected_gradients="zero"
        )
        return outputs, tf.convert_to_tensor(d_table), d_scales, d_unused

    def loop(step, inputs, state):
        outputs = []
        for t in range(4):
            now = {name: value[:, t] for name, value in inputs.items()}
            output, state = step(now, state)
            outputs.append(output)
        return tf.nest.map_structure(lambda *o: tf.stack(o, 1), *outputs), state

    found = tf.function(run, jit_compile=jit)(rnn)
    assert_close(found, run(loop))
    assert found[0]["token"].dtype == tokens.dtype


@pytest.mark.parametrize("worst", [np.nan, 1e300])
def test_a_masked_step_may_hold_anything(worst):
    """Numbers, and rows of a table that do not exist."""
    mask = tf.constant([[True, False, True], [False, False, False]])
    weight, table = tf.Variable(random(2, UNITS)), tf.Variable(random(3, UNITS))
    start = [tf.ones((2, UNITS), "float64")]

    def step(inputs, state):
        x, token = inputs
        new = tf.tanh(x @ weight + tf.gather(table, token) + state[0])
        return new, [new]

    def results(worst, token):
        x = tf.where(mask[..., None], random(2, 3, 2), worst)
        tokens = tf.where(mask, [[2, 0, 1]], token)
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs, _ = rnn(step, [x, tokens], start, mask=mask)
            loss = tf.reduce_sum(outputs**2)
        found = tape.gradient(loss, [x, weight, table])
        return outputs, *map(tf.convert_to_tensor, found)

    found = results(worst, -1)
    assert_close(found, results(0.0, 0), tolerance=0)
    assert not np.any(found[1][~mask])
    # The control: in a step that is taken it is seen.
    x = tf.where(mask[..., None], random(2, 3, 2), np.nan)
    tokens = tf.zeros((2, 3), "int32")
    assert np.isnan(rnn(step, [x, tokens], start)[0]).any()


@pytest.mark.compiled
@pytest.mark.parametrize("steps", [1, 4])
def test_unknown_sizes(steps):
    problem = Problem()

    @tf.function(
        input_signature=[tf.TensorSpec([None, None, FEATURES], "double")]
    )
    def run(x):
        h = tf.zeros((tf.shape(x)[0], UNITS), "float64")
        count = tf.zeros_like(x[:, 0, 0], "int32")
        with tf.GradientTape() as tape:
            outputs, state = rnn(problem.step, x, {"count": count, "h": h})
            loss = tf.reduce_sum(state["h"])
        return outputs, tape.gradient(loss, problem.kernel)

    x = problem.tensors[0][:, :steps]
    zeros = tf.zeros((BATCH, UNITS), "float64")
    with tf.GradientTape() as tape:
        outputs, state = plain(problem.step, x, zeros, None, zeros, None)
    expected = outputs, tape.gradient(state, problem.kernel)
    assert_close(run(x), expected)


@pytest.mark.parametrize("given", ["previous_output", "reset_output", None])
def test_zeros_are_repeated_where_nothing_is_given(given):
    ones = {given: tf.ones((1,))} if given else {}
    outputs, _ = rnn(
        lambda x, state: (x, state),
        tf.constant([[5.0, 6.0, 7.0]]),
        [tf.zeros((1,))],
        mask=tf.constant([[False, True, False]]),
        reset=tf.constant([[False, False, True]]),
        **ones,
    )
    expected = {"previous_output": [1, 6, 0], "reset_output": [0, 6, 1]}
    assert outputs.numpy().tolist() == [expected.get(given, [0, 6, 0])]


@pytest.mark.compiled
def test_half_precision_sums_in_the_dtype_of_the_variable():
    cell = keras.layers.SimpleRNNCell(
        1, activation="linear", dtype="mixed_bfloat16"
    )
    cell.build((None, 1))
    cell.recurrent_kernel.assign([[0.0]])
    state = [tf.zeros((1, 1), "bfloat16")]

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            outputs, _ = rnn(cell, tf.ones((1, 600, 1), "bfloat16"), state)
            loss = tf.reduce_sum(tf.cast(outputs, "float32"))
        return outputs, tape.gradient(loss, cell.kernel.value)

    outputs, gradient = run()
    assert outputs.dtype == tf.bfloat16
    assert gradient.dtype == tf.float32
    # Summed in bfloat16 it would stop growing at 256.
    assert float(gradient[0, 0]) == 600.0


def test_refuses_a_state_of_another_kind():
    x, zeros = tf.ones((1, 2)), tf.zeros((1,))
    with pytest.raises(
        ValueError, match=r"Expected: \['float32'\]. Received: \['float64'\]"
    ):
        rnn(lambda x, s: (x, tf.cast(s[0], "float64")), x, [zeros])
    with pytest.raises(ValueError, match=r"Received: \['float32', 'float32'\]"):
        rnn(lambda x, s: (x, [s[0], s[0]]), x, [zeros])


def test_refuses_a_reset_state_without_reset():
    with pytest.raises(ValueError, match="Received: reset=None"):
        rnn(
            lambda x, state: (x, state),
            tf.ones((1, 2)),
            [tf.zeros((1,))],
            reset_state=[tf.zeros((1,))],
        )


def test_refuses_a_second_derivative():
    x = tf.ones((1, 2))
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            outputs, _ = rnn(
                lambda x, state: (x**2, state), x, [tf.zeros((1,))]
            )
        first = inner.gradient(outputs, x)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        outer.gradient(first, x)
