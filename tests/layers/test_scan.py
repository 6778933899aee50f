"""The scan of a cell against Keras' own layers on the same cell."""

import keras
import pytest
import tensorflow as tf

from keras_seqgrad.layers.scan import scan, state_is_output, uses_fast_scan
from tests.layers.problem import (
    BATCH,
    STEPS,
    UNITS,
    OwnCell,
    Problem,
    SingleCell,
    assert_close,
    mask_from,
    random,
    stack,
)


def general_tanh(x):
    """Not known to the fast scans by its name."""
    return keras.ops.tanh(x)


OTHERS = {"activation": "elu", "recurrent_activation": "hard_sigmoid"}
CELLS = {
    "lstm": lambda: keras.layers.LSTMCell(UNITS),
    "lstm, no bias": lambda: keras.layers.LSTMCell(UNITS, use_bias=False),
    "lstm, others": lambda: keras.layers.LSTMCell(UNITS, **OTHERS),
    "gru": lambda: keras.layers.GRUCell(UNITS),
    "gru, reset before": lambda: keras.layers.GRUCell(UNITS, reset_after=False),
    "gru, others": lambda: keras.layers.GRUCell(UNITS, **OTHERS),
    "gru, others, reset before": lambda: keras.layers.GRUCell(
        UNITS, reset_after=False, **OTHERS
    ),
    "simple": lambda: keras.layers.SimpleRNNCell(UNITS),
    "simple, relu": lambda: keras.layers.SimpleRNNCell(
        UNITS, activation="relu"
    ),
    "simple, silu": lambda: keras.layers.SimpleRNNCell(
        UNITS, activation="silu"
    ),
    "stack": stack,
    "own": OwnCell,
    "single state": SingleCell,
}
GENERAL = {"simple, silu", "stack", "own", "single state"}


@pytest.mark.parametrize("name", CELLS)
def test_equals_keras(name):
    """Compiled in tests/ops, and a user's cell in test_cells.py."""
    problem = Problem(CELLS[name]())
    assert uses_fast_scan(problem.cell, training=True) != (name in GENERAL)
    mask = mask_from(1)
    expected = problem.gradients(problem.keras, mask=mask)
    assert_close(problem.gradients(problem.scan, mask=mask), expected)


def test_convolutional_cell_equals_keras():
    convolution = keras.layers.ConvLSTM2D(2, 3, padding="same", dropout=0.2)
    problem = Problem(convolution.cell, shape=(4, 3, 2))
    mask = mask_from(1)
    expected = problem.gradients(problem.keras, mask=mask)
    assert_close(problem.gradients(problem.scan, mask=mask), expected)


@pytest.mark.parametrize(
    "kind, options",
    [
        (keras.layers.LSTMCell, {}),
        (keras.layers.GRUCell, {}),
        (keras.layers.GRUCell, {"reset_after": False}),
        (keras.layers.SimpleRNNCell, {}),
    ],
)
def test_fast_and_general_scan_agree(kind, options):
    fast = Problem(kind(UNITS, **options))
    general = Problem(kind(UNITS, activation=general_tanh, **options))
    general.cell.set_weights(fast.cell.get_weights())
    assert uses_fast_scan(fast.cell, training=True)
    assert not uses_fast_scan(general.cell, training=True)
    links = {
        # Step 0 is masked too: both repeat the state there, not zeros.
        "mask": mask_from(0),
        "gates": random(BATCH, STEPS, seed=5),
        "reset": ~mask_from(0),
        "reset_state": [s + 1 for s in fast.state],
    }
    expected = fast.gradients(fast.scan, **links)
    assert_close(general.gradients(general.scan, **links), expected)
    for name in links:
        if name != "reset":
            others = {**links, name: None}
            with pytest.raises(AssertionError):
                assert_close(
                    general.gradients(general.scan, **others), expected
                )


