"""Keras' GRU layer on the scan of this package."""

import keras

from keras_seqgrad.layers.documentation import of_layer
from keras_seqgrad.layers.truncated import WithoutCudnn


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_layer
class GRU(WithoutCudnn, keras.layers.GRU):
    """`keras.layers.GRU`, linear in time under XLA, with truncation.

    {purpose}

    Rule, for `reset_after=True` (the default; both values are covered):

        z, r = σ(x_t · W_zr + h · U_zr + b_zr)
        g = tanh(x_t · W_g + b_g + r · (h · U_g + b'_g))
        h ← z · h + (1 - z) · g
        backward: dh before step t is multiplied by gate_t

    {gradient}

    Args:
        units: Number of units.
        {arguments}
        {use_cudnn}
        **kwargs: As for `keras.layers.GRU`.

    {call}

    Raises:
        ValueError: `unroll=True`, `use_cudnn=True`, or a `truncation` of
            another kind.

    Reference:
        Cho et al., 2014. Learning phrase representations using RNN
        encoder-decoder. arXiv:1406.1078. For the truncation see
        `ksg.truncation`.

    Example:

    >>> law = ksg.truncation.Random(50)
    >>> layer = ksg.layers.GRU(4, return_sequences=True, truncation=law)
    >>> layer(np.ones((2, 5, 3))).shape
    TensorShape([2, 5, 4])
    """
