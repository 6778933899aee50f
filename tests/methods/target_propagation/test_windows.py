"""TPROP: what a window leaves behind, and what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad import SequenceModel, methods
from keras_seqgrad.methods import BPTT, TargetPropagation, TruncatedBPTT
from tests import zoo
from tests.methods.target_propagation.test_method import (
    FIT,
    compiled,
    distance,
    gradients,
)


@pytest.mark.slow
def test_estimate_is_the_mean_of_the_steps_of_a_slow_training():
    x, y = zoo.data(5)
    for scheme, more in (("lagrangian", {}), ("admm", {"state_steps": 2})):
        network = zoo.network("simple_rnn")
        method = TargetPropagation(
            3, scheme, parameter_steps=2, rounds=2, start="parallel", **more
        )
        model = compiled(network, method, rate=1e-3)
        before = model.get_weights()
        _, estimated = model.estimate_gradients(x, y)
        model.train_on_batch(x, y)
        moved = [
            (a - b) / (4 * 1e-3)
            for a, b in zip(before, model.get_weights(), strict=False)
        ]
        moved = moved[: len(estimated)]
        assert distance(moved, estimated) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("start", ["forward", "parallel", "zero"])
def test_logs_and_the_state_that_is_carried_on(start):
    x, y = zoo.data(6)
    network = zoo.network("gru")
    method = TargetPropagation(
        3, parameter_steps=2, start=start, state_rate=1.0
    )
    model = compiled(network, method, rate=0.0, stateful=True)
    logs = model.fit(x, y, **FIT).history
    logs = {name: value[0] for name, value in logs.items()}
    [state] = [v.numpy() for v in model.carried["training"].rows[:-1]]
    zeros = model.initial_state(zoo.BATCH)
    _, middle = model.call_segment(x[:, :3], zeros)
    [middle] = keras.tree.flatten(middle)
    _, true = model.call_segment(x, zeros)
    [true] = keras.tree.flatten(true)
    in_order = model.evaluate(x, y, batch_size=zoo.BATCH, verbose=0)
    assert logs["sequential_loss"] == pytest.approx(in_order, rel=1e-5)
    assert logs["loss"] == logs["sequential_loss"]
    if start == "forward":
        np.testing.assert_allclose(state, true, atol=1e-6)
    else:
        # The last block's, from a target that has moved.
        assert np.abs(state - true).max() > 1e-2
    # Targets that have moved make a smaller loss than the truth.
    if start != "zero":
        assert logs["block_loss"] < 0.98 * in_order
    norm = np.linalg.norm(middle, axis=1).mean()
    model.reset_state()
    again = compiled(
        network,
        TargetPropagation(3, parameter_steps=1, start=start),
        rate=0.0,
    )
    violation = again.fit(x, y, **FIT).history["constraint_violation"][0]
    expected = norm if start == "zero" else 0.0
    # With two blocks the first's end is the true state.
    assert violation == pytest.approx(expected, abs=1e-6)


def test_a_stream_goes_on_from_the_carried_state():
    x, y = zoo.data(6)
    z, t = zoo.data(6, seed=1)
    network = zoo.network("lstm")
    found = []
    for method in (TruncatedBPTT(3), TargetPropagation(3, parameter_steps=1)):
        model = compiled(network, method, rate=0.0, stateful=True)
        model.train_on_batch(x, y)
        model.reset_state([1])
        found.append(model.estimate_gradients(z, t)[1])
    zoo.assert_same(*found)
    fresh = compiled(network, TruncatedBPTT(3)).estimate_gradients(z, t)
    assert zoo.differ(found[0], fresh[1])


@pytest.mark.slow
def test_a_boundary_that_is_not_crossed_binds_nothing():
    x, y = zoo.data(6)
    reset = np.zeros((zoo.BATCH, 6), bool)
    reset[:, 3] = True
    network = zoo.network("simple_rnn")
    found = []
    for penalty in (1.0, 50.0):
        method = TargetPropagation(
            3,
            "lagrangian",
            penalty,
            parameter_steps=2,
            start="zero",
            state_rate=0.5,
        )
        for given in (x, {"inputs": x, "reset": reset}):
            found.append(gradients(network, method, given, y)[1])
    given = {"inputs": x, "reset": reset}
    _, expected = gradients(network, BPTT(), given, y, eagerly=True)
    zoo.assert_same(found[1], expected)
    zoo.assert_same(found[3], expected)
    assert zoo.differ(found[0], found[2])


@pytest.mark.slow
def test_losses_of_single_outputs_are_those_of_the_window():
    inputs = keras.Input((None, 2))
    states = keras.layers.GRU(3, return_sequences=True)(inputs)
    steps = keras.layers.Dense(2, name="steps")(states)
    whole = keras.layers.Dense(1, name="whole")(keras.layers.GRU(3)(states))
    model = SequenceModel(inputs, [steps, whole])
    method = TargetPropagation(
        3, "admm", parameter_steps=1, state_steps=3, state_rate=1.0
    )
    model.compile(
        keras.optimizers.SGD(0.0), ["mse", "mse"], method=method,
        jit_compile=False,
    )  # fmt: skip
    x, y = zoo.data()
    y = [y, y[:, -1, :1]]
    logs = model.fit(x, y, **FIT).history
    later = model.evaluate(x, y, verbose=0, return_dict=True)
    for name, value in later.items():
        assert logs[name][0] == pytest.approx(value, rel=1e-5)
    assert {"loss", "steps_loss", "whole_loss"} == set(later)
    assert logs["block_loss"][0] < 0.99 * logs["loss"][0]


@pytest.mark.slow
def test_multipliers_wait_for_their_epoch():
    x, y = zoo.data(5)

    def trained(**options):
        network = zoo.network("simple_rnn")
        method = TargetPropagation(
            3, "lagrangian", parameter_steps=1, state_rate=0.5, **options
        )
        model = compiled(network, method, eagerly=True)
        model.fit(x, y, epochs=2, **FIT)
        return network.get_weights()

    def apart(first, second):
        pairs = zip(first, second, strict=True)
        return max(np.abs(a - b).max() for a, b in pairs)

    always, second, never = (trained(multipliers_from=n) for n in (0, 1, 2))
    zoo.assert_same(never, trained(multiplier_rate=1e-12))
    assert apart(always, second) > 1e-4 < apart(second, never)


@pytest.mark.compiled
def test_admm_in_a_graph_is_admm():
    """Under XLA target propagation runs in `test_conformance.py`."""
    x, y = zoo.data(5)
    found = []
    for eagerly in (False, True):
        network = zoo.network("simple_rnn")
        method = TargetPropagation(
            3, "admm", parameter_steps=2, state_steps=2, start="parallel"
        )
        model = compiled(network, method, eagerly=eagerly)
        logs = [model.train_on_batch(x, y) for _ in range(2)]
        found.append([*network.get_weights(), logs])
    zoo.assert_same(*found, tolerance=1e-4)


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"block": 0}, "`block` must be an integer of 1 or more"),
        ({"scheme": "x"}, r"one of \('penalty', .*Received: scheme='x'"),
        ({"start": "true"}, "Received: start='true'"),
        ({"state_optimizer": "adam"}, r"\('adagrad', 'sgd'\). Received"),
        ({"scheme": "admm", "multiplier_form": "x"}, r"\('textbook', 'code'\)"),
        ({"penalty": 0}, "`penalty` must be a number above 0"),
        ({"state_rate": -1}, "`state_rate` must be a number above 0"),
        ({"parameter_steps": 0}, "`parameter_steps` must be an integer"),
        ({"scheme": "admm", "state_steps": 0}, "`state_steps` must be"),
        ({"scheme": "admm", "multiplier_rate": 0}, "`multiplier_rate` must"),
        ({"scheme": "admm", "multipliers_from": -1}, "`multipliers_from` must"),
        ({"state_steps": 3}, "leave `state_steps` out, or .*state_steps=3"),
        (
            {"rounds": 2, "multiplier_rate": 0.5},
            "leave 'rounds', 'multiplier_rate' out.*{'rounds': 2, ",
        ),
        ({"scheme": "admm", "rounds": 1}, "rounds=2 or more, received rounds"),
    ],
    ids=str,
)
def test_refused_arguments(arguments, text):
    with pytest.raises(ValueError, match=text):
        TargetPropagation(**{"block": 3, **arguments})


class Counting(SequenceModel):
    """A subclass with an integer in its state."""

    def initial_state(self, batch_size):
        return [tf.zeros((batch_size, 2)), tf.zeros((batch_size,), "int32")]

    def call_segment(self, inputs, state, training=False):
        sums = tf.cumsum(inputs, axis=1) + state[0][:, None]
        return sums, [sums[:, -1], state[1] + tf.shape(inputs)[1]]


def test_an_integer_state_needs_a_forward_pass():
    model = Counting()
    with pytest.raises(ValueError, match="received .*'int32'.*forward"):
        model.compile("sgd", "mse", method=TargetPropagation(3, start="zero"))
    method = TargetPropagation(3, parameter_steps=2)
    model.compile("sgd", "mse", method=method, jit_compile=False)
    logs = model.fit(*zoo.data(), **FIT).history
    assert np.isfinite(logs["loss"][0])
    assert logs["constraint_violation"][0] > 0


def test_names_and_configs():
    assert repr(methods.get("tprop")) == repr(TargetPropagation(10))
    assert repr(methods.get("target_propagation")) == repr(
        TargetPropagation(10)
    )
    method = TargetPropagation(4, "admm", 2.0, state_steps=7, start="zero")
    again = TargetPropagation.from_config(method.get_config())
    assert again.get_config() == method.get_config()
