"""What the layers over a linear cell share."""

from typing import Any

import keras

from keras_seqgrad.layers.truncated import Truncated
from keras_seqgrad.truncation import Truncation

# Arguments of `keras.layers.RNN` and of layers, which are not the cell's.
OF_THE_LAYER = (
    "activity_regularizer",
    "go_backwards",
    "name",
    "return_sequences",
    "return_state",
    "stateful",
    "unroll",
    "zero_output_for_mask",
)
OF_BOTH = ("dtype", "trainable")


class LinearRNN(Truncated, keras.layers.RNN):
    """A layer over a `LinearCell`, whose arguments it takes.

    Attributes:
        cell_class: The class of the cell.
    """

    cell_class = None

    def __init__(
        self, *args: Any, truncation: Truncation = None, **kwargs: Any
    ) -> None:
        own = {n: kwargs.pop(n) for n in OF_THE_LAYER if n in kwargs}
        own |= {name: kwargs[name] for name in OF_BOTH if name in kwargs}
        cell = self.cell_class(*args, name="cell", **kwargs)
        super().__init__(cell, truncation=truncation, **own)
        self.input_spec = keras.InputSpec(ndim=3)

    def build(self, sequences_shape, initial_state_shape=None):
        self._adapt_to(sequences_shape)
        super().build(sequences_shape)

    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        self._adapt_to(sequences_shape)
        return super().compute_output_shape(sequences_shape)

    def _adapt_to(self, sequences_shape):
        # A cell may know only now how wide its output or its memory is.
        self.cell.adapt_to(sequences_shape[-1])
        sizes = self.cell.state_size
        self.state_size = [sizes] if isinstance(sizes, int) else list(sizes)

    def get_config(self):
        config = super().get_config()
        del config["cell"], config["unroll"]
        config["activity_regularizer"] = keras.regularizers.serialize(
            self.activity_regularizer
        )
        return {**self.cell.get_config(), **config}

    @classmethod
    def from_config(cls, config):
        return cls(**config)
