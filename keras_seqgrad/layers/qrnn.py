"""QRNN: gates from a convolution over steps, and pooling over time."""

from typing import Any, Literal

import keras
import tensorflow as tf

from keras_seqgrad.layers.documentation import of_linear_layer
from keras_seqgrad.layers.linear_cell import LooksBack, wide
from keras_seqgrad.layers.linear_rnn import LinearRNN
from keras_seqgrad.tensors import arguments

POOLINGS = {"f": 2, "fo": 3}


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_linear_layer
class QRNNCell(LooksBack):
    """One step of a QRNN, for `keras.layers.RNN` and for generation.

    {cell_purpose}

    Rule, with ẑ, f̂, ô = split(sum over j of x_{t-j} · W_{window-1-j} + b):

        c ← σ(f̂) · c + (1 - σ(f̂)) · tanh(ẑ)
        output c (pooling "f") or σ(ô) · c (pooling "fo")

    The state is [c, x_{t-1}, ...], window - 1 inputs: those at the last steps
    that were not masked, zeros at the start and after a reset. How wide it
    is, the cell knows when it is built: in a functional model with
    `return_state=True` use `ksg.layers.QRNN`, which asks it then.

    Args:
        units: Number of units.
        window: Number of steps that a gate looks at.
        pooling: "f" or "fo".
        use_bias: Whether there is b.
        kernel_initializer: Of W, (window, features, 2 or 3 * units), the
            last step last. Likewise `kernel_regularizer` and
            `kernel_constraint`.
        bias_initializer: Of b, (2 or 3 * units,), zeros by default. Likewise
            `bias_regularizer` and `bias_constraint`.
        {cell_arguments}

    {cell_call}

    Raises:
        ValueError: `units` or `window` is no positive integer, or `pooling`
            is another.

    Reference:
        Bradbury et al., 2016. Quasi-recurrent neural networks.
        arXiv:1611.01576.

    Example:

    >>> cell = ksg.layers.QRNNCell(4, window=1)
    >>> output, state = cell(np.ones((2, 3)), cell.get_initial_state(2))
    >>> output.shape
    TensorShape([2, 4])
    """

    weight_kinds = {"kernel": "glorot_uniform", "bias": "zeros"}

    def __init__(
        self,
        units: int,
        *,
        window: int = 2,
        pooling: Literal["f", "fo"] = "fo",
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, **kwargs)
        self.window = arguments.positive_integer(window, "window")
        self.delays = self.window - 1
        self.pooling = arguments.choice(pooling, "pooling", list(POOLINGS))
        self.use_bias = arguments.flag(use_bias, "use_bias")
        self.state_is_output = pooling == "f"
        self.adapt_to(None)

    def build(self, input_shape):
        features = input_shape[-1]
        self.adapt_to(features)
        width = POOLINGS[self.pooling] * self.units
        self.kernel = self.add_weights("kernel", (self.window, features, width))
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weights("bias", (width,))

    def recurrence(self, inputs, earlier):
        # One product over the window, which stands side by side.
        series = tf.concat([*reversed(earlier), inputs], axis=-1)
        kernel = tf.concat(tf.unstack(self.cast(self.kernel)), axis=0)
        rows = self.project(series, kernel, self.bias)
        blocks = POOLINGS[self.pooling]
        row, *o = tf.split(
            rows, [2 * self.units, *[self.units] * (blocks - 2)], axis=-1
        )
        return *self.coefficients([row], inputs, earlier), *o

    def coefficients(self, rows, inputs, earlier):
        z, f = tf.split(rows[0], 2, axis=-1)
        return tf.sigmoid(wide(f)), tf.sigmoid(-f) * tf.tanh(z)

    def trace_rows(self):
        # What gates the output has moved no state.
        width = 2 * self.units
        *first, last = tf.unstack(self.kernel[..., :width])
        row = [*enumerate(reversed(first), 1), ("inputs", last)]
        if self.bias is not None:
            row.append((None, self.bias[:width]))
        return [row]

    def outputs(self, states, *passed):
        return tf.sigmoid(passed[0]) * states if passed else states

    def get_config(self):
        config = {
            "window": self.window,
            "pooling": self.pooling,
            "use_bias": self.use_bias,
        }
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_linear_layer
class QRNN(LinearRNN):
    """QRNN: convolutions over a few steps, pooled by learned gates.

    {purpose}

    With window 2 each gate sees two neighbouring inputs, which suits
    characters and words: the language model of the paper on alternating
    synthetic gradients is made of these. Not where the window costs more than
    it brings: window 1 with pooling "f" is `MinGRU` with a tanh.

    Rule, with ẑ, f̂, ô = split(sum over j of x_{t-j} · W_{window-1-j} + b):

        c ← σ(f̂) · c + (1 - σ(f̂)) · tanh(ẑ)
        output c (pooling "f") or σ(ô) · c (pooling "fo")
        backward: dc, and the gradients of x_{t-1}, x_{t-2}, ..., before step
            t are multiplied by gate_t

    The state is [c, x_{t-1}, ...], window - 1 inputs.

    Args:
        *args: `units`, as for `ksg.layers.QRNNCell`.
        {arguments}

    {call}

    Raises:
        ValueError: An argument of the cell is another than it says,
            `unroll=True`, or a `truncation` of another kind.

    Reference:
        Bradbury et al., 2016. Quasi-recurrent neural networks.
        arXiv:1611.01576.

    Example:

    >>> layer = ksg.layers.QRNN(4, window=2, return_sequences=True)
    >>> layer(np.ones((2, 5, 3))).shape
    TensorShape([2, 5, 4])
    """

    cell_class = QRNNCell
