"""The general scan against a plain Python loop and finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.ops.rnn import rnn

BATCH, STEPS, FEATURES, UNITS = 3, 5, 2, 4
EXACT = 1e-12


def random(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape))


def flags(seed):
    return tf.constant(np.random.default_rng(seed).random((BATCH, STEPS)) > 0.4)


class Problem:
    """A step with a state (h, count), and tensors it has gradients for."""

    def __init__(self):
        self.kernel = tf.Variable(random(FEATURES, UNITS, seed=1))
        self.recurrent = tf.Variable(0.5 * random(UNITS, UNITS, seed=2))
        self.tensors = [
            random(BATCH, STEPS, FEATURES, seed=3),
            random(BATCH, UNITS, seed=4),
            random(BATCH, UNITS, seed=5),
            random(BATCH, UNITS, seed=6),
            random(BATCH, UNITS, seed=7),
        ]

    def step(self, x, state):
        h = tf.tanh(x @ self.kernel + state["h"] @ self.recurrent)
        return h * state["h"], {"count": state["count"] + 1, "h": h}

    def gradients(self, scan, **options):
        """[outputs, state] of `scan`, and the gradients of everything."""
        with tf.GradientTape() as tape:
            tape.watch(self.tensors)
            results = scan(self.step, *self.tensors, **options)
            loss = tf.add_n(
                [tf.reduce_sum(r * random(*r.shape, seed=9)) for r in results]
            )
        sources = [self.kernel, self.recurrent, *self.tensors]
        return results, tape.gradient(
            loss, sources, unconnected_gradients="zero"
        )


@tf.custom_gradient
def through_gate(gate, tensor):
    return tf.identity(tensor), lambda d: (None, gate * d)


def plain(
    step, x, h, fresh, previous, again, mask=None, gates=None, reset=None
):
    """What `rnn` does, as a Python loop for TensorFlow to differentiate."""
    outputs = []
    for t in range(x.shape[1]):
        if gates is not None:
            gate = gates[t] if gates.shape.rank == 1 else gates[:, t, None]
            h, previous = through_gate(gate, h), through_gate(gate, previous)
        if reset is not None:
            flag = reset[:, t, None]
            h = tf.where(flag, fresh, h)
            previous = tf.where(flag, again, previous)
        output, new = step(x[:, t], {"count": 0, "h": h})
        new = new["h"]
        if mask is not None:
            flag = mask[:, t, None]
            output = tf.where(flag, output, previous)
            new = tf.where(flag, new, h)
        h, previous = new, output
        outputs.append(output)
    return tf.stack(outputs, axis=1), h


def scanned(step, x, h, fresh, previous, again, **options):
    count = tf.zeros((BATCH,), "int32")
    if "reset" in options:
        options["reset_state"] = {"count": count, "h": fresh}
    outputs, state = rnn(
        step,
        x,
        {"count": count, "h": h},
        previous_output=previous,
        reset_output=again,
        **options,
    )
    return outputs, state["h"]


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


def assert_close(found, expected, tolerance=EXACT):
    for a, b in zip(
        tf.nest.flatten(found), tf.nest.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "name, mode",
    [(name, "jit") for name in OPTIONS]
    + [("all", "eager"), ("all", "graph"), ("all", "loop")],
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


def finite_difference(function, tensor, direction, epsilon=1e-6):
    ahead = function(tensor + epsilon * direction)
    behind = function(tensor - epsilon * direction)
    return (ahead - behind) / (2 * epsilon)


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


class Drawing:
    """A step that multiplies its state by numbers drawn at every step."""

    def __init__(self):
        self.generator = keras.random.SeedGenerator(5)
        self.start = self.generator.state.numpy()
        self.weight = tf.Variable(0.9, dtype="float64")

    def step(self, x, state):
        drawn = keras.random.uniform(
            (2, 3), dtype="float64", seed=self.generator
        )
        new = tf.tanh(drawn * self.weight * state[0] + x)
        return new, [new]

    def run(self, random_state, weight=None):
        """(loss, gradient, counter after the forward and backward pass)."""
        self.generator.state.assign(self.start)
        if weight is not None:
            self.weight.assign(weight)
        with tf.GradientTape() as tape:
            outputs, _ = rnn(
                self.step,
                random(2, 4, 3, seed=1),
                [random(2, 3, seed=2)],
                random_state=random_state,
            )
            loss = tf.reduce_sum(outputs**2)
        # As any other user of the generator may, between the passes.
        self.generator.next()
        before = tf.identity(self.generator.state)
        gradient = tape.gradient(loss, self.weight)
        return loss, gradient, before, tf.identity(self.generator.state)

    def slope(self, random_state):
        value = tf.constant(0.9, "float64")
        slope = finite_difference(
            lambda weight: self.run(random_state, weight)[0], value, 1.0
        )
        self.weight.assign(value)
        return slope


@pytest.mark.parametrize("mode", ["eager", "graph", "jit"])
def test_random_numbers_are_drawn_again(mode):
    drawing = Drawing()
    kept = [drawing.generator.state]

    def run():
        return drawing.run(kept)

    if mode != "eager":
        run = tf.function(run, jit_compile=mode == "jit")
        drawing_slope = tf.function(
            lambda weight: drawing.run(kept, weight)[0],
            jit_compile=mode == "jit",
        )
        slope = finite_difference(
            drawing_slope, tf.constant(0.9, "float64"), 1.0
        )
        drawing.weight.assign(0.9)
    else:
        slope = drawing.slope(kept)
    _, gradient, before, after = run()
    np.testing.assert_allclose(gradient, slope, rtol=1e-7)
    assert before.numpy().tolist() == after.numpy().tolist() == [5, 5]


def test_without_random_state_the_gradient_is_wrong():
    drawing = Drawing()
    gradient = drawing.run([])[1]
    assert abs(float(gradient / drawing.slope([])) - 1) > 1e-3


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


def test_around_is_entered_for_each_loop():
    entered = []

    class Around:
        def __init__(self, x, state):
            self.shapes = x.shape.as_list(), state[0].shape.as_list()

        def __enter__(self):
            entered.append(self.shapes)

        def __exit__(self, *_):
            entered.append("left")

    x = tf.ones((2, 3, 4))
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs, _ = rnn(
            lambda x, state: (x, state), x, [tf.zeros((2, 5))], around=Around
        )
    assert entered == [([2, 4], [2, 5]), "left"]
    tape.gradient(outputs, x)
    assert entered == [([2, 4], [2, 5]), "left"] * 2


def test_half_precision_sums_in_the_dtype_of_the_variable():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        cell = keras.layers.SimpleRNNCell(1, activation="linear")
        cell.build((None, 1))
    finally:
        keras.config.set_dtype_policy("float32")
    cell.recurrent_kernel.assign([[0.0]])
    with tf.GradientTape() as tape:
        outputs, _ = rnn(
            cell,
            tf.ones((1, 1000, 1), "bfloat16"),
            [tf.zeros((1, 1), "bfloat16")],
        )
        loss = tf.reduce_sum(tf.cast(outputs, "float32"))
    gradient = tape.gradient(loss, cell.kernel.value)
    assert outputs.dtype == tf.bfloat16
    assert gradient.dtype == tf.float32
    # Summed in bfloat16 it would stop growing at 256.
    assert float(gradient[0, 0]) == 1000.0


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
