"""A mask that a part of a model is given beside what it belongs to."""

import keras
import tensorflow as tf


class WithMask(keras.layers.Layer):
    """Gives the first of its inputs, the second one being its mask."""

    def __init__(self):
        super().__init__(autocast=False)
        self.supports_masking = True

    def call(self, inputs):
        # Another tensor: Keras hangs the mask on what this gives.
        return tf.identity(inputs[0])

    def compute_mask(self, inputs, previous_mask=None):
        return inputs[1]
