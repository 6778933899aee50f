"""Layers as users write them, for drawn networks."""

import keras


@keras.saving.register_keras_serializable("random_models")
class Inside(keras.layers.Layer):
    """Holds another layer; of its mask only what it gives tells."""

    def __init__(self, layer, **options):
        super().__init__(**options)
        self.layer = layer

    def build(self, shape):
        self.layer.build(shape)

    def call(self, inputs):
        return self.layer(inputs)

    def get_config(self):
        layer = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": layer}

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        return cls(layer, **config)
