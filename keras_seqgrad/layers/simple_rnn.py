"""Keras' SimpleRNN layer on the scan of this package."""

from typing import Any

import keras

from keras_seqgrad.layers.documentation import of_layer
from keras_seqgrad.layers.truncated import Truncated
from keras_seqgrad.tensors import arguments
from keras_seqgrad.truncation import Truncation


@keras.saving.register_keras_serializable("keras_seqgrad")
@of_layer
class SimpleRNN(Truncated, keras.layers.SimpleRNN):
    """`keras.layers.SimpleRNN`, linear in time under XLA, with truncation.

    {purpose}

    Not the choice where memory over many steps matters: its gradient grows or
    fades exponentially with the distance; use `GRU` or `LSTM`.

    Rule:

        h ← activation(x_t · W + h · U + b)
        backward: dh before step t is multiplied by gate_t

    {gradient}

    Args:
        units: Number of units.
        {arguments}
        **kwargs: As for `keras.layers.SimpleRNN`.

    {call}

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

    def __init__(
        self,
        units: int,
        *args: Any,
        truncation: Truncation = None,
        **kwargs: Any,
    ) -> None:
        units = arguments.positive_integer(units, "units")
        super().__init__(units, *args, truncation=truncation, **kwargs)
