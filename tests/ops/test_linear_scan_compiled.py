"""The linear scan under XLA, over many steps and in half precision."""

import functools
import re

import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests.ops.compiled_promises import loop_bodies
from tests.ops.linear import (
    FORMS,
    LINKS,
    UNITS,
    Problem,
    by,
    numbers,
    plain,
    same,
)
from tests.ops.reference import assert_same


def long_run(form, dtype, steps=10_000):
    """Links of 0, of 1 and just below, and the gradients."""
    generator = np.random.default_rng(0)
    a = 1.0 - generator.choice([0.0, 1e-5, 1e-3, 1.0], (1, steps, 3),
                               p=[0.3, 0.3, 0.399, 0.001])  # fmt: skip
    a, b = tf.constant(a, dtype), numbers((1, steps, 3), 1, dtype)
    state = tf.ones((1, 3), dtype)

    @tf.function(jit_compile=True)
    def run():
        with tf.GradientTape() as tape:
            tape.watch([a, b, state])
            outputs, [last] = ksg.ops.linear_scan(a, b, [state], method=form)
            value = tf.reduce_mean(outputs) + tf.reduce_sum(last)
        return [outputs, last, *tape.gradient(value, [a, b, state])]

    return run()


@pytest.mark.slow
@pytest.mark.compiled
def test_the_forms_agree_over_ten_thousand_steps():
    exact = long_run("sequential", "float64")
    same(long_run("chunked", "float64"), exact, 1e-9)
    for form in FORMS:
        for one, other in zip(long_run(form, "float32"), exact, strict=True):
            scale = np.max(np.abs(other))
            assert_same([one], [other], rtol=0, atol=1e-4 * scale)


@functools.cache
def decayed_sums(form, dtype, wide):
    """Sums of 10,000 positive numbers that hardly decay, and the gradients."""
    inputs = tf.abs(numbers((1, 10_000, 2), 0, "float32"))
    inputs = tf.cast(inputs, "bfloat16")

    @tf.function(jit_compile=True)
    def run():
        a = tf.constant([0.999, 0.9985], wide)
        given = tf.cast(inputs, dtype)
        state = tf.zeros((1, 2), dtype)
        with tf.GradientTape() as tape:
            tape.watch([a, given])
            outputs, [last] = ksg.ops.linear_scan(
                a, given, [state], method=form
            )
            value = tf.reduce_sum(tf.cast(outputs, wide))
        return outputs, last, *tape.gradient(value, [a, given])

    return run()


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize("form", FORMS)
def test_half_precision_over_ten_thousand_steps(form):
    """The coefficient .999 is 1 in bfloat16; the sum of 1,000 ones is lost."""
    found = decayed_sums(form, "bfloat16", "float32")
    expected = decayed_sums(FORMS[0], "float64", "float64")
    kinds = [tensor.dtype.name for tensor in found]
    assert kinds == ["bfloat16", "bfloat16", "float32", "bfloat16"]
    for one, other in zip(found, expected, strict=True):
        error = np.abs(tf.cast(one, "float64") - other)
        assert np.all(error < 0.01 * np.abs(other).max())


@pytest.mark.compiled
@pytest.mark.parametrize("form", FORMS)
def test_compiled_equals_eager_also_of_unknown_length(form):
    problem = Problem(LINKS[-1], steps=40)
    expected = problem.evaluate(plain)
    compiled = tf.function(
        lambda: problem.evaluate(by(form)), jit_compile=True, autograph=False
    )
    same(compiled(), expected, 1e-10)

    @tf.function(
        autograph=False,
        input_signature=[tf.TensorSpec([None, None, UNITS], "float64")],
    )
    def dynamic(inputs):
        problem.inputs = inputs
        return problem.evaluate(by(form))

    same(dynamic(problem.inputs), expected, 1e-10)


@pytest.mark.compiled
def test_loops_copy_no_series():
    """Under XLA: one such copy makes the time quadratic in the steps."""
    steps = 37
    problem = Problem(LINKS[-1], steps=steps)

    @tf.function(jit_compile=True, autograph=False)
    def compiled(inputs):
        problem.inputs = inputs
        return problem.evaluate(by("sequential"))

    program = compiled.experimental_get_compiler_ir(problem.inputs)(
        stage="optimized_hlo"
    )
    bodies = loop_bodies(program)
    assert len(bodies) == 2
    for body in bodies:
        assert f"f64[{steps}," in body
        assert not re.search(rf"= f64\[{steps},.* copy\(", body)
