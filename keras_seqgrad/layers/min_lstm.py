"""minLSTM: an LSTM whose gates and candidate do not see the state."""

import keras
import tensorflow as tf

from keras_seqgrad.layers.documentation import of_linear_layer
from keras_seqgrad.layers.linear_cell import wide
from keras_seqgrad.layers.linear_rnn import LinearRNN
from keras_seqgrad.layers.min_gru import MinCell


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_linear_layer
class MinLSTMCell(MinCell):
    """One step of minLSTM, for `keras.layers.RNN` and for generation.

    {cell_purpose}

    Rule, with f̂, î, ĥ = split(x_t · W + b), f = σ(f̂), i = σ(î):

        h ← f / (f + i) · h + i / (f + i) · g(ĥ)

    Args:
        units: Number of units.
        candidate: "linear", g(x) = x; or "positive", g(x) = x + 1/2 where
            x ≥ 0 and σ(x) below, which keeps h above 0.
        use_bias: Whether there is b.
        kernel_initializer: Of W, (features, 3 * units). Likewise
            `kernel_regularizer` and `kernel_constraint`.
        bias_initializer: Of b, (3 * units,), zeros by default. Likewise
            `bias_regularizer` and `bias_constraint`.
        {cell_arguments}

    {cell_call}

    Raises:
        ValueError: `units` or `candidate` is another.

    Reference:
        Feng et al., 2024. Were RNNs all we needed? arXiv:2410.01201.

    Example:

    >>> cell = ksg.layers.MinLSTMCell(4, candidate="positive")
    >>> h, state = cell(np.ones((2, 3)), cell.get_initial_state(2))
    >>> h.shape
    TensorShape([2, 4])
    """

    blocks = 3

    def coefficients(self, rows, inputs, earlier):
        f, i, row = self.parts(*rows)
        # f / (f + i) = σ(log f - log i), with no quotient of what may be 0.
        d = tf.math.softplus(-wide(i)) - tf.math.softplus(-wide(f))
        return tf.sigmoid(d), tf.cast(tf.sigmoid(-d), row.dtype) * row


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_linear_layer
class MinLSTM(LinearRNN):
    """minLSTM: as minGRU, with a gate to keep and a gate to take.

    {purpose}

    The two gates are divided by their sum, so that h stays a mean of what
    the inputs propose. Not the choice without a reason: `MinGRU` does as much
    with a third fewer weights; take this one where what is kept and what is
    taken should be learned apart.

    Rule, with f̂, î, ĥ = split(x_t · W + b), f = σ(f̂), i = σ(î):

        h ← f / (f + i) · h + i / (f + i) · g(ĥ)
        backward: dh before step t is multiplied by gate_t

    Args:
        *args: `units`, as for `ksg.layers.MinLSTMCell`.
        {arguments}

    {call}

    Raises:
        ValueError: An argument of the cell is another than it says,
            `unroll=True`, or a `truncation` of another kind.

    Reference:
        Feng et al., 2024. Were RNNs all we needed? arXiv:2410.01201.

    Example:

    >>> layer = ksg.layers.MinLSTM(4, return_sequences=True)
    >>> layer(np.ones((2, 5, 3))).shape
    TensorShape([2, 5, 4])
    """

    cell_class = MinLSTMCell
