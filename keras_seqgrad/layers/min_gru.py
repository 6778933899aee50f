"""minGRU: a GRU whose gate and candidate do not see the state."""

from typing import Any, Literal

import keras
import tensorflow as tf

from keras_seqgrad.layers.documentation import of_linear_layer
from keras_seqgrad.layers.linear_cell import LinearCell, wide
from keras_seqgrad.layers.linear_rnn import LinearRNN
from keras_seqgrad.tensors import arguments

CANDIDATES = ("linear", "positive")


class MinCell(LinearCell):
    """What minGRU and minLSTM share: one kernel, and the candidate.

    Attributes:
        blocks: Width of the kernel in units; the last is the candidate.
    """

    weight_kinds = {"kernel": "glorot_uniform", "bias": "zeros"}
    blocks = 2

    def __init__(
        self,
        units: int,
        *,
        candidate: Literal["linear", "positive"] = "linear",
        use_bias: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, **kwargs)
        self.candidate = arguments.choice(candidate, "candidate", CANDIDATES)
        self.use_bias = arguments.flag(use_bias, "use_bias")

    def build(self, input_shape):
        width = self.blocks * self.units
        self.kernel = self.add_weights("kernel", (input_shape[-1], width))
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weights("bias", (width,))

    def recurrence(self, inputs, earlier):
        row = self.project(inputs, self.kernel, self.bias)
        return self.coefficients([row], inputs, earlier)

    def trace_rows(self):
        bias = [] if self.bias is None else [(None, self.bias)]
        return [[("inputs", self.kernel), *bias]]

    def parts(self, row):
        """The gates' logits and the candidate."""
        *logits, row = tf.split(row, self.blocks, axis=-1)
        if self.candidate == "positive":
            row = tf.where(row >= 0, row + 0.5, tf.sigmoid(row))
        return *logits, row

    def get_config(self):
        config = {"candidate": self.candidate, "use_bias": self.use_bias}
        return {**super().get_config(), **config}


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_linear_layer
class MinGRUCell(MinCell):
    """One step of minGRU, for `keras.layers.RNN` and for generation.

    {cell_purpose}

    Rule, with ẑ, ĥ = split(x_t · W + b):

        h ← (1 - σ(ẑ)) · h + σ(ẑ) · g(ĥ)

    Args:
        units: Number of units.
        candidate: "linear", g(x) = x; or "positive", g(x) = x + 1/2 where
            x ≥ 0 and σ(x) below, which keeps h above 0.
        use_bias: Whether there is b.
        kernel_initializer: Of W, (features, 2 * units). Likewise
            `kernel_regularizer` and `kernel_constraint`.
        bias_initializer: Of b, (2 * units,), zeros by default. Likewise
            `bias_regularizer` and `bias_constraint`.
        {cell_arguments}

    {cell_call}

    Raises:
        ValueError: `units` or `candidate` is another.

    Reference:
        Feng et al., 2024. Were RNNs all we needed? arXiv:2410.01201.

    Example:

    >>> cell = ksg.layers.MinGRUCell(4)
    >>> h, state = cell(np.ones((2, 3)), cell.get_initial_state(2))
    >>> h.shape
    TensorShape([2, 4])
    """

    def coefficients(self, rows, inputs, earlier):
        z, row = self.parts(*rows)
        # 1 - σ(z) would be 0 or 1 too soon.
        return tf.sigmoid(-wide(z)), tf.sigmoid(z) * row


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_linear_layer
class MinGRU(LinearRNN):
    """minGRU: the state is a gated mean of what the inputs propose.

    {purpose}

    A good first choice: one gate, the fewest weights of all that choose by
    the input what to keep. Not where the state must count or be compared
    with the input inside one layer: gate and candidate do not see h; stack
    layers, or use `GRU`.

    Rule, with ẑ, ĥ = split(x_t · W + b):

        h ← (1 - σ(ẑ)) · h + σ(ẑ) · g(ĥ)
        backward: dh before step t is multiplied by gate_t

    Args:
        *args: `units`, as for `ksg.layers.MinGRUCell`.
        {arguments}

    {call}

    Raises:
        ValueError: An argument of the cell is another than it says,
            `unroll=True`, or a `truncation` of another kind.

    Reference:
        Feng et al., 2024. Were RNNs all we needed? arXiv:2410.01201.

    Example:

    >>> layer = ksg.layers.MinGRU(4, return_sequences=True, truncation=50)
    >>> layer(np.ones((2, 5, 3))).shape
    TensorShape([2, 5, 4])
    """

    cell_class = MinGRUCell
