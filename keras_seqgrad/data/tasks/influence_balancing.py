"""Influence balancing: short-term influence has the wrong sign."""

from typing import Any

import keras
import numpy as np

from keras_seqgrad.data.tasks.base import Task
from keras_seqgrad.tensors import arguments

START = 0.5


def matrix(units):
    """A: one half on the diagonal and one half above it."""
    return 0.5 * (np.eye(units) + np.eye(units, k=1))


def direction(units, positive):
    """v: `positive` ones, then minus ones."""
    return np.where(np.arange(units) < positive, 1.0, -1.0)


@keras.saving.register_keras_serializable("keras_seqgrad")
class InfluenceBalancingCell(keras.layers.Layer):
    """The linear system of the task as a Keras RNN cell with one weight.

        s' = A s + theta * v,    output: the first component of s'

    s starts with ones, theta with 0.5. The input is not read: it only says how
    many steps there are. For `keras.layers.RNN` and everything that takes a
    cell.

    Shapes: inputs (batch, any), state (batch, units), output (batch, 1).

    Args:
        units: Components of the state.
        positive: How many of them theta pushes up; the others it pushes down.

    Raises:
        ValueError: A number is not a positive integer.

    Example:

    >>> cell = ksg.data.tasks.InfluenceBalancingCell()
    >>> layer = keras.layers.RNN(cell, return_sequences=True)
    >>> layer(np.zeros((1, 3, 1))).shape
    TensorShape([1, 3, 1])
    """

    def __init__(
        self, units: int = 23, positive: int = 10, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.units = arguments.positive_integer(units, "units")
        self.positive = arguments.positive_integer(positive, "positive")
        self.state_size = self.units
        self.output_size = 1

    def build(self, input_shape):
        self.theta = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(START),
            name="theta",
        )

    def call(self, inputs, states, training=False):
        state = states[0]
        transposed = keras.ops.cast(matrix(self.units).T, state.dtype)
        push = keras.ops.cast(direction(self.units, self.positive), state.dtype)
        state = keras.ops.matmul(state, transposed) + self.theta * push
        return state[:, :1], [state]

    def trace_rule(self) -> Any:
        """For `ksg.methods.SnAp`, which follows each unit by itself."""
        kind = self.variable_dtype
        push = keras.ops.cast(direction(self.units, self.positive), kind)
        transposed = keras.ops.cast(matrix(self.units).T, kind)
        product = [(0, transposed), (None, self.theta * push)]
        return [product], lambda inputs, rows, states: rows

    def get_initial_state(self, batch_size: Any = None) -> list:
        return [keras.ops.ones((batch_size, self.units), self.compute_dtype)]

    def get_config(self):
        config = super().get_config()
        return {**config, "units": self.units, "positive": self.positive}


class InfluenceBalancing(Task):
    """Learn one number whose influence on the near future is misleading.

    A linear system of 23 units in a chain, pushed by one parameter theta: up
    in 10 of them, down in 13. Only the first is seen, and it should be 1. What
    reaches it at first is the push of its near neighbours, up; in the long run
    the other 13 win. So a truncated gradient has the wrong sign and training
    diverges, until truncation reaches far beyond 100 steps. The test of whether
    a gradient is unbiased; no test of memory.

    Model: `keras.layers.RNN(ksg.data.tasks.InfluenceBalancingCell(),
    return_sequences=True, stateful=True)`, loss 1/2 (s - 1)^2 for each step,
    that is half of Keras' mean squared error.

    Shapes: x float32 (batch, length, 1), zeros; y float32 (batch, length, 1),
    ones. Nothing is random: batch size 1 is enough.

    Known figures, for the default sizes:

    * `sensitivity` ds/dtheta at the fixed point: 2 (10 - 13) = -6;
    * `optimum` of theta: -1/6;
    * `truncated_sensitivity(k)` with a cut every k steps: positive, which is
      the wrong sign, up to k = 109;
    * `reference_error`, the loss at the fixed point of the initial theta.

    Args:
        length: Steps of a window.
        units: Components of the state.
        positive: How many of them theta pushes up.

    Raises:
        ValueError: A number is not a positive integer.

    Reference:
        Tallec and Ollivier, 2017. Unbiasing truncated backpropagation through
        time. arXiv:1705.08209.

    Example:

    >>> task = ksg.data.tasks.InfluenceBalancing(length=100)
    >>> task.sensitivity, round(task.optimum, 4)
    (-6.0, -0.1667)
    """

    def __init__(
        self, length: int, units: int = 23, positive: int = 10
    ) -> None:
        self.length = arguments.positive_integer(length, "length")
        self.units = arguments.positive_integer(units, "units")
        self.positive = arguments.positive_integer(positive, "positive")

    @property
    def matrix(self) -> np.ndarray:
        """A, float64 (units, units)."""
        return matrix(self.units)

    @property
    def direction(self) -> np.ndarray:
        """v, float64 (units,)."""
        return direction(self.units, self.positive)

    @property
    def sensitivity(self) -> float:
        """ds/dtheta of the first component at the fixed point."""
        # (I - A)^-1 has the row 2, 2, 2, ... on top.
        return float(2.0 * self.direction.sum())

    @property
    def optimum(self) -> float:
        """The theta at which the first component settles at 1."""
        return 1.0 / self.sensitivity

    @property
    def reference_error(self):
        return 0.5 * (self.sensitivity * START - 1.0) ** 2

    def truncated_sensitivity(self, length: int) -> float:
        """ds/dtheta as truncation every `length` steps sees it.

        At step k of a window only its k steps count, the first component of
        (I + A + ... + A^(k-1)) v; the mean over k = 1 ... length.
        """
        arguments.positive_integer(length, "length")
        seen, total, term = 0.0, 0.0, self.direction
        for _ in range(length):
            seen += term[0]
            total += seen
            term = self.matrix @ term
        return float(total / length)

    def gradient(self, theta: float, steps: int) -> tuple[float, float]:
        """Exact mean loss of `steps` steps from the start, and its gradient.

        Forward accumulation in float64, independent of any autodiff.

        Returns:
            Pair (loss, d loss / d theta).
        """
        theta = arguments.number(theta, "theta")
        arguments.positive_integer(steps, "steps")
        state, slope = np.ones(self.units), np.zeros(self.units)
        loss, gradient = 0.0, 0.0
        for _ in range(steps):
            state = self.matrix @ state + theta * self.direction
            slope = self.matrix @ slope + self.direction
            loss += 0.5 * (state[0] - 1.0) ** 2
            gradient += (state[0] - 1.0) * slope[0]
        return float(loss / steps), float(gradient / steps)

    def draw(self, count, generator):
        x = np.zeros((count, self.length, 1), dtype="float32")
        return x, np.ones_like(x)
