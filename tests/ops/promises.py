"""What every time scan must keep, as tests that take a scan to judge."""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from tests.ops.compiled_promises import CompiledPromises
from tests.ops.reference import (
    BATCH,
    LINKS,
    STEPS,
    UNITS,
    assert_differs,
    assert_same,
    evaluate,
    make_links,
    make_problem,
    named_links,
    spoiled,
)
from tests.ops.twin_promises import TwinPromises


class ScanPromises(CompiledPromises, TwinPromises):
    """What every scan must keep; a subclass sets `case` and `layer`.

    `layer` makes the Keras layer that computes the same.
    """

    layer: Callable

    @pytest.mark.parametrize("names", LINKS, ids="-".join)
    @pytest.mark.parametrize("steps", [1, STEPS])
    def test_equals_the_plain_loop(self, names, steps):
        problem = make_problem(self.case, steps=steps)
        links = named_links(names, problem, steps)
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

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_a_masked_step_may_hold_anything(self, value):
        problem = make_problem(self.case)
        links = make_links() | {"reset_state": problem.reset_state}
        mask = np.array(links["mask"])
        mask[0] = False

        def results(value, mask_given=mask):
            links["mask"] = tf.constant(mask_given)
            given = spoiled(problem, tf.constant(mask), value)
            return evaluate(self.case.scan, given, twins=True, **links)

        received = results(value)
        assert_same(received, results(0.0), rtol=0, atol=0)
        d_inputs = received[2 * (1 + self.case.states)]
        assert not np.any(d_inputs[~mask])
        # The control: in a step that is taken it is seen.
        outputs = results(np.nan, np.ones_like(mask))[0]
        assert np.isnan(outputs).any()

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
