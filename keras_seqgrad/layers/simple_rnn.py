"""Keras' SimpleRNN layer on the scan of this package."""

import keras

from keras_seqgrad.layers.truncated import Truncated


@keras.saving.register_keras_serializable("keras_seqgrad")
class SimpleRNN(Truncated, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN`, linear in time under XLA, with truncation.

    Takes the arguments of the Keras layer, has its weights in its order, and
    gives its outputs, states and masks. Use it in place of the Keras layer
    for long sequences with `jit_compile=True`, where the Keras layer's
    gradient takes time that grows with the square of the length, or to train
    a plain `keras.Model` with truncated gradients. A `SequenceModel` needs no
    layer of this kind: it runs the layers of Keras on the same scan.

    Not the choice where memory over many steps matters: its gradient grows or
    fades exponentially with the distance; use `GRU` or `LSTM`.

    Rule:

        h ← activation(x_t · W + h · U + b)
        backward: dh before step t is multiplied by gate_t

    The gradient is exact without `truncation` and whenever `training` is
    False; unbiased with `Random`; biased with `Fixed`. Truncation saves no
    time here: it changes the gradient, not its cost.

    Args:
        units: Number of units.
        *args: Further arguments by position, as for `keras.layers.SimpleRNN`.
        truncation: None for the full gradient, a number of steps or
            `ksg.truncation.Fixed(length)` for a cut after every so many
            steps, `ksg.truncation.Random(mean_length, alpha)` for random cuts
            with compensation, drawn anew for each batch and row.
        **kwargs: As for `keras.layers.SimpleRNN`.

    Call arguments:
        sequences: (batch, time, features).
        initial_state: (batch, units), or None for zeros.
        mask: Boolean (batch, time), True = valid.
        training: Whether dropout and truncation apply.

    Returns:
        (batch, units), or (batch, time, units) with `return_sequences=True`;
        followed by the state with `return_state=True`.

    Raises:
        ValueError: `unroll=True`, or a `truncation` of another kind.

    Reference:
        Elman, 1990. Finding structure in time. For the truncation see
        `ksg.truncation`.

    Example:

    >>> layer = ksg.layers.SimpleRNN(4, truncation=10)
    >>> layer(np.ones((2, 5, 3))).shape
    TensorShape([2, 4])
    """

    def __init__(self, units, *args, truncation=None, **kwargs):
        super().__init__(units, *args, truncation=truncation, **kwargs)
