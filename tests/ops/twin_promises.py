"""What every time scan must keep of its twins."""

import re

import numpy as np
import pytest
import tensorflow as tf

from tests.ops.compiled_promises import loop_bodies
from tests.ops.reference import (
    BATCH,
    FEATURES,
    STEPS,
    UNITS,
    Case,
    assert_differs,
    assert_same,
    loop,
    make_links,
    make_problem,
)


def evaluate(function, problem, **links):
    """Results of a scan and their twins, and all gradients, flat.

    The twins are weighed by other numbers than the results.
    """
    twin = [tf.identity(t) for t in (problem.inputs, *problem.state)]
    sources = [*problem[:4], twin]
    weights = problem.cotangents
    weights = [*weights, *[2 * tf.reverse(weight, [0]) for weight in weights]]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        results = tf.nest.flatten(
            function(
                problem.inputs,
                problem.state,
                *problem.weights,
                twin=twin,
                **links,
            )
        )
        value = tf.add_n(
            [
                tf.reduce_sum(result * weight)
                for result, weight in zip(results, weights, strict=True)
            ]
        )
    gradients = tape.gradient(value, sources, unconnected_gradients="zero")
    return results + tf.nest.flatten(gradients)


class TwinPromises:
    """The part of `ScanPromises` about twins."""

    case: Case

    def two_loops(
        self, inputs, state, *weights, twin, reset_state=None, **links
    ):
        """The results, and their twins by a loop over constant weights."""
        again, *others = twin
        fixed = [tf.stop_gradient(weight) for weight in weights]
        apart = reset_state and [tf.stop_gradient(t) for t in reset_state]
        return (
            *loop(
                self.case,
                inputs,
                state,
                *weights,
                **links,
                reset_state=reset_state,
            ),
            *loop(self.case, again, others, *fixed, **links, reset_state=apart),
        )

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
    @pytest.mark.parametrize("jit_compile", [None, False, True])
    def test_twins_equal_a_second_loop(self, names, jit_compile):
        problem = make_problem(self.case)
        every = make_links()
        links = {name: every[name] for name in names}
        if "reset" in names:
            links["reset_state"] = problem.reset_state

        def scan():
            return evaluate(self.case.scan, problem, **links)

        if jit_compile is not None:
            scan = tf.function(scan, jit_compile=jit_compile, autograph=False)
        received = scan()
        assert_same(received, evaluate(self.two_loops, problem, **links))
        # The control: the twins' gradient is another one.
        inputs = 2 * (1 + self.case.states)
        twin = len(received) - (1 + self.case.states)
        assert_differs(received[inputs], received[twin])

    def test_twins_leave_all_other_gradients_alone(self):
        problem = make_problem(self.case)
        links = make_links() | {"reset_state": problem.reset_state}

        def without(*arguments, twin, **links):
            results = self.case.scan(*arguments, **links)
            return *results, *tf.nest.map_structure(tf.stop_gradient, results)

        with_twins = evaluate(self.case.scan, problem, **links)
        alone = evaluate(without, problem, **links)
        for one, other in zip(
            with_twins[: -1 - self.case.states],
            alone[: -1 - self.case.states],
            strict=True,
        ):
            np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-14)

    def test_twins_of_unknown_batch_and_time(self):
        problem = make_problem(self.case)
        links = make_links() | {"reset_state": problem.reset_state}
        names = ("mask", "gates", "reset")

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
                **links | dict(zip(names, (mask, gates, reset), strict=True)),
            )

        received = dynamic(
            problem.inputs,
            *[links[name] for name in names],
            problem.cotangents[0],
        )
        assert_same(received, evaluate(self.two_loops, problem, **links))

    @pytest.mark.parametrize(
        "dtype, unit", [("float16", 1e-3), ("bfloat16", 8e-3)]
    )
    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_twins_in_half_precision(self, dtype, unit, jit_compile):
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
        expected = evaluate(self.two_loops, wide, **links)
        for one, other in zip(received, expected, strict=True):
            scale = np.max(np.abs(other))
            assert_same([one], [other], rtol=0, atol=10 * unit * scale)

    def test_loops_with_twins_copy_no_series(self):
        """Under XLA: one such copy makes the time quadratic in the steps."""
        steps = 37
        problem = make_problem(self.case, steps=steps)
        links = make_links(steps=steps) | {"reset_state": problem.reset_state}
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
        assert len(bodies) == 2  # both gradients go back in one loop
        for body in bodies:
            assert f"f64[{steps}," in body
            assert not re.search(rf"= f64\[{steps},.* copy\(", body)

    @pytest.mark.parametrize(
        "change, error, text",
        [
            (
                lambda twin: twin[:1],
                ValueError,
                r"`twin\[1:\]` must be a list of \d tensors",
            ),
            (
                lambda twin: [twin[0][:, 1:], *twin[1:]],
                ValueError,
                r"`twin\[0\]` must have shape \(3, 5, 2\)",
            ),
            (
                lambda twin: [twin[0], *[t[:, 1:] for t in twin[1:]]],
                ValueError,
                r"`twin\[1:\]\[0\]` must have shape \(3, 4\)",
            ),
            (
                lambda twin: [tf.cast(twin[0], "float32"), *twin[1:]],
                TypeError,
                r"`twin\[0\]` must have dtype float64; .*Received: float32",
            ),
        ],
    )
    def test_twins_that_do_not_fit_are_refused(self, change, error, text):
        problem = make_problem(self.case, batch=BATCH, steps=STEPS)
        twin = change([problem.inputs, *problem.state])
        with pytest.raises(error, match=text):
            self.case.scan(
                problem.inputs, problem.state, *problem.weights, twin=twin
            )
