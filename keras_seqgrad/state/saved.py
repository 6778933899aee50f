"""What Keras asks a model for when it is saved, and gives it when loaded."""

import keras

from keras_seqgrad.network import cuttable, original
from keras_seqgrad.state import compiled, seeds


class Saved:
    """Mixin of a `SequenceModel`: its settings, and how it was compiled.

    What it draws from is saved as well, which Keras leaves out.
    """

    def get_config(self):
        config = {
            **super().get_config(),
            "stateful": self.stateful,
            "learn_initial_state": self.learn_initial_state,
        }
        if (network := self.network) is not None:
            config["network"] = original.config(network)
        return config

    @classmethod
    def from_config(cls, config, custom_objects=None):
        if "network" in config:
            config["network"] = keras.saving.deserialize_keras_object(
                config["network"], custom_objects=custom_objects
            )
        return cls(**config)

    def get_compile_config(self):
        if config := super().get_compile_config():
            config |= compiled.describe(self)
        return config

    def compile_from_config(self, config):
        # What is loaded passed the check before it was saved, perhaps on an
        # example that was given.
        config = keras.saving.deserialize_keras_object(config)
        self.compile(**compiled.check(config, self), example=cuttable.PASSED)
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def save_own_variables(self, store):
        super().save_own_variables(store)
        drawn_from = [*self.running_variables, *seeds.of(self.method_state)]
        seeds.save(store, drawn_from)

    def load_own_variables(self, store):
        own = self.running_variables
        seeds.load(store, seeds.of(self.method_state), first=len(own))
        super().load_own_variables(seeds.load(store, own))
