"""Plain loops over time, differentiated by a tape: the truth for the scans.

A scan under test is described by a `Case`. Everything is checked in float64,
where rounding cannot hide a wrong formula.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
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


# Names of the links that go together in one test.
LINKS = [[], ["mask"], ["gates"], ["reset"], ["mask", "gates", "reset"]]


def named_links(names, problem, steps=STEPS):
    """Those of `make_links` with these names, and what a reset needs."""
    every = make_links(steps=steps)
    links = {name: every[name] for name in names}
    if "reset" in names:
        links["reset_state"] = problem.reset_state
    return links


def make_links(seed=0, batch=BATCH, steps=STEPS):
    """A random mask, gates of each row, and resets."""
    generator = np.random.default_rng(seed)
    return {
        "mask": tf.constant(generator.random((batch, steps)) < 0.6),
        "gates": tf.constant(generator.uniform(0.0, 2.0, (batch, steps))),
        "reset": tf.constant(generator.random((batch, steps)) < 0.3),
    }


def spoiled(problem, mask, value):
    """The problem with `value` as all inputs of its masked steps."""
    inputs = tf.where(mask[..., tf.newaxis], problem.inputs, value)
    return problem._replace(inputs=inputs)


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
    twin=None,
):
    """What `case.scan` must return, one step after the other.

    Twins by a loop of their own, to which all weights are constants.
    """
    outputs = []
    weights = (kernel, recurrent_kernel, bias)
    twins = ()
    if twin is not None:
        again, *others = twin
        fixed = [tf.stop_gradient(weight) for weight in weights]
        apart = reset_state and [tf.stop_gradient(t) for t in reset_state]
        links = mask, gates, reset, apart
        twins = loop(case, again, others, *fixed, *links)
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
    return tf.stack(outputs, axis=1), state, *twins


def evaluate(function, problem, twins=False, **links):
    """Results of a scan and all its gradients, as a flat list of arrays.

    With twins, these come after the results and their gradients after all
    others; they are weighed by other numbers than the results.
    """
    sources = [
        problem.inputs,
        problem.state,
        problem.weights,
        problem.reset_state,
    ]
    weights = problem.cotangents
    if twins:
        twin = [tf.identity(t) for t in (problem.inputs, *problem.state)]
        sources.append(twin)
        links["twin"] = twin
        weights = [*weights, *[2 * tf.reverse(w, [0]) for w in weights]]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        results = tf.nest.flatten(
            function(problem.inputs, problem.state, *problem.weights, **links)
        )
        value = tf.add_n(
            [
                tf.reduce_sum(result * weight)
                for result, weight in zip(results, weights, strict=True)
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
