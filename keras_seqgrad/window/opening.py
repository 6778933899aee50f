"""How a step opens the window of a batch."""

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.network import scans
from keras_seqgrad.tensors import masks
from keras_seqgrad.window import agreement, missing, targets
from keras_seqgrad.window.window import Window


def open_window(
    model, carried, data, training=False, class_weight=None, scaled=False,
    jit=None,
):  # fmt: skip
    """The `Window` of a batch, from the state that is carried into it.

    Args:
        model: The `SequenceModel`.
        carried: The `CarriedState` of the run.
        data: The batch, as Keras hands it to a step.
        training: Whether layers run in training mode.
        class_weight: Weight of each class, a dict, or None.
        scaled: Whether gradients are those of the optimizer's scaled loss.
        jit: Whether XLA compiles the step; None for as the model says.
    """
    # In eager mode a step gets the very arrays of `train_on_batch`.
    data = keras.tree.map_structure(
        lambda t: tf.constant(t) if isinstance(t, np.ndarray) else t, data
    )
    x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
    data = model.arranged(x), y, weight
    x, y, weight = agreement.tie(model, data, training)
    x = model.clear_masked(x)
    if class_weight:
        weight = targets.class_weights(
            y, weight, class_weight, model.temporal_outputs
        )
    weight = targets.spread(weight, model)
    x = missing.clear_rows(x, weight, model)
    inputs, _, _ = masks.split(x)
    batch_size, _ = model.extent(inputs)
    start = model.start_state(inputs, batch_size)
    state, fresh = carried.read(start, batch_size)
    data = x, y, weight
    jit = model.jit_compile if jit is None else jit
    kernels = not jit and scans.serves(model)
    return Window(model, data, state, fresh, training, scaled, kernels)
