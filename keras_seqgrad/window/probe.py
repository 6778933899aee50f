"""What is computed on a window beside the training."""

import functools

import keras
import tensorflow as tf

from keras_seqgrad.state.carried import CarriedState
from keras_seqgrad.window import agreement
from keras_seqgrad.window.opening import open_window


def as_tensors(x, y=None, sample_weight=None):
    """The batch (x, y, sample_weight) as a `Probe` takes it."""
    return keras.tree.map_structure(
        lambda leaf: None if leaf is None else tf.convert_to_tensor(leaf),
        (x, y, sample_weight),
    )


class Probe:
    """Runs something on the window of a batch; nothing changes by it.

    Args:
        model: The compiled `SequenceModel`.
        step: Function (window, seed) -> nested tensors.
        jit: Whether XLA compiles it, unless the model runs eagerly.
    """

    def __init__(self, model, step, jit):
        self.model = model
        self.step = step
        self.jit = jit
        self.function = None

    def __call__(self, data, seed=None):
        """The step on a batch (x, y, sample_weight).

        Without targets the step must not ask for a loss.
        """
        model = self.model
        agreement.check(model, data, True, judged=data[1] is not None)
        trained = {id(v) for v in model.trainable_variables}
        changing = [v for v in model.variables if id(v) not in trained]
        changing += model.metrics_variables
        values = [v.numpy() for v in changing]
        try:
            if self.function is None:
                if data[1] is not None:
                    self.build_loss(data)
                self.function = self._make()
            return self.function(data, seed)
        finally:
            for variable, value in zip(changing, values, strict=True):
                variable.assign(value)

    def _make(self):
        if self.model.run_eagerly:
            return self._run
        # TensorFlow counts traces by the code of a function, and would take
        # many probes for one that is traced again.
        return tf.function(
            functools.partial(self._run),
            autograph=False,
            reduce_retracing=True,
            jit_compile=self.jit,
        )

    def _run(self, data, seed):
        model = self.model
        window = open_window(model, model.carried["training"], data, True)
        return self.step(window, seed)

    def build_loss(self, data):
        """Lets Keras create the variables of the loss outside of a trace."""
        carried = CarriedState("no", stateful=False)
        window = open_window(self.model, carried, data)
        segment = window.segment(0, 1)
        outputs, _ = window.forward(segment, window.state)
        window.loss(segment, outputs)
