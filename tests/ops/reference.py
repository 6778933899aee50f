"""Plain loops over time, differentiated by a tape: the truth for the scans.

A scan under test is described by a `Case`. Everything is checked in float64,
where rounding cannot hide a wrong formula.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf

BATCH, STEPS, FEATURES, UNITS = 3, 5, 2, 4
EXACT = dict(rtol=1e-9, atol=1e-11)


class Case(NamedTuple):
    """One scan, with the one step of it that the reference repeats.

    Attributes:
        scan: The function under test, options bound.
        step: `step(x, state, weights) -> state`, one step in plain ops.
        states: Number of state tensors.
        blocks: Width of the kernels in units.
        bias_rows: Shape of the bias before its last axis.
    """

    scan: Callable
    step: Callable
    states: int
    blocks: int
    bias_rows: tuple = ()


class Problem(NamedTuple):
    """Everything a scan is called with, and what its results are weighed by."""

    inputs: tf.Tensor
    state: list
    weights: list
    reset_state: list
    cotangents: list


def make_problem(case, dtype="float64", seed=0, batch=BATCH, steps=STEPS):
    generator = np.random.default_rng(seed)

    def normal(*shape):
        return tf.constant(generator.normal(0.0, 0.7, shape), dtype)

    width = case.blocks * UNITS
    rows = [(batch, UNITS)] * case.states
    return Problem(
        inputs=normal(batch, steps, FEATURES),
        state=[normal(*row) for row in rows],
        weights=[
            normal(FEATURES, width),
            normal(UNITS, width),
            normal(*case.bias_rows, width),
        ],
        reset_state=[normal(*row) for row in rows],
        cotangents=[normal(batch, steps, UNITS), *[normal(*r) for r in rows]],
    )


def make_links(seed=0, batch=BATCH, steps=STEPS):
    """A random mask, gates of each row, and resets."""
    generator = np.random.default_rng(seed)
    return {
        "mask": tf.constant(generator.random((batch, steps)) < 0.6),
        "gates": tf.constant(generator.uniform(0.0, 2.0, (batch, steps))),
        "reset": tf.constant(generator.random((batch, steps)) < 0.3),
    }


@tf.custom_gradient
def gated(tensor, gate):
    """`tensor`, with a gradient multiplied by `gate`."""
    return tf.identity(tensor), lambda d: (d * gate, None)


def loop(
    case,
    inputs,
    state,
    kernel,
    recurrent_kernel,
    bias,
    mask=None,
    gates=None,
    reset=None,
    reset_state=None,
):
    """What `case.scan` must return, one step after the other."""
    outputs = []
    weights = (kernel, recurrent_kernel, bias)
    for time in range(inputs.shape[1]):
        if gates is not None:
            gate = gates[..., time]
            gate = tf.reshape(tf.cast(gate, inputs.dtype), [-1, 1])
            state = [gated(tensor, gate) for tensor in state]
        if reset is not None:
            where = reset[:, time, tf.newaxis]
            fresh = reset_state or [tf.zeros_like(tensor) for tensor in state]
            state = [
                tf.where(where, a, b) for a, b in zip(fresh, state, strict=True)
            ]
        new = case.step(inputs[:, time], state, weights)
        if mask is not None:
            valid = mask[:, time, tf.newaxis]
            new = [
                tf.where(valid, a, b) for a, b in zip(new, state, strict=True)
            ]
        state = new
        outputs.append(state[0])
    return tf.stack(outputs, axis=1), state


def evaluate(function, problem, **links):
    """Results of a scan and all its gradients, as a flat list of arrays."""
    sources = [
        problem.inputs,
        problem.state,
        problem.weights,
        problem.reset_state,
    ]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        outputs, state = function(
            problem.inputs, problem.state, *problem.weights, **links
        )
        results = [outputs, *state]
        value = tf.add_n(
            [
                tf.reduce_sum(result * weight)
                for result, weight in zip(
                    results, problem.cotangents, strict=True
                )
            ]
        )
    gradients = tape.gradient(value, sources, unconnected_gradients="zero")
    return results + tf.nest.flatten(gradients)


def assert_same(received, expected, **tolerance):
    tolerance = tolerance or EXACT
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(
            np.asarray(one, "float64"),
            np.asarray(other, "float64"),
            **tolerance,
        )


def assert_differs(received, expected):
    gap = np.max(np.abs(np.asarray(received) - np.asarray(expected)))
    assert gap > 1e-3, f"expected a difference, largest is {gap}"


def loop_bodies(program):
    """Text of the body of each while loop of an optimized XLA program."""
    names = re.findall(r" while\(.* body=%([\w.\-]+)", program)
    return [
        re.search(rf"^%{re.escape(name)} .*?^}}", program, re.M | re.S)[0]
        for name in names
    ]


class ScanPromises:
    """What every scan must keep; a subclass sets `case` and `layer`.

    `layer` is a Keras layer that returns sequences and state and computes the
    same; `argument_names` are its weights in order, for error texts.
    """

    case: Case
    layer: Callable

    @pytest.mark.parametrize(
        "names",
        [
            [],
            ["mask"],
            ["gates"],
            ["reset"],
            ["mask", "gates", "reset"],
        ],
        ids="-".join,
    )
    @pytest.mark.parametrize("steps", [1, STEPS])
    def test_equals_the_plain_loop(self, names, steps):
        problem = make_problem(self.case, steps=steps)
        every = make_links(steps=steps)
        links = {name: every[name] for name in names}
        if "reset" in names:
            links["reset_state"] = problem.reset_state
        assert_same(
            evaluate(self.case.scan, problem, **links),
            evaluate(self.loop, problem, **links),
        )

    def test_gates_of_every_step_serve_all_rows(self):
        problem = make_problem(self.case)
        gates = tf.constant([0.3, 1.5, 0.0, 1.0, 0.7], "float64")
        received = evaluate(self.case.scan, problem, gates=gates)
        assert_same(received, evaluate(self.loop, problem, gates=gates))
        by_row = tf.tile(gates[tf.newaxis], [BATCH, 1])
        assert_same(received, evaluate(self.case.scan, problem, gates=by_row))

    def test_reset_without_a_state_means_zeros(self):
        problem = make_problem(self.case)
        reset = make_links()["reset"]
        zeros = [tf.zeros_like(tensor) for tensor in problem.state]
        received = evaluate(self.case.scan, problem, reset=reset)
        assert_same(
            received,
            evaluate(self.case.scan, problem, reset=reset, reset_state=zeros),
        )
        assert_same(received, evaluate(self.loop, problem, reset=reset))

    def test_no_bias(self):
        problem = make_problem(self.case)
        zero_bias = problem.weights[:2] + [tf.zeros_like(problem.weights[2])]
        expected = evaluate(self.loop, problem._replace(weights=zero_bias))

        def scan(inputs, state, kernel, recurrent_kernel, bias):
            return self.case.scan(inputs, state, kernel, recurrent_kernel, None)

        received = evaluate(scan, problem)
        bias_gradient = len(received) - 1 - self.case.states
        del received[bias_gradient], expected[bias_gradient]
        assert_same(received, expected)

    def test_a_cut_changes_the_gradient_and_not_the_values(self):
        problem = make_problem(self.case)
        whole = evaluate(self.case.scan, problem)
        gates = tf.constant([1.0, 1.0, 0.0, 1.0, 1.0], "float64")
        cut = evaluate(self.case.scan, problem, gates=gates)
        values = 1 + self.case.states
        assert_same(cut[:values], whole[:values])
        assert_differs(cut[values], whole[values])
        ones = evaluate(self.case.scan, problem, gates=tf.ones_like(gates))
        assert_same(ones, whole)

    def test_a_cut_stops_an_exploded_gradient(self):
        problem = make_problem(self.case)
        late = np.array(problem.cotangents[0])
        late[:, 3:] = np.inf
        cotangents = [tf.constant(late), *problem.cotangents[1:]]
        problem = problem._replace(cotangents=cotangents)
        gates = tf.constant([1.0, 1.0, 1.0, 0.0, 1.0], "float64")
        d_inputs = evaluate(self.case.scan, problem, gates=gates)[
            1 + self.case.states
        ]
        assert np.isfinite(d_inputs[:, :3]).all()
        d_inputs = evaluate(self.case.scan, problem)[1 + self.case.states]
        assert not np.isfinite(d_inputs[:, :3]).all()

    def test_finite_differences(self):
        problem = make_problem(self.case)
        links = make_links()
        links = {
            "mask": links["mask"],
            "reset": links["reset"],
            "reset_state": problem.reset_state,
        }

        def value(sources):
            inputs, state, weights, reset_state = sources
            outputs, last = self.case.scan(
                inputs, state, *weights, **links | {"reset_state": reset_state}
            )
            return sum(
                np.sum(np.multiply(result, weight))
                for result, weight in zip(
                    [outputs, *last], problem.cotangents, strict=True
                )
            )

        sources = [
            problem.inputs,
            problem.state,
            problem.weights,
            problem.reset_state,
        ]
        gradients = evaluate(self.case.scan, problem, **links)
        gradients = gradients[1 + self.case.states :]
        generator = np.random.default_rng(1)
        flat = tf.nest.flatten(sources)
        for index, gradient in enumerate(gradients):
            direction = generator.normal(size=gradient.shape)
            change = []
            for sign in (1e-5, -1e-5):
                moved = list(flat)
                moved[index] = flat[index] + sign * direction
                change.append(value(tf.nest.pack_sequence_as(sources, moved)))
            np.testing.assert_allclose(
                np.sum(gradient * direction),
                (change[0] - change[1]) / 2e-5,
                rtol=1e-6,
                atol=1e-8,
            )

    def test_equals_keras(self):
        layer = self.layer(
            UNITS, return_sequences=True, return_state=True, dtype="float64"
        )
        problem = make_problem(self.case)
        layer.build(problem.inputs.shape)
        for variable, value in zip(layer.weights, problem.weights, strict=True):
            variable.assign(value)
        weights = [variable.value for variable in layer.weights]
        mask = tf.constant([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0]])
        mask = tf.cast(mask, "bool")

        def results(function):
            sources = [problem.inputs, problem.state, weights]
            with tf.GradientTape() as tape:
                tape.watch(sources[:2])
                outputs, *state = tf.nest.flatten(function())
                value = tf.reduce_sum(outputs * problem.cotangents[0])
                for one, weight in zip(
                    state, problem.cotangents[1:], strict=True
                ):
                    value += tf.reduce_sum(one * weight)
            return [outputs, *state] + tf.nest.flatten(
                tape.gradient(value, sources)
            )

        assert_same(
            results(
                lambda: self.case.scan(
                    problem.inputs, problem.state, *weights, mask=mask
                )
            ),
            results(
                lambda: layer(
                    problem.inputs, initial_state=problem.state, mask=mask
                )
            ),
        )

    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_compiled_equals_eager(self, jit_compile):
        problem = make_problem(self.case)
        links = make_links() | {"reset_state": problem.reset_state}
        compiled = tf.function(
            lambda: evaluate(self.case.scan, problem, **links),
            jit_compile=jit_compile,
            autograph=False,
        )
        assert_same(compiled(), evaluate(self.case.scan, problem, **links))

    @pytest.mark.parametrize("linked", [False, True])
    def test_loops_copy_no_series(self, linked):
        """Under XLA: one such copy makes the time quadratic in the steps."""
        steps = 37
        problem = make_problem(self.case, steps=steps)
        links = {}
        if linked:
            links = make_links(steps=steps)
            links["reset_state"] = problem.reset_state
        compiled = tf.function(
            lambda inputs: evaluate(
                self.case.scan, problem._replace(inputs=inputs), **links
            ),
            jit_compile=True,
            autograph=False,
        )
        program = compiled.experimental_get_compiler_ir(problem.inputs)(
            stage="optimized_hlo"
        )
        bodies = loop_bodies(program)
        assert len(bodies) == 2
        for body in bodies:
            assert f"f64[{steps}," in body
            assert not re.search(rf"= f64\[{steps},.* copy\(", body)

    def test_inside_an_outer_loop(self):
        problem = make_problem(self.case)
        links = make_links() | {"reset_state": problem.reset_state}
        once = evaluate(self.case.scan, problem, **links)

        def body(turn, total):
            gradients = evaluate(self.case.scan, problem, **links)
            return turn + 1, [
                one + other for one, other in zip(total, gradients, strict=True)
            ]

        @tf.function(jit_compile=True, autograph=False)
        def thrice():
            total = [tf.zeros_like(tensor) for tensor in once]
            return tf.while_loop(lambda turn, _: turn < 3, body, (0, total))[1]

        assert_same(thrice(), [3.0 * tensor for tensor in once])

    def test_unknown_batch_and_time(self):
        problem = make_problem(self.case)
        links = make_links() | {"reset_state": problem.reset_state}

        @tf.function(
            autograph=False,
            input_signature=[
                tf.TensorSpec([None, None, FEATURES], "float64"),
                tf.TensorSpec([None, None], "bool"),
                tf.TensorSpec([None, None], "float64"),
                tf.TensorSpec([None, None], "bool"),
                tf.TensorSpec([None, None, UNITS], "float64"),
            ],
        )
        def dynamic(inputs, mask, gates, reset, cotangent):
            return evaluate(
                self.case.scan,
                problem._replace(
                    inputs=inputs,
                    cotangents=[cotangent, *problem.cotangents[1:]],
                ),
                **links | {"mask": mask, "gates": gates, "reset": reset},
            )

        received = dynamic(
            problem.inputs,
            links["mask"],
            links["gates"],
            links["reset"],
            problem.cotangents[0],
        )
        assert_same(received, evaluate(self.loop, problem, **links))
        assert dynamic.experimental_get_tracing_count() == 1

    @pytest.mark.parametrize(
        "dtype, unit", [("float16", 1e-3), ("bfloat16", 8e-3)]
    )
    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_half_precision(self, dtype, unit, jit_compile):
        problem = make_problem(self.case, dtype)
        links = make_links() | {"reset_state": problem.reset_state}
        received = tf.function(
            lambda: evaluate(self.case.scan, problem, **links),
            jit_compile=jit_compile,
            autograph=False,
        )()
        assert {tensor.dtype.name for tensor in received} == {dtype}
        wide = tf.nest.map_structure(
            lambda tensor: tf.cast(tensor, "float64"), problem
        )
        links["reset_state"] = wide.reset_state
        expected = evaluate(self.case.scan, wide, **links)
        for one, other in zip(received, expected, strict=True):
            scale = np.max(np.abs(other))
            assert_same([one], [other], rtol=0, atol=10 * unit * scale)

    def test_second_derivative_is_refused(self):
        problem = make_problem(self.case)
        with tf.GradientTape() as outer:
            outer.watch(problem.inputs)
            with tf.GradientTape() as inner:
                inner.watch(problem.inputs)
                outputs, _ = self.case.scan(
                    problem.inputs, problem.state, *problem.weights
                )
                value = tf.reduce_sum(outputs)
            first = tf.reduce_sum(inner.gradient(value, problem.inputs) ** 2)
        with pytest.raises(
            NotImplementedError, match="have first derivatives only"
        ):
            outer.gradient(first, problem.inputs)

    @pytest.mark.parametrize(
        "change, error, text",
        [
            (
                {"inputs": tf.zeros((BATCH, STEPS), "float64")},
                ValueError,
                r"`inputs` must be a floating tensor of shape \(batch, time",
            ),
            (
                {"state": []},
                ValueError,
                r"`state` must be a list of \d tensors",
            ),
            (
                {"kernel": tf.zeros((7, 7), "float64")},
                ValueError,
                r"`kernel` must have shape .*Received: shape \(7, 7\)",
            ),
            (
                {"bias": tf.zeros((3,))},
                TypeError,
                "`bias` must have dtype float64; .*Received: float32",
            ),
            (
                {"gates": tf.ones(())},
                ValueError,
                r"`gates` must be floating numbers of shape \(time,\)",
            ),
            (
                {"gates": tf.ones((STEPS + 1,))},
                ValueError,
                r"`gates` must have shape \(5,\)",
            ),
            (
                {"mask": tf.ones((BATCH, STEPS))},
                TypeError,
                "`mask` must have dtype bool",
            ),
            (
                {"reset_state": []},
                ValueError,
                "Pass `reset` with it",
            ),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
    )
    def test_refusals(self, change, error, text):
        problem = make_problem(self.case)
        kernel, recurrent_kernel, bias = problem.weights
        arguments = {
            "inputs": problem.inputs,
            "state": problem.state,
            "kernel": kernel,
            "recurrent_kernel": recurrent_kernel,
            "bias": bias,
        }
        with pytest.raises(error, match=text):
            self.case.scan(**arguments | change)

    def loop(self, *arguments, **links):
        return loop(self.case, *arguments, **links)