@pytest.mark.parametrize(
    "name, policy",
    [
        ("lstm", "mixed_float16"),
        ("gru", "mixed_float16"),
        ("simple", "mixed_bfloat16"),
        ("stack", "mixed_bfloat16"),
        ("own", "mixed_float16"),
    ],
)
def test_mixed_precision(name, policy):
    exact = Problem(CELLS[name]())
    expected = exact.gradients(exact.scan)
    keras.config.set_dtype_policy(policy)
    try:
        problem = Problem(CELLS[name]())
    finally:
        keras.config.set_dtype_policy("float32")
    for variable, value in zip(problem.variables, exact.variables, strict=True):
        variable.assign(value)

    def run(**options):
        outputs, state = problem.scan(**options)
        assert outputs.dtype == problem.cell.compute_dtype
        return keras.tree.map_structure(
            lambda t: tf.cast(t, "float32"), (outputs, state)
        )

    found = problem.gradients(run)
    tolerance = 0.01 if policy == "mixed_float16" else 0.1
    for a, b in zip(
        keras.tree.flatten(found), keras.tree.flatten(expected), strict=True
    ):
        assert tf.norm(a - b) < tolerance * tf.norm(b)
    assert {d.dtype for d in found[1]} == {tf.float32}


@pytest.mark.parametrize(
    "name", ["lstm, others", "gru, others", "gru, others, reset before"]
)
def test_a_twin_has_a_gradient_of_its_own(name):
    problem = Problem(CELLS[name]())
    given = [problem.inputs, *problem.state]
    twin = [tf.identity(tensor) for tensor in given]

    def loss(results, first):
        """Of results that weigh `first`, `first` + 1, ..."""
        parts = [tf.reduce_sum(r * (first + i)) for i, r in enumerate(results)]
        return tf.add_n(parts)

    with tf.GradientTape(persistent=True) as tape:
        tape.watch([given, twin])
        found = keras.tree.flatten(problem.scan(twin=twin))
        plain = keras.tree.flatten(problem.scan())
        both = loss(found, 1.0)
        first, second = loss(plain, 1.0), loss(plain, 1.0 + len(plain))
    assert len(found) == 2 * len(plain)
    sources = given + problem.variables
    assert_close(tape.gradient(both, sources), tape.gradient(first, sources))
    assert_close(tape.gradient(both, twin), tape.gradient(second, given))


def test_state_is_output():
    assert state_is_output(keras.layers.LSTMCell(2))
    assert state_is_output(keras.layers.GRUCell(2, recurrent_dropout=0.5))
    assert not state_is_output(OwnCell())
    assert state_is_output(keras.layers.SimpleRNNCell(2, activation="elu"))


@pytest.mark.parametrize(
    "cell, in_training",
    [
        (keras.layers.LSTMCell(2, recurrent_activation="tanh"), True),
        (keras.layers.LSTMCell(2, recurrent_activation="silu"), None),
        (keras.layers.LSTMCell(2, dropout=0.5), True),
        (keras.layers.LSTMCell(2, dropout=0.5, implementation=1), False),
        (keras.layers.GRUCell(2, recurrent_dropout=0.5), False),
        (keras.layers.GRUCell(2, implementation=1), True),
        (keras.layers.SimpleRNNCell(2, activation=None), True),
        (keras.layers.SimpleRNNCell(2, activation="elu"), True),
        (keras.layers.SimpleRNNCell(2, activation="gelu"), None),
    ],
)
def test_uses_fast_scan(cell, in_training):
    assert uses_fast_scan(cell, training=True) == bool(in_training)
    assert uses_fast_scan(cell, training=False) == (in_training is not None)


def test_refuses_a_cell_that_is_no_layer():
    class Plain:
        state_size = 2

    with pytest.raises(ValueError, match="of type Plain. Derive its class"):
        scan(Plain(), tf.ones((1, 2, 2)), [tf.zeros((1, 2))])
