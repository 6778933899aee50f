"""Every method trains two replicas as it trains one device."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import replicas, zoo
from tests.methods.table import TABLE

# Of each row; the second is read with what the first has taught and left.
WINDOWS = 2
STEPS = 3  # a segment of 2, and a shorter one


def recurrent(size):
    """A synthesiser that has a memory for every row."""
    return keras.Sequential(
        [
            keras.Input((None, size)),
            keras.layers.SimpleRNN(2, return_sequences=True),
            keras.layers.Dense(size),
        ]
    )


# The simplest cell that each method runs.
CELLS = {"inversion_learned": "gru"}
MORE = {
    "admm": lambda: ksg.methods.TargetPropagation(
        2,
        "admm",
        parameter_steps=1,
        state_steps=1,
        multiplier_form="code",
        start="parallel",
    ),
    "artbp_cut": lambda: ksg.methods.ARTBP(2, update="cut", seed=1),
    # All that they add to what one synthesiser learns, and the parent's too.
    "dni_all": lambda: ksg.methods.SyntheticGradients(
        2,
        "linear",
        1.0,
        auxiliary=0.1,
        condition="next_input",
        lambda_=0.7,
    ),
    "alternating_recurrent": lambda: ksg.methods.AlternatingGradients(
        2, recurrent, switch_epochs=[1, 3]
    ),
    "inversion_difference": lambda: ksg.methods.RegularizedInversion(
        0.5, 0.5, "difference"
    ),
}
# Rows that ask of other replicas what another case asks by the same lines.
LIKE_OTHERS = {"artbp_window", "dni", "dni_next", "dni_lambda", "alternating"}
LIKE_OTHERS |= {"inversion", "bptt", "rtrl"}
CASES = [
    *[(name, True) for name in [*TABLE, *MORE] if name not in LIKE_OTHERS],
    *[(name, False) for name in ["tbptt"]],
]
# Of parts of a norm there is no mean that is the whole's.
APART = {"synthesizer_norm_ratio"}


def batches(count, stateful):
    """Windows of four rows; with a state, rows of one replica are reset."""
    generator = np.random.default_rng(0)
    shape = 4 * count, STEPS, 2
    x, y = generator.normal(size=(2, *shape)).astype("float32")
    reset = np.zeros(shape[:2], bool)
    if stateful:
        reset[::4, 1], reset[1::4, 2] = True, True
    return {"inputs": x, "reset": reset}, y


def trained(make, scope, stateful, cell, eagerly=False):
    """(weights, logs, carried rows, what the method keeps) after training."""
    keras.utils.set_random_seed(1)
    with scope:
        network = zoo.network(cell)
        model = ksg.SequenceModel.from_model(network, stateful=stateful)
        model.compile(
            # Sums in place of means would not change a step of Adam.
            keras.optimizers.SGD(0.05),
            "mse",
            metrics=["mae"],
            method=make(),
            jit_compile=False,
            run_eagerly=eagerly,
        )
    windows = tf.data.Dataset.from_tensor_slices(batches(WINDOWS, stateful))
    logs = model.fit(windows.batch(4), verbose=0).history
    kept = model.method_state
    logged = {id(v) for metric in kept.metrics for v in metric.variables}
    state = [
        variable.numpy() * 1.0
        for variable in [*model.carried["training"].variables, *kept.variables]
        if id(variable) not in logged
    ]
    return network.get_weights(), logs, state


@pytest.mark.slow
@pytest.mark.parametrize("name, stateful", CASES)
def test_two_replicas_train_as_one(name, stateful):
    make = MORE[name] if name in MORE else TABLE[name].method
    cell = CELLS.get(name, "simple_rnn")
    alone = contextlib.nullcontext()
    # Its number of updates is drawn, which a graph cannot unroll.
    options = stateful, cell, name == "artbp_cut"
    expected = trained(make, alone, *options)
    found = trained(make, replicas.strategy().scope(), *options)
    for mine, others in zip(found[0], expected[0], strict=True):
        np.testing.assert_allclose(mine, others, rtol=0, atol=1e-6)
    for name in {*expected[1]} - APART:
        assert found[1][name] == pytest.approx(expected[1][name], rel=1e-5)
    for mine, others in zip(found[2], expected[2], strict=True):
        np.testing.assert_allclose(mine, others, rtol=1e-5, atol=1e-5)


def test_updates_as_often_as_cuts_are_drawn_are_refused():
    method = ksg.methods.ARTBP(3, update="cut")
    with replicas.strategy().scope():
        with pytest.raises(
            ValueError, match="one replica, or run_eagerly=True, received 2"
        ):
            ksg.SequenceModel.from_model(zoo.network("simple_rnn")).compile(
                "sgd", "mse", method=method, jit_compile=False
            )
