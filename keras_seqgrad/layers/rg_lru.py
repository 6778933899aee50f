"""RG-LRU: a real diagonal recurrence with an input gate and a decay gate."""

from typing import Any

import keras
import tensorflow as tf

from keras_seqgrad.layers.documentation import of_linear_layer
from keras_seqgrad.layers.linear_cell import LinearCell, wide
from keras_seqgrad.layers.linear_rnn import LinearRNN
from keras_seqgrad.ops import common
from keras_seqgrad.tensors import arguments
from keras_seqgrad.tensors.shape import shape_of

# log a = -SHARPNESS · softplus(p) · r
SHARPNESS = 8.0
STEEPEST = 1000.0


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_linear_layer
class RGLRUCell(LinearCell):
    """One step of the RG-LRU, for `keras.layers.RNN` and for generation.

    {cell_purpose}

    Rule, with r̂, î = x_t · W + b, W block-diagonal with `heads` blocks:

        a = exp(-8 · softplus(p) · σ(r̂))
        h ← a · h + √(1 - a²) · σ(î) · x_t

    At the first step of a sequence, and the first after a reset, a = 0: the
    state is σ(î) · x_t alone. That a sequence has begun is the second tensor
    of the state, (batch, 1): 0 before the first step, 1 after it. p is drawn
    so that exp(-softplus(p)) has its square uniform between those of
    `min_radius` and `max_radius`. The slope of the root is capped at 1000,
    where it would be infinite for a = 1.

    Args:
        units: Number of units, which is that of the inputs' features.
        heads: Number of blocks of W; it divides `units`.
        min_radius: Least of exp(-softplus(p)) at the start; the factor of a
            step at which r = 1 is its eighth power.
        max_radius: The largest.
        kernel_initializer: Of W, (heads, units / heads, 2 * units / heads),
            "lecun_normal" of each block by default. Likewise
            `kernel_regularizer` and `kernel_constraint`.
        bias_initializer: Of b, (heads, 2 * units / heads), zeros by default.
            Likewise `bias_regularizer` and `bias_constraint`.
        {cell_arguments}

    {cell_call}

    Raises:
        ValueError: `heads` does not divide `units`, the radii are not
            0 < min_radius <= max_radius < 1, or the inputs have not `units`
            features.

    Reference:
        De et al., 2024. Griffin: mixing gated linear recurrences with local
        attention for efficient language models. arXiv:2402.19427.

    Example:

    >>> cell = ksg.layers.RGLRUCell(4, heads=2)
    >>> h, state = cell(np.ones((2, 4)), cell.get_initial_state(2))
    >>> h.shape
    TensorShape([2, 4])
    """

    weight_kinds = {"kernel": "lecun_normal", "bias": "zeros"}

    def __init__(
        self,
        units: int,
        *,
        heads: int = 1,
        min_radius: float = 0.9,
        max_radius: float = 0.999,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, **kwargs)
        heads = arguments.positive_integer(heads, "heads")
        if self.units % heads:
            raise ValueError(
                "`heads` must divide `units`. Received: "
                f"heads={heads!r} with units={units}"
            )
        min_radius, max_radius = (
            arguments.number(
                radius,
                name,
                above=0,
                below=1,
                wanted="a number, 0 < min_radius <= max_radius < 1",
            )
            for name, radius in (
                ("min_radius", min_radius),
                ("max_radius", max_radius),
            )
        )
        if min_radius > max_radius:
            raise ValueError(
                "Expected 0 < min_radius <= max_radius < 1. Received: "
                f"min_radius={min_radius!r}, max_radius={max_radius!r}"
            )
        self.heads = heads
        self.min_radius, self.max_radius = min_radius, max_radius
        self.state_size = [self.units, 1]

    def build(self, input_shape):
        if input_shape[-1] != self.units:
            raise ValueError(
                f"The RG-LRU gates its inputs and has as many units as they "
                f"have features. Expected {self.units} features. Received: "
                f"inputs of shape {tuple(input_shape)}. Put a "
                f"keras.layers.Dense({self.units}) before it."
            )
        width = self.units // self.heads

        def blocks(shape, dtype=None):
            # Side by side, so that each has the fans of its own width.
            drawn = self.kernel_initializer(
                (width, self.heads * 2 * width), dtype=dtype
            )
            drawn = tf.reshape(drawn, [width, self.heads, 2 * width])
            return tf.transpose(drawn, [1, 0, 2])

        self.kernel = self.add_weights(
            "kernel", (self.heads, width, 2 * width), initializer=blocks
        )
        self.bias = self.add_weights("bias", (self.heads, 2 * width))
        self.decay = self.add_weight(
            name="decay",
            shape=(self.units,),
            initializer=self.draw_decay,
            autocast=False,
        )

    def draw_decay(self, shape: Any, dtype: Any = None) -> Any:
        """p, by its law."""
        low, high = self.min_radius**2, self.max_radius**2
        square = keras.initializers.RandomUniform(low, high)(shape, "float32")
        drawn = tf.math.log(tf.math.expm1(-0.5 * tf.math.log(square)))
        return tf.cast(drawn, dtype or self.variable_dtype)

    def recurrence(self, inputs, earlier):
        shape = shape_of(inputs)
        width = self.units // self.heads
        split = tf.reshape(inputs, [*shape[:2], self.heads, width])
        rows = tf.einsum("tbhi,hio->tbho", split, self.cast(self.kernel))
        rows += self.cast(self.bias)
        r, i = (
            common.with_shape(tf.reshape(half, shape), inputs.shape)
            for half in tf.split(rows, 2, axis=-1)
        )
        decay = tf.cast(tf.convert_to_tensor(self.decay), wide(r).dtype)
        return self.coefficients([r, i, decay], inputs, earlier)

    def coefficients(self, rows, inputs, earlier):
        r, i, decay = rows
        [begun] = earlier
        rate = SHARPNESS * tf.math.softplus(decay)
        exponent = -rate * tf.sigmoid(wide(r))
        first = begun == 0
        a = tf.where(first, tf.zeros_like(exponent), tf.exp(exponent))
        factor = _root(-tf.math.expm1(2.0 * exponent))
        factor = tf.where(first, tf.ones_like(factor), factor)
        return a, tf.cast(factor, inputs.dtype) * tf.sigmoid(i) * inputs

    def trace_rows(self):
        halves = zip(
            tf.split(tf.convert_to_tensor(self.kernel), 2, axis=-1),
            tf.split(tf.convert_to_tensor(self.bias), 2, axis=-1),
            strict=True,
        )
        rows = [
            [("inputs", kernel), (None, tf.reshape(bias, [self.units]))]
            for kernel, bias in halves
        ]
        return [*rows, [(None, self.decay)]]

    def remembered(self, inputs):
        return [tf.ones_like(inputs[..., :1])]

    def get_config(self):
        config = {
            "heads": self.heads,
            "min_radius": self.min_radius,
            "max_radius": self.max_radius,
        }
        return {**super().get_config(), **config}


