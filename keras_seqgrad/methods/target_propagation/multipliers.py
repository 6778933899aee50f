"""The multipliers of target propagation: their rule, and from when on."""

import keras
import tensorflow as tf

from keras_seqgrad.tensors import nested

# The forms of the rule, with the rate each usually has.
FORMS = {"textbook": 1.0, "code": 0.1}


class Epochs(keras.layers.Layer):
    """The number of epochs done, as a step can read it."""

    def __init__(self):
        super().__init__(name="epochs", trainable=False, autocast=False)
        self.done = self.add_weight(
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
            name="done",
        )
        self.built = True


class CountEpochs(keras.callbacks.Callback):
    """Tells the `Epochs` of the model's method how many are done."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.method_state.parts["epochs"].done.assign(epoch)


def move(lagrangian, memory, form, rate, awake=True):
    """`memory` with its multipliers moved.

        textbook   u <- u + rate (f(h) - h)
        code       u <- u + rate penalty (f(h) + u - h) / boundaries

    Args:
        lagrangian: The `Lagrangian`.
        memory: Its memory.
        form: One of `FORMS`.
        rate: The rate, or None for that of the form.
        awake: Scalar boolean: whether they move at all.
    """
    _, gaps, _ = lagrangian.run(memory["targets"])
    rate = FORMS[form] if rate is None else rate
    if form == "code":
        gaps = nested.add(gaps, memory["multipliers"])
        count = tf.maximum(lagrangian.blocks.boundaries, 1)
        rate *= lagrangian.penalty / tf.cast(count, "float32")
    # Where a row's sequence ends both are 0, and stay so.
    multipliers = [
        u + tf.where(awake, tf.cast(rate, u.dtype), 0) * gap
        for u, gap in zip(memory["multipliers"], gaps, strict=True)
    ]
    return memory | {"multipliers": multipliers}
