"""What every time scan must keep where it is compiled, or of another dtype."""

import re

import numpy as np
import pytest
import tensorflow as tf

from tests.ops.reference import (
    FEATURES,
    UNITS,
    Case,
    assert_same,
    evaluate,
    loop,
    make_links,
    make_problem,
    spoiled,
)


def loop_bodies(program):
    """Text of the body of each while loop of an optimized XLA program."""
    names = re.findall(r" while\(.* body=%([\w.\-]+)", program)
    return [
        re.search(rf"^%{re.escape(name)} .*?^}}", program, re.M | re.S)[0]
        for name in names
    ]


class CompiledPromises:
    """The half of `ScanPromises` about tracing, XLA and dtypes."""

    case: Case

    def loop(self, *arguments, **links):
        return loop(self.case, *arguments, **links)

    @pytest.mark.compiled
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
                self.case.scan, problem._replace(inputs=inputs), linked, **links
            ),
            jit_compile=True,
            autograph=False,
        )
        program = compiled.experimental_get_compiler_ir(problem.inputs)(
            stage="optimized_hlo"
        )
        bodies = loop_bodies(program)
        # One forward, one back for both gradients; with a mask each of them
        # has another one for the steps behind the longest row.
        assert len(bodies) == (4 if linked else 2)
        for body in bodies:
            assert f"f64[{steps}," in body
            assert not re.search(rf"= f64\[{steps},.* copy\(", body)

    @pytest.mark.compiled
    def test_compiled_equals_eager_inside_an_outer_loop(self):
        problem = make_problem(self.case)
        links = make_links() | {"reset_state": problem.reset_state}
        # What a masked step holds has no part in it.
        given = spoiled(problem, links["mask"], np.nan)
        once = evaluate(self.case.scan, problem, twins=True, **links)

        def body(turn, total):
            gradients = evaluate(self.case.scan, given, twins=True, **links)
            return turn + 1, [
                one + other for one, other in zip(total, gradients, strict=True)
            ]

        @tf.function(jit_compile=True, autograph=False)
        def thrice():
            total = [tf.zeros_like(tensor) for tensor in once]
            return tf.while_loop(lambda turn, _: turn < 3, body, (0, total))[1]

        assert_same(thrice(), [3.0 * tensor for tensor in once])

    @pytest.mark.compiled
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
                twins=True,
                **links | {"mask": mask, "gates": gates, "reset": reset},
            )

        received = dynamic(
            problem.inputs,
            links["mask"],
            links["gates"],
            links["reset"],
            problem.cotangents[0],
        )
        assert_same(received, evaluate(self.loop, problem, True, **links))
        assert dynamic.experimental_get_tracing_count() == 1

    @pytest.mark.parametrize(
        "dtype, unit, twins",
        [("float16", 1e-3, False), ("bfloat16", 8e-3, True)],
    )
    def test_half_precision(self, dtype, unit, twins):
        problem = make_problem(self.case, dtype)
        links = make_links() | {"reset_state": problem.reset_state}
        received = evaluate(self.case.scan, problem, twins, **links)
        assert {tensor.dtype.name for tensor in received} == {dtype}
        wide = tf.nest.map_structure(
            lambda tensor: tf.cast(tensor, "float64"), problem
        )
        links["reset_state"] = wide.reset_state
        expected = evaluate(self.loop, wide, twins, **links)
        for one, other in zip(received, expected, strict=True):
            scale = np.max(np.abs(other))
            assert_same([one], [other], rtol=0, atol=10 * unit * scale)
