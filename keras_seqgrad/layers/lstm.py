"""Keras' LSTM layer on the scan of this package."""

import keras

from keras_seqgrad.layers.truncated import Truncated, refuse_cudnn


@keras.saving.register_keras_serializable("keras_seqgrad")
class LSTM(Truncated, keras.layers.LSTM):
    """`keras.layers.LSTM`, linear in time under XLA, with truncation.

    Takes the arguments of the Keras layer, has its weights in its order, and
    gives its outputs, states and masks. Use it in place of the Keras layer
    for long sequences with `jit_compile=True`, where the Keras layer's
    gradient takes time that grows with the square of the length, or to train
    a plain `keras.Model` with truncated gradients. A `SequenceModel` needs no
    layer of this kind: it runs the layers of Keras on the same scan.

    Not the choice for inference on a GPU without XLA, where the Keras layer
    uses cuDNN.

    Rule, with i, f, g, o = split(x_t · W + h · U + b):

        c ← σ(f) · c + σ(i) · tanh(g),  h ← σ(o) · tanh(c)
        backward: (dh, dc) before step t is multiplied by gate_t

    The gradient is exact without `truncation` and whenever `training` is
    False; unbiased with `Random`; biased with `Fixed`. Truncation saves no
    time here: it changes the gradient, not its cost.

    Args:
        units: Number of units.
        *args: Further arguments by position, as for `keras.layers.LSTM`.
        truncation: None for the full gradient, a number of steps or
            `ksg.truncation.Fixed(length)` for a cut after every so many
            steps, `ksg.truncation.Random(mean_length, alpha)` for random cuts
            with compensation, drawn anew for each batch and row.
        use_cudnn: "auto" or False; there is no cuDNN path.
        **kwargs: As for `keras.layers.LSTM`.

    Call arguments:
        sequences: (batch, time, features).
        initial_state: Two tensors (batch, units), or None for zeros.
        mask: Boolean (batch, time), True = valid.
        training: Whether dropout and truncation apply.

    Returns:
        (batch, units), or (batch, time, units) with `return_sequences=True`;
        followed by the two states with `return_state=True`.

    Raises:
        ValueError: `unroll=True`, `use_cudnn=True`, or a `truncation` of
            another kind.

    Reference:
        Hochreiter and Schmidhuber, 1997. Long short-term memory. For the
        truncation see `ksg.truncation`.

    Example:

    >>> layer = ksg.layers.LSTM(4, return_sequences=True, truncation=50)
    >>> layer(np.ones((2, 5, 3))).shape
    TensorShape([2, 5, 4])
    """

    def __init__(
        self, units, *args, truncation=None, use_cudnn="auto", **kwargs
    ):
        refuse_cudnn(use_cudnn)
        super().__init__(
            units, *args, truncation=truncation, use_cudnn=False, **kwargs
        )
