"""Weights and masks that fit a loss of several numbers a row or a step.

An output with further axes, as (batch, time, horizon, features) or a frame of
a film, has a loss at each of their places, and Keras multiplies weights with
it as they are. Here one of a row or of a step counts for all its places.
"""

import dataclasses

import keras
import tensorflow as tf

from keras_seqgrad.tensors import masks
from keras_seqgrad.tensors.shape import shape_of
from keras_seqgrad.window.by_output import by_output
from keras_seqgrad.window.per_step import losses_of


def fitted(segment, outputs, model):
    """(segment, outputs), weights and masks with axes for all places.

    Args:
        segment: The segment.
        outputs: What the model made of it.
        model: The compiled model.
    """
    values = losses_at_places(segment.y, outputs, model)
    if all(value is None for value in values):
        return segment, outputs
    flat = keras.tree.flatten(outputs)
    weights = by_output(segment.sample_weight, model, shared=True)
    for index, value in enumerate(values):
        if value is None:
            continue
        weight, mask = weights[index], masks.read(flat[index])
        if weight is not None:
            weights[index] = _spread(weight, value)
        if mask is not None:
            # Weights with all axes are summed as they are.
            own = weight is not None and weights[index] is weight
            mask = masks.align(mask, value) if own else _spread(mask, value)
            flat[index] = masks.attach(flat[index], mask)
    if segment.sample_weight is not None:
        weights = keras.tree.pack_sequence_as(outputs, weights)
        segment = dataclasses.replace(segment, sample_weight=weights)
    return segment, keras.tree.pack_sequence_as(outputs, flat)


def losses_at_places(y, outputs, model):
    """The loss of each place, for each output that has further ones.

    Only their shapes are of use: a compiled step leaves the numbers out.

    Args:
        y: Targets, nested.
        outputs: Nested outputs.
        model: The compiled model.

    Returns:
        For each flattened output a tensor (batch, ...), or None where there are
        no further places, or no loss but one of a subclass.
    """
    flat = keras.tree.flatten(outputs)
    further = [
        (output.shape.rank or 0) > 2 + has_time
        for output, has_time in zip(flat, model.temporal_outputs, strict=True)
    ]
    if not any(further):
        return [None] * len(flat)
    return [
        _loss_at_places(losses[0], target, output)
        if more and losses and target is not None
        else None
        for target, output, losses, more in zip(
            by_output(y, model), flat, losses_of(model), further, strict=True
        )
    ]


def _loss_at_places(loss, target, output):
    loss = keras.losses.get(loss)
    kind = getattr(loss, "dtype", None) or keras.config.floatx()
    given = [
        keras.ops.convert_to_tensor(each, kind) for each in (target, output)
    ]
    value = (loss.call if isinstance(loss, keras.losses.Loss) else loss)(*given)
    return tf.stop_gradient(tf.convert_to_tensor(value))


def _spread(flags, value):
    """`flags` of the first axes of a value for all of its places."""
    if flags.shape.rank >= value.shape.rank:
        return flags
    return tf.broadcast_to(masks.align(flags, value), shape_of(value))