@tf.custom_gradient
def _root(square):
    root = tf.sqrt(square)

    def gradient(d_root):
        # 1 / (2 · root) without the division by 0.
        return d_root / tf.maximum(2.0 * root, 1.0 / STEEPEST)

    return root, gradient


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_linear_layer
class RGLRU(LinearRNN):
    """RG-LRU: how fast a unit forgets is its own, and gated by the input.

    {purpose}

    For long memory on smooth or high-dimensional inputs, with a product
    before it that makes the `units` features; the block of the paper is
    Dense → short convolution → RG-LRU, times a gated branch. Not for few
    features: its gates see what it holds, no more.

    Rule, with r̂, î = x_t · W + b, W block-diagonal with `heads` blocks:

        a = exp(-8 · softplus(p) · σ(r̂)), at the first step 0
        h ← a · h + √(1 - a²) · σ(î) · x_t
        backward: dh before step t is multiplied by gate_t

    The state is [h, begun], see `ksg.layers.RGLRUCell`: to go on from an h
    of your own, give [h, ones].

    Args:
        *args: `units`, as for `ksg.layers.RGLRUCell`.
        {arguments}

    {call}

    Raises:
        ValueError: An argument of the cell is another than it says,
            `unroll=True`, or a `truncation` of another kind.

    Reference:
        De et al., 2024. Griffin: mixing gated linear recurrences with local
        attention for efficient language models. arXiv:2402.19427.

    Example:

    >>> layer = ksg.layers.RGLRU(4, heads=2, return_sequences=True)
    >>> layer(np.ones((2, 5, 4))).shape
    TensorShape([2, 5, 4])
    """

    cell_class = RGLRUCell
