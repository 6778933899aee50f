"""The linear scan, in both of its forms, against a plain loop."""

import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.ops import linear_forms
from keras_seqgrad.tensors import devices
from tests.ops.linear import (
    BATCH,
    FORMS,
    LINKS,
    STEPS,
    UNITS,
    Problem,
    by,
    numbers,
    plain,
    same,
)
from tests.ops.reference import assert_differs


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("names", LINKS, ids="-".join)
def test_equals_the_plain_loop(form, dtype, constant, names):
    problem = Problem(names, constant, dtype)
    same(problem.evaluate(by(form)), problem.evaluate(plain))


def test_equals_numpy():
    problem = Problem()
    a, b, h = (tensor.numpy() for tensor in problem.sources[:3])
    expected = []
    for time in range(STEPS):
        h = a[:, time] * h + b[:, time]
        expected.append(h)
    found, [last] = ksg.ops.linear_scan(a, b, [problem.state])
    same([found, last], [np.stack(expected, axis=1), h])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("steps", [1, 2, 4, 5, 18])
def test_any_length(form, steps, monkeypatch):
    """Less than a chunk, a chunk, more, and chunks of chunks."""
    monkeypatch.setattr(linear_forms, "CHUNK", 4)
    problem = Problem(LINKS[-1], steps=steps)
    same(problem.evaluate(by(form)), problem.evaluate(plain), 1e-10)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_finite_differences(form, dtype):
    problem = Problem(["mask", "reset"], dtype=dtype)
    gradients = problem.evaluate(by(form))[2:]
    for place, gradient in enumerate(gradients):
        direction = numbers(gradient.shape, 9, dtype)
        found = []
        for step in (1e-5, -1e-5):
            moved = list(problem.sources)
            moved[place] = moved[place] + step * direction
            found.append(problem.value(problem.results(by(form), moved)))
        # TensorFlow's gradient by z is the conjugate of dL/dz.
        slope = tf.reduce_sum(tf.math.real(tf.math.conj(gradient) * direction))
        np.testing.assert_allclose(
            slope, (found[0] - found[1]) / 2e-5, rtol=1e-6
        )


@pytest.mark.parametrize("form", FORMS)
def test_gates_in_three_steps_worked_by_hand(form):
    """L = h_3, a = (2, 3, 5), gates (7, 11, 13), h_0 = 1, b = 1.

    h = 3, 10, 51; d_3 = 1, d_2 = 13 · 5 = 65, d_1 = 11 · 3 · 65 = 2145, and
    dh_0 = 7 · 2 · 2145 = 30030.
    """
    a = tf.constant([[[2.0], [3.0], [5.0]]])
    b, state = tf.ones((1, 3, 1)), tf.ones((1, 1))
    with tf.GradientTape() as tape:
        tape.watch([a, b, state])
        outputs, [last] = ksg.ops.linear_scan(
            a, b, [state], gates=tf.constant([7.0, 11.0, 13.0]), method=form
        )
    d_a, d_b, d_state = tape.gradient(last, [a, b, state])
    assert outputs.numpy().ravel().tolist() == [3, 10, 51]
    assert d_b.numpy().ravel().tolist() == [2145, 65, 1]
    assert d_a.numpy().ravel().tolist() == [2145, 65 * 3, 10]
    assert d_state.numpy().item() == 30030


@pytest.mark.parametrize("form", FORMS)
def test_a_mask_is_a_shorter_sequence(form):
    problem = Problem()
    kept = [0, 2, 3]
    mask = tf.constant([[t in kept for t in range(STEPS)]] * BATCH)
    outputs, [last] = ksg.ops.linear_scan(
        problem.coefficients,
        problem.inputs,
        [problem.state],
        mask=mask,
        method=form,
    )
    shorter, [end] = ksg.ops.linear_scan(
        *(tf.gather(t, kept, axis=1) for t in problem.sources[:2]),
        [problem.state],
        method=form,
    )
    same([last, tf.gather(outputs, kept, axis=1)], [end, shorter])
    same([outputs[:, 1], outputs[:, 4]], [outputs[:, 0], outputs[:, 3]], 0)


