"""LRU: a complex diagonal recurrence between two linear maps."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.layers.documentation import of_linear_layer
from keras_seqgrad.layers.linear_cell import LinearCell, wide
from keras_seqgrad.layers.linear_rnn import LinearRNN
from keras_seqgrad.tensors import arguments


def normal(scale):
    """Normal numbers of variance `scale` over the inputs of a product.

    As a configuration, of which every cell makes one with a seed of its own.
    """
    options = {"mode": "fan_in", "distribution": "untruncated_normal"}
    return {
        "class_name": "VarianceScaling",
        "config": {"scale": scale, **options},
    }


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_linear_layer
class LRUCell(LinearCell):
    """One step of the LRU, for `keras.layers.RNN` and for generation.

    {cell_purpose}

    Rule, with complex λ = exp(-e^ν + i · e^θ), B and C:

        s ← λ · s + e^γ · (B · x_t)
        y = Re(C · s) + D · x_t

    λ starts uniformly on the ring between `min_radius` and `max_radius`, up to
    the angle `max_phase`; γ = log √(1 - |λ|²), so that s starts with the size
    of its inputs; B, C and D are normal with variances 1 / (2 · features) a
    part, 1 / units a part, and 1. |λ| stays below 1 whatever ν. The state is
    [Re s, Im s], each (batch, units); λ and γ are float32 at least.

    Args:
        units: Number of complex units.
        output_size: Width of y, None for that of the inputs.
        use_feedthrough: Whether there is D, which needs y to be as wide as
            the inputs.
        min_radius: Least |λ| at the start.
        max_radius: Largest |λ| at the start.
        max_phase: Largest angle of λ at the start.
        kernel_initializer: Of B, (features, 2 * units), the real part first.
            Likewise `kernel_regularizer` and `kernel_constraint`.
        output_initializer: Of C, (2 * units, output_size), the real part
            first. Likewise `output_regularizer` and `output_constraint`.
        feedthrough_initializer: Of D, (output_size,). Likewise
            `feedthrough_regularizer` and `feedthrough_constraint`.
        {cell_arguments}

    {cell_call}

    Raises:
        ValueError: The radii are not 0 <= min_radius <= max_radius <= 1, or
            D does not fit the outputs.

    Reference:
        Orvieto et al., 2023. Resurrecting recurrent neural networks for long
        sequences. arXiv:2303.06349.

    Example:

    >>> cell = ksg.layers.LRUCell(4)
    >>> cell.build((2, 3))
    >>> y, state = cell(np.ones((2, 3)), cell.get_initial_state(2))
    >>> y.shape, len(state)
    (TensorShape([2, 3]), 2)
    """

    weight_kinds = {
        "kernel": normal(0.5),
        # Both parts are inputs of the product: twice the fan.
        "output": normal(2.0),
        "feedthrough": {
            "class_name": "RandomNormal",
            "config": {"stddev": 1.0},
        },
    }
    scanned = 2
    state_is_output = False

    def __init__(
        self,
        units: int,
        *,
        output_size: int | None = None,
        use_feedthrough: bool = True,
        min_radius: float = 0.0,
        max_radius: float = 1.0,
        max_phase: float = 2 * np.pi,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, **kwargs)
        if output_size is not None:
            output_size = arguments.positive_integer(output_size, "output_size")
        min_radius, max_radius = (
            arguments.number(radius, name, least=0, most=1)
            for name, radius in (
                ("min_radius", min_radius),
                ("max_radius", max_radius),
            )
        )
        if min_radius > max_radius:
            raise ValueError(
                "Expected 0 <= min_radius <= max_radius <= 1. Received: "
                f"min_radius={min_radius!r}, max_radius={max_radius!r}"
            )
        self.given_output_size = output_size
        self.adapt_to(None)
        self.use_feedthrough = arguments.flag(
            use_feedthrough, "use_feedthrough"
        )
        self.min_radius, self.max_radius = min_radius, max_radius
        self.max_phase = arguments.number(max_phase, "max_phase", least=0)
        self.state_size = [self.units, self.units]

    def adapt_to(self, features):
        self.output_size = self.given_output_size or features

    def build(self, input_shape):
        features = input_shape[-1]
        self.adapt_to(features)
        if self.use_feedthrough and self.output_size != features:
            raise ValueError(
                "D · x is added to the outputs, so both must be of one width. "
                f"Expected output_size={features}, or use_feedthrough=False. "
                f"Received: output_size={self.output_size} for inputs of "
                f"{features} features"
            )
        self.kernel = self.add_weights("kernel", (features, 2 * self.units))
        self.output_kernel = self.add_weights(
            "output_kernel", (2 * self.units, self.output_size), "output"
        )
        self.feedthrough = None
        if self.use_feedthrough:
            self.feedthrough = self.add_weights("feedthrough", (features,))

        def exact(name, initializer):
            return self.add_weight(
                name=name,
                shape=(self.units,),
                initializer=initializer,
                autocast=False,
            )

        self.nu = exact("nu", self.draw_nu)
        self.theta = exact("theta", self.draw_theta)
        self.gamma = exact("gamma", self.norming)

    def draw_nu(self, shape: Any, dtype: Any = None) -> Any:
        """ν of which |λ|² is uniform on the ring."""
        low, high = self.min_radius**2, self.max_radius**2
        square = keras.initializers.RandomUniform(low, high)(shape, "float32")
        # Neither 0 nor 1, of which ν is infinite.
        square = tf.clip_by_value(square, 1e-12, 1.0 - 1e-6)
        return tf.cast(tf.math.log(-0.5 * tf.math.log(square)), dtype)

    def draw_theta(self, shape: Any, dtype: Any = None) -> Any:
        """θ of which the angle is uniform."""
        share = keras.initializers.RandomUniform(1e-6, 1.0)(shape, "float32")
        return tf.cast(tf.math.log(self.max_phase * share), dtype)

    def norming(self, shape: Any, dtype: Any = None) -> Any:
        """γ of which the state has the size of its inputs."""
        nu = tf.cast(tf.convert_to_tensor(self.nu), "float32")
        square = -tf.math.expm1(-2.0 * tf.exp(nu))
        return tf.cast(0.5 * tf.math.log(square), dtype)

    def recurrence(self, inputs, earlier):
        constant = [
            wide(tf.convert_to_tensor(weight))
            for weight in (self.nu, self.theta, self.gamma)
        ]
        rows = [self.project(inputs, self.kernel), *constant]
        return *self.coefficients(rows, inputs, earlier), inputs

    def coefficients(self, rows, inputs, earlier):
        row, nu, theta, gamma = rows
        radius, angle = tf.exp(-tf.exp(nu)), tf.exp(theta)
        link = tf.complex(radius * tf.cos(angle), radius * tf.sin(angle))
        parts = tf.split(row, 2, axis=-1)
        added = [tf.exp(gamma) * wide(part) for part in parts]
        return link, tf.complex(*added)

    def trace_rows(self):
        constant = [self.nu, self.theta, self.gamma]
        product = [("inputs", self.kernel)]
        return [product, *[[(None, weight)] for weight in constant]]

    def outputs(self, states, *passed):
        [inputs] = passed
        # Re((C_re + i · C_im) · s) = C_re · Re s - C_im · Im s
        parts = tf.math.real(states), -tf.math.imag(states)
        parts = tf.cast(tf.concat(parts, axis=-1), self.compute_dtype)
        outputs = self.project(parts, self.output_kernel)
        if self.feedthrough is None:
            return outputs
        return outputs + self.cast(self.feedthrough) * inputs

    def joined(self, parts):
        return tf.complex(*[wide(part) for part in parts])

    def parted(self, h):
        return [tf.math.real(h), tf.math.imag(h)]

    def get_config(self):
        config = {
            "output_size": self.given_output_size,
            "use_feedthrough": self.use_feedthrough,
            "min_radius": self.min_radius,
            "max_radius": self.max_radius,
            "max_phase": self.max_phase,
        }
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_linear_layer
class LRU(LinearRNN):
    """LRU: a complex linear recurrence, the same at all steps.

    {purpose}

    For very long, evenly sampled sequences (signals, pixels), several of them
    stacked with something nonlinear between: the layer itself is linear in
    its inputs. Not where the input must say what to keep; its λ are the same
    at all steps: use `MinGRU` or `RGLRU`.

    Rule, with complex λ = exp(-e^ν + i · e^θ), B and C:

        s ← λ · s + e^γ · (B · x_t)
        y = Re(C · s) + D · x_t
        backward: ds before step t is multiplied by gate_t

    The influence of a step on one k steps later is |λ|^k in each unit, so
    what a truncation after k steps loses is known beforehand. The state is
    [Re s, Im s]; outputs are as wide as the inputs unless `output_size` says
    otherwise. Initial values are those of the paper, see
    `ksg.layers.LRUCell`.

    Args:
        *args: `units`, as for `ksg.layers.LRUCell`.
        {arguments}

    {call}

    Raises:
        ValueError: An argument of the cell is another than it says,
            `unroll=True`, or a `truncation` of another kind.

    Reference:
        Orvieto et al., 2023. Resurrecting recurrent neural networks for long
        sequences. arXiv:2303.06349.

    Example:

    >>> layer = ksg.layers.LRU(8, max_radius=0.99, return_sequences=True)
    >>> layer(np.ones((2, 5, 3))).shape
    TensorShape([2, 5, 3])
    """

    cell_class = LRUCell
