"""The scan of a cell against Keras' own layers on the same cell."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.layers.scan import scan, state_is_output, uses_fast_scan

BATCH, STEPS, FEATURES, UNITS = 3, 4, 3, 5
# Sums of float32 numbers in another order.
CLOSE = 2e-5


class OwnCell(keras.layers.Layer):
    """One state tensor, sublayers, an output that is not the state."""

    def __init__(self, units=UNITS, rate=0.0, **kwargs):
        super().__init__(**kwargs)
        self.state_size = self.output_size = units
        self.dense = keras.layers.Dense(units)
        self.norm = keras.layers.LayerNormalization()
        self.drop = keras.layers.Dropout(rate, seed=3)

    def build(self, shape):
        self.dense.build((None, shape[-1] + self.state_size))
        self.norm.build((None, self.state_size))

    # Takes no `training`: its dropout layer learns it from the layers above.
    def call(self, inputs, states):
        joined = keras.ops.concatenate([inputs, states[0]], axis=-1)
        new = keras.ops.tanh(self.drop(self.norm(self.dense(joined))))
        return 2 * new, [new]


class SingleCell(OwnCell):
    """Returns its state as a tensor, not as a list of one."""

    def call(self, inputs, states):
        output, [new] = super().call(inputs, states)
        return output, new


def general_tanh(x):
    """Not known to the fast scans by its name."""
    return keras.ops.tanh(x)


def stack(**options):
    return keras.layers.StackedRNNCells(
        [
            keras.layers.LSTMCell(4, seed=1, **options),
            keras.layers.GRUCell(2, seed=2, **options),
            OwnCell(UNITS),
        ]
    )


CELLS = {
    "lstm": lambda: keras.layers.LSTMCell(UNITS),
    "lstm, no bias": lambda: keras.layers.LSTMCell(UNITS, use_bias=False),
    "lstm, relu": lambda: keras.layers.LSTMCell(UNITS, activation="relu"),
    "gru": lambda: keras.layers.GRUCell(UNITS),
    "gru, reset before": lambda: keras.layers.GRUCell(UNITS, reset_after=False),
    "simple": lambda: keras.layers.SimpleRNNCell(UNITS),
    "simple, relu": lambda: keras.layers.SimpleRNNCell(
        UNITS, activation="relu"
    ),
    "simple, softsign": lambda: keras.layers.SimpleRNNCell(
        UNITS, activation="softsign"
    ),
    "stack": stack,
    "own": OwnCell,
    "single state": SingleCell,
}
FAST = {"lstm", "lstm, no bias", "gru", "gru, reset before"}
FAST |= {"simple", "simple, relu"}


def random(*shape, seed=0):
    numbers = np.random.default_rng(seed).normal(size=shape)
    return tf.constant(numbers, keras.config.floatx())


def mask_from(first):
    """Random flags; in Keras a leading masked step would output zeros."""
    numbers = np.random.default_rng(first).random((BATCH, STEPS)) > 0.5
    numbers[:, :first] = True
    return tf.constant(numbers)


class Problem:
    """A cell, its layer in Keras, and inputs for both."""

    def __init__(self, cell, shape=(FEATURES,)):
        self.cell = cell
        self.layer = keras.layers.RNN(
            cell, return_sequences=True, return_state=True
        )
        self.inputs = random(BATCH, STEPS, *shape)
        self.layer.build(self.inputs.shape)
        self.state = keras.tree.map_structure(
            lambda zeros: random(*zeros.shape, seed=2),
            self.layer.get_initial_state(BATCH),
        )
        self.variables = [v.value for v in cell.trainable_variables]
        self.changing = cell.non_trainable_variables
        self.start = [v.numpy() for v in self.changing]

    def keras(self, mask=None, training=False):
        outputs, *state = self.layer(
            self.inputs,
            initial_state=self.state,
            mask=mask,
            training=training,
        )
        return outputs, state

    def scan(self, **options):
        return scan(self.cell, self.inputs, self.state, **options)

    def gradients(self, run, **options):
        """Results, and gradients for inputs, states and weights."""
        for variable, value in zip(self.changing, self.start, strict=True):
            variable.assign(value)
        given = [self.inputs, *keras.tree.flatten(self.state)]
        with tf.GradientTape() as tape:
            tape.watch(given)
            results = keras.tree.flatten(run(**options))
            loss = tf.add_n(
                [tf.reduce_sum(r * random(*r.shape, seed=4)) for r in results]
            )
        return results, tape.gradient(loss, given + self.variables)


def assert_close(found, expected, tolerance=CLOSE):
    for a, b in zip(
        keras.tree.flatten(found), keras.tree.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    "name, jit",
    [(name, True) for name in CELLS] + [("lstm", False), ("stack", False)],
)
def test_equals_keras(name, jit):
    problem = Problem(CELLS[name]())
    assert uses_fast_scan(problem.cell, training=True) == (name in FAST)
    mask = mask_from(1)
    expected = problem.gradients(problem.keras, mask=mask)
    found = tf.function(problem.gradients, jit_compile=jit)(
        problem.scan, mask=mask
    )
    assert_close(found, expected)


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


class TestDropout:
    """The backward pass sees the numbers that the forward pass drew."""

    CELLS = {
        "lstm": lambda: keras.layers.LSTMCell(UNITS, dropout=0.3, seed=1),
        "gru": lambda: keras.layers.GRUCell(UNITS, dropout=0.3, seed=1),
        "simple": lambda: keras.layers.SimpleRNNCell(
            UNITS, dropout=0.3, seed=1
        ),
        "lstm, recurrent": lambda: keras.layers.LSTMCell(
            UNITS, dropout=0.3, recurrent_dropout=0.3, seed=1
        ),
        "gru, one by one": lambda: keras.layers.GRUCell(
            UNITS, dropout=0.3, implementation=1, seed=1
        ),
        "simple, recurrent": lambda: keras.layers.SimpleRNNCell(
            UNITS, recurrent_dropout=0.3, seed=1
        ),
        "stack": lambda: stack(dropout=0.3, recurrent_dropout=0.3),
        "own": lambda: OwnCell(rate=0.4),
    }
    FAST = {"lstm", "gru", "simple"}

    @pytest.fixture(autouse=True)
    def double_precision(self):
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("float64")
        yield
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")

    @pytest.mark.parametrize(
        "name, jit",
        [(name, False) for name in CELLS]
        + [("lstm", True), ("lstm, recurrent", True), ("own", True)],
    )
    def test_equals_finite_differences(self, name, jit):
        problem = Problem(self.CELLS[name]())
        assert uses_fast_scan(problem.cell, True) == (name in self.FAST)

        @tf.function(jit_compile=jit)
        def loss_and_slope():
            results, gradients = problem.gradients(
                problem.scan, training=True, mask=mask_from(1)
            )
            loss = sum(
                tf.reduce_sum(r * random(*r.shape, seed=4)) for r in results
            )
            # Of the weights; inputs and states come first.
            slopes = gradients[-len(problem.variables) :]
            drawn = [tf.identity(v) for v in problem.changing]
            return results, loss, slopes, drawn

        _, _, slopes, drawn = loss_and_slope()
        directions = [
            random(*v.shape, seed=i) for i, v in enumerate(problem.variables)
        ]
        losses = []
        for step in (1e-6, -2e-6):
            for variable, direction in zip(
                problem.variables, directions, strict=True
            ):
                variable.assign_add(step * direction)
            losses.append(loss_and_slope()[1])
        found = sum(
            tf.reduce_sum(slope * direction)
            for slope, direction in zip(slopes, directions, strict=True)
        )
        expected = (losses[0] - losses[1]) / 2e-6
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        # Something was drawn, and the generators stand where it left them.
        for now, before, after in zip(
            problem.changing, problem.start, drawn, strict=True
        ):
            assert now.numpy().tolist() == after.numpy().tolist()
            if name != "stack":
                assert now.numpy()[1] > before[1]

    def test_equals_keras_with_the_same_masks(self):
        problem = Problem(self.CELLS["lstm"]())
        expected = problem.gradients(problem.keras, training=True)
        found = problem.gradients(problem.scan, training=True)
        assert_close(found, expected, tolerance=1e-10)
        without = problem.gradients(problem.scan, training=False)
        assert not np.allclose(found[0][0], without[0][0])

    def test_masks_do_not_outlive_the_scan(self):
        problem = Problem(self.CELLS["lstm, recurrent"]())
        first = problem.scan(training=True)[0]
        second = problem.scan(training=True)[0]
        assert not np.allclose(first, second)


def test_moving_statistics_are_counted_once():
    class NormalizedCell(OwnCell):
        def __init__(self):
            super().__init__()
            self.norm = keras.layers.BatchNormalization(momentum=0.5)

    problem = Problem(NormalizedCell())
    problem.gradients(problem.keras, training=True)
    # Keras runs the first step once more, to see its shape.
    problem.gradients(problem.scan, training=True)
    once = [v.numpy() for v in problem.changing]
    for variable, value in zip(problem.changing, problem.start, strict=True):
        variable.assign(value)
    problem.scan(training=True)
    forward_only = [v.numpy() for v in problem.changing]
    assert_close(once, forward_only)
    assert not np.allclose(once[0], problem.start[0])


@pytest.mark.parametrize(
    "name, policy, jit",
    [
        ("lstm", "mixed_float16", True),
        ("gru", "mixed_float16", False),
        ("simple", "mixed_bfloat16", False),
        ("stack", "mixed_bfloat16", True),
        ("own", "mixed_float16", False),
    ],
)
def test_mixed_precision(name, policy, jit):
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

    found = tf.function(problem.gradients, jit_compile=jit)(run)
    tolerance = 0.01 if policy == "mixed_float16" else 0.1
    for a, b in zip(
        keras.tree.flatten(found), keras.tree.flatten(expected), strict=True
    ):
        assert tf.norm(a - b) < tolerance * tf.norm(b)
    assert {d.dtype for d in found[1]} == {tf.float32}


def test_state_is_output():
    assert state_is_output(keras.layers.LSTMCell(2))
    assert state_is_output(keras.layers.GRUCell(2, recurrent_dropout=0.5))
    assert not state_is_output(OwnCell())
    assert state_is_output(keras.layers.SimpleRNNCell(2, activation="elu"))


@pytest.mark.parametrize(
    "cell, in_training",
    [
        (keras.layers.LSTMCell(2, recurrent_activation="tanh"), None),
        (keras.layers.LSTMCell(2, dropout=0.5), True),
        (keras.layers.LSTMCell(2, dropout=0.5, implementation=1), False),
        (keras.layers.GRUCell(2, recurrent_dropout=0.5), False),
        (keras.layers.GRUCell(2, implementation=1), True),
        (keras.layers.SimpleRNNCell(2, activation=None), True),
        (keras.layers.SimpleRNNCell(2, activation="elu"), None),
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