@pytest.mark.parametrize("form", FORMS)
def test_a_reset_is_two_sequences_and_segments_are_the_whole(form):
    problem = Problem()
    a, b, state, fresh = problem.sources

    def run(places, start, **links):
        return ksg.ops.linear_scan(
            a[:, places], b[:, places], [start], method=form, **links
        )

    reset = tf.constant([[False, False, True, False, False]] * BATCH)
    found, [last] = run(slice(None), state, reset=reset, reset_state=[fresh])
    first, _ = run(slice(0, 2), state)
    second, [end] = run(slice(2, None), fresh)
    same([found, last], [tf.concat([first, second], axis=1), end])
    whole, [last] = run(slice(None), state)
    first, [between] = run(slice(0, 2), state)
    second, [end] = run(slice(2, None), between)
    same([whole, last], [tf.concat([first, second], axis=1), end])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_masked_step_may_hold_anything(form, value):
    problem = Problem(LINKS[-1], steps=20)
    expected = problem.evaluate(by(form))
    valid = problem.links["mask"][..., tf.newaxis]
    problem.coefficients = tf.where(valid, problem.coefficients, value)
    problem.inputs = tf.where(valid, problem.inputs, value)
    same(problem.evaluate(by(form)), expected, 0)
    # The control: in a step that is taken it is seen.
    del problem.links["mask"]
    assert np.isnan(problem.evaluate(by(form))[0]).any()


@pytest.mark.parametrize("form", FORMS)
def test_a_cut_stops_an_exploded_gradient_and_a_reset_what_exploded(form):
    problem = Problem(steps=20)
    late = np.array(problem.weights[0])
    late[:, 15:] = np.inf
    problem.weights[0] = tf.constant(late)
    assert not np.isfinite(problem.evaluate(by(form))[3][:, :15]).all()
    problem.links["gates"] = tf.constant([1.0] * 15 + [0.0] + [1.0] * 4)
    assert np.isfinite(problem.evaluate(by(form))[3][:, :15]).all()

    problem = Problem(["reset"], steps=20)
    expected = problem.evaluate(by(form))
    problem.state *= np.inf
    found = problem.evaluate(by(form))
    after = tf.cumsum(tf.cast(problem.links["reset"], "int32"), axis=1) > 0
    same([found[0][after]], [expected[0][after]])


@pytest.mark.parametrize("form", FORMS)
def test_a_cut_changes_the_gradient_and_not_the_values(form):
    problem = Problem()
    whole = problem.evaluate(by(form))
    problem.links["gates"] = tf.constant([1.0, 1.0, 0.0, 1.0, 1.0])
    cut = problem.evaluate(by(form))
    same(cut[:2], whole[:2], 0)
    assert_differs(cut[2], whole[2])


def test_second_derivative_is_refused():
    problem = Problem()
    with tf.GradientTape() as outer:
        outer.watch(problem.inputs)
        with tf.GradientTape() as inner:
            inner.watch(problem.inputs)
            value = problem.value(problem.results(by("sequential")))
        first = tf.reduce_sum(inner.gradient(value, problem.inputs) ** 2)
    with pytest.raises(NotImplementedError, match="first derivatives only"):
        outer.gradient(first, problem.inputs)


@pytest.mark.parametrize(
    "cpus, steps, form",
    [
        (True, 1000, "by_steps"),
        (False, 16, "by_chunks"),
        (False, 15, "by_steps"),
    ],
)
def test_the_form_is_chosen_by_device_and_length(
    cpus, steps, form, monkeypatch
):
    ran = []
    module = ksg.ops.linear_scan.__globals__
    monkeypatch.setattr(devices, "only_cpus", lambda: cpus)
    for name, function in module["FORMS"].items():

        def noted(*args, function=function, **kwargs):
            ran.append(function.__name__)
            raise StopIteration

        monkeypatch.setitem(module["FORMS"], name, noted)
    problem = Problem(steps=steps)
    with pytest.raises(StopIteration):
        problem.results(ksg.ops.linear_scan)
    assert ran == [form]


@pytest.mark.parametrize(
    "change, error, text",
    [
        ({"inputs": tf.zeros((2, 3))}, ValueError, "complex tensor of shape"),
        (
            {"coefficients": tf.zeros((3,), "float64")},
            ValueError,
            r"`coefficients` must have shape \(2,\). Received: shape \(3,\)",
        ),
        (
            {"coefficients": tf.zeros((2,))},
            TypeError,
            "`coefficients` must have dtype float64; .*Received: float32",
        ),
        ({"state": []}, ValueError, r"must be a list of 1 tensors, \[h\]"),
        (
            {"method": "fast"},
            ValueError,
            r"\['auto', 'sequential', 'chunked'\]. Received: method='fast'",
        ),
        (
            {"reset_state": [tf.zeros((BATCH, UNITS), "float64")]},
            ValueError,
            "Pass `reset` with it",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_refusals(change, error, text):
    problem = Problem()
    given = {
        "coefficients": problem.coefficients,
        "inputs": problem.inputs,
        "state": [problem.state],
    }
    with pytest.raises(error, match=text):
        ksg.ops.linear_scan(**given | change)
