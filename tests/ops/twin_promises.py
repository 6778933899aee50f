"""What every time scan must keep of its twins alone."""

import numpy as np
import pytest
import tensorflow as tf

from tests.ops.reference import (
    LINKS,
    Case,
    assert_differs,
    assert_same,
    evaluate,
    make_links,
    make_problem,
    named_links,
)


class TwinPromises:
    """The part of `ScanPromises` about twins; a subclass has `case`, `loop`."""

    case: Case

    @pytest.mark.parametrize("names", LINKS, ids="-".join)
    def test_twins_equal_a_second_loop(self, names):
        problem = make_problem(self.case)
        links = named_links(names, problem)
        received = evaluate(self.case.scan, problem, twins=True, **links)
        expected = evaluate(self.loop, problem, twins=True, **links)
        assert_same(received, expected)
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

        with_twins = evaluate(self.case.scan, problem, twins=True, **links)
        alone = evaluate(without, problem, twins=True, **links)
        for one, other in zip(
            with_twins[: -1 - self.case.states],
            alone[: -1 - self.case.states],
            strict=True,
        ):
            np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-14)

    @pytest.mark.parametrize(
        "change, error, text",
        [
            (
                lambda twin: [],
                ValueError,
                r"must be None or a list \[inputs, \*state\].*twin=\[\]",
            ),
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
        problem = make_problem(self.case)
        twin = change([problem.inputs, *problem.state])
        with pytest.raises(error, match=text):
            self.case.scan(
                problem.inputs, problem.state, *problem.weights, twin=twin
            )
