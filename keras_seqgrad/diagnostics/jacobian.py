"""The Jacobian of one step of the state: does gradient vanish or explode?"""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.diagnostics import given
from keras_seqgrad.diagnostics.steps import (
    ALL,
    TiledSteps,
    extent,
    tile,
    walk,
)
from keras_seqgrad.model import SequenceModel
from keras_seqgrad.state.vector import differentiable, join, split
from keras_seqgrad.tensors import arguments, pieces


@dataclasses.dataclass
class JacobianSpectrum:
    """Singular values of dh_t/dh_{t-1} at some steps of a window.

    What `state_jacobian_spectrum` returns. Prints as a table.

    Args:
        steps: Integers (steps,), the steps t.
        singular_values: Dict of arrays (steps, batch, units), falling, by
            layer, for what its own state does to itself, and "all" for the
            states of all layers together.

    Example:

    >>> values = {"all": np.array([[[2.0, 0.5]]])}
    >>> found = ksg.diagnostics.JacobianSpectrum([3], values)
    >>> found.largest, found.geometric_mean
    ({'all': 2.0}, {'all': 1.0})
    """

    steps: list
    singular_values: dict

    def _each(self, measure):
        return {
            name: float(measure(values))
            for name, values in self.singular_values.items()
        }

    @property
    def largest(self) -> dict[str, float]:
        """Median over steps and rows of the largest one, by layer."""
        return self._each(lambda values: np.median(values[..., 0]))

    @property
    def smallest(self) -> dict[str, float]:
        """The same for the smallest one."""
        return self._each(lambda values: np.median(values[..., -1]))

    @property
    def geometric_mean(self) -> dict[str, float]:
        """Geometric mean of all: how much a volume of states grows a step."""

        def measure(values):
            with np.errstate(divide="ignore"):
                return np.exp(np.mean(np.log(values)))

        return self._each(measure)

    def __str__(self):
        width = max(map(len, ["layer", *self.singular_values]))
        lines = [f"{'layer':<{width}}  largest  geom. mean  smallest"]
        for name in self.singular_values:
            lines.append(
                f"{name:<{width}}  {self.largest[name]:7.3g}  "
                f"{self.geometric_mean[name]:10.3g}  "
                f"{self.smallest[name]:8.2g}"
            )
        return "\n".join(lines)


def parts_of(model, state):
    """The differentiable leaves of a state by layer.

    Not those that a layer only carries beside its state, to repeat them at
    masked steps.
    """
    if model.is_opaque:
        return {ALL: differentiable(state)}
    return {
        name: differentiable(node.split(state[name])[0])
        for name, node in model.graph.nodes.items()
    }


@dataclasses.dataclass(frozen=True)
class Jacobians:
    """Jacobians at some steps of a window, as a `Probe` runs it.

    Args:
        count: Number of steps, spread evenly.
        extent: (batch size, number of steps), for which it is traced.
    """

    count: int
    extent: tuple

    def __post_init__(self):
        arguments.positive_integer(self.count, "count")
        if self.extent[1] < 2:
            raise ValueError(
                "The first step of a window may begin a sequence, whatever "
                "the state was before. Expected 2 steps or more, received "
                f"{self.extent[1]}."
            )

    def __call__(self, window, seed=None):
        """(steps, Jacobians (steps, batch, units, units))."""
        window.training = False
        model, (rows, total) = window.model, self.extent
        count = min(self.count, total - 1)
        places = np.linspace(1, total - 1, count).astype(int)
        chosen = tf.constant(places, "int32")
        _, before = walk(window)

        def flat(state):
            return keras.tree.flatten([*parts_of(model, state).values()])

        units = join(flat(window.state)).shape[1]
        steps = TiledSteps(window, units)
        # Row i of every Jacobian is pulled back from unit i of the new state.
        unit = tf.repeat(tf.eye(units), rows, axis=0)

        def body(index, found):
            start = tile(before(chosen[index]), units)
            leaves = flat(start)
            with tf.GradientTape() as tape:
                tape.watch(leaves)
                _, state = steps.forward(chosen[index], start)
                ends = flat(state)
            pulled = tape.gradient(
                ends,
                leaves,
                output_gradients=split(unit, ends),
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            jacobian = tf.reshape(join(pulled), [units, rows, units])
            return found.write(index, tf.transpose(jacobian, [1, 0, 2]))

        found = tf.TensorArray(
            "float32", len(places), element_shape=(rows, units, units)
        )
        found = pieces.repeat(len(places), body, found)
        return chosen, found.stack()


def state_jacobian_spectrum(
    model: SequenceModel, x: Any, count: int = 8
) -> JacobianSpectrum:
    """Singular values of the one-step state Jacobian.

        J_t = d h_t / d h_{t-1}

    with h the state of all recurrent layers (an LSTM's h and c), at `count`
    steps of a window, for each row. A gradient that comes back through many
    steps is a product of their transposes: it vanishes where the largest
    values are well below 1, and may explode where they stay above 1. Values
    near 1 in many directions are what memory is made of. It says nothing
    about whether the loss makes use of them: that is `influence_profile`.

    Exact. Time and memory: one step of `units * batch` rows for each of the
    steps; give fewer rows for large states. Without XLA. Layers run in
    inference mode; nothing changes. At a masked step J is the identity, at a
    reset it is 0.

    Args:
        model: A `SequenceModel`; it need not be compiled.
        x: Inputs of one window, as `fit` takes them for one batch.
        count: Number of steps t, spread evenly over the window after its
            first step.

    Returns:
        `JacobianSpectrum`.

    Raises:
        ValueError: `count` is not a positive integer, or the window a single
            step.

    Reference:
        Pascanu, Mikolov and Bengio, 2013. On the difficulty of training
        recurrent neural networks. arXiv:1211.5063.

    Example:

    >>> network = keras.Sequential([
    ...     keras.Input((None, 1)),
    ...     keras.layers.SimpleRNN(2, recurrent_initializer="orthogonal"),
    ... ])
    >>> model = ksg.SequenceModel.from_model(network)
    >>> x = np.zeros((3, 12, 1))
    >>> found = ksg.diagnostics.state_jacobian_spectrum(model, x)
    >>> found.singular_values["all"].shape, round(found.largest["all"], 4)
    ((8, 3, 2), 1.0)
    """
    given.check_model(model, compiled=False)
    x, _, _ = given.window(model, x, None)
    step = Jacobians(count, extent(model, x))
    found = model.probe(step, x, None, jit=False)
    places, jacobians = (each.numpy() for each in found)
    values = {}
    if not model.is_opaque:
        start = model.graph.zero_state(1)
        first = 0
        for name, leaves in parts_of(model, start).items():
            units = join(leaves).shape[1]
            block = slice(first, first + units)
            values[name] = svd(jacobians[:, :, block, block])
            first += units
    values[ALL] = svd(jacobians)
    return JacobianSpectrum(places.tolist(), values)


def svd(matrices):
    """Singular values of (..., units, units), falling."""
    return np.linalg.svd(matrices, compute_uv=False)
