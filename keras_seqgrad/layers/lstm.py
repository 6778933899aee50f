"""Keras' LSTM layer on the scan of this package."""

import keras

from keras_seqgrad.layers.documentation import of_layer
from keras_seqgrad.layers.truncated import WithoutCudnn


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_layer
class LSTM(WithoutCudnn, keras.layers.LSTM):
    """`keras.layers.LSTM`, linear in time under XLA, with truncation.

    {purpose}

    Rule, with i, f, g, o = split(x_t · W + h · U + b):

        c ← σ(f) · c + σ(i) · tanh(g),  h ← σ(o) · tanh(c)
        backward: (dh, dc) before step t is multiplied by gate_t

    {gradient}

    Args:
        units: Number of units.
        {arguments}
        {use_cudnn}
        **kwargs: As for `keras.layers.LSTM`.

    {call}

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
