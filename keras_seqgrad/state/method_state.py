"""What a training method keeps from step to step: learnt, or drawn."""

import random

import keras
import tensorflow as tf


class Draws(keras.layers.Layer):
    """A counted sequence of seeds for stateless random numbers.

    Kept in 64 bits, as all integers here: TensorFlow holds a variable of 32
    in the memory of the host, where XLA on a GPU does not reach it.
    """

    def __init__(self, seed=None):
        super().__init__(name="draws", trainable=False, autocast=False)
        if seed is None:
            # As Keras seeds its initializers: `keras.utils.set_random_seed`
            # sets this in every version, `keras.random` from 3.13 on.
            seed = random.randint(1, 10**9)
        self.seed_and_count = self.add_weight(
            shape=(2,),
            dtype="int64",
            initializer=lambda shape, dtype: tf.constant([seed, 0], dtype),
            trainable=False,
            name="seed_and_count",
        )
        self.built = True

    def next(self):
        """The next pair (seed, count) of int32, shape (2,)."""
        pair = tf.convert_to_tensor(self.seed_and_count)
        self.seed_and_count.assign_add([0, 1])
        return tf.cast(pair, "int32")


class MethodState(keras.layers.Layer):
    """What a training method learns or draws; saved with the model.

    Its variables are the method's to move: they are not among the model's
    weights.

    Attributes:
        parts: Layers, metrics and optimizers by name. One that carries
            something for each row of a batch has a method `admit(rows)`.
    """

    def __init__(self):
        super().__init__(name="method_state", autocast=False)
        self.parts = {}
        self.built = True

    @property
    def draws(self):
        """The `Draws` of the method."""
        return self.parts["draws"]

    @property
    def optimizer_variables(self):
        """Those of the optimizers among the parts, and of the parts'."""
        return [
            variable
            for part in self.parts.values()
            for found in (part, *vars(part).values())
            if isinstance(found, keras.optimizers.Optimizer)
            for variable in found.variables
        ]

    def admit(self, batch_size):
        """Tells the parts how many rows the next batch has."""
        for part in self.parts.values():
            if hasattr(part, "admit"):
                part.admit(batch_size)
