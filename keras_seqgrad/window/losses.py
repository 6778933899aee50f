"""The loss of a segment: as compiled, at the rows' ends, of targets alone."""

import dataclasses

import keras
import tensorflow as tf

from keras_seqgrad.network import norming
from keras_seqgrad.window import agreement, further_axes, targets


def loss_of(window, segment, outputs, at_end):
    """The model's loss of a segment; see `Window.loss`."""
    agreement.need_targets(window.model, segment.y)
    outputs = window.judged(segment, outputs, again=True)
    everywhere = window.all_steps or (window.one_target and not at_end)
    if not everywhere and segment.last is not True:
        if window.training and window.lengths is not None:
            norming.refuse(
                norming.at_ends(window.model),
                "Rows that end in padding are judged where each of them ends, "
                "and normed there beside others that have not ended.",
                "Train by BPTT() or TruncatedBPTT",
            )
        segment, outputs = _judged_at_end(window, segment, outputs)
    segment = window.counted(segment, outputs)
    segment, outputs = further_axes.fitted(segment, outputs, window.model)
    return window.model.compute_loss(
        x=segment.inputs,
        y=segment.y,
        y_pred=outputs,
        sample_weight=segment.sample_weight,
        training=window.training,
    )


def target_loss(window, segment, outputs, factors, at_end):
    """The loss without what is added to it; see `Window.target_loss`."""
    if window.model.loss is None:
        return tf.zeros((), keras.config.floatx())
    given, factor = segment, 1.0
    if factors is not None:
        segment = _weighed(window, segment, outputs, factors)
        if _is_weighted_mean(window.model):  # it divides by the factors, too
            factor = tf.math.divide_no_nan(
                window.terms(segment, outputs)[0],
                window.terms(given, outputs)[0],
            )
    with window.model.targets_alone():
        loss = window.loss(segment, outputs, at_end)
    return loss * tf.cast(factor, loss.dtype)


def _is_weighted_mean(model):
    return targets.reduction_of(model.loss) == "mean_with_sample_weight"


def _weighed(window, segment, outputs, factors):
    """A segment, its rows weighed in outputs without a time axis."""
    weight = targets.weigh_rows(
        segment.sample_weight, segment.y, outputs, factors, window.model
    )
    return dataclasses.replace(segment, sample_weight=weight)


def _judged_at_end(window, segment, outputs):
    """(segment, outputs), of the rows that end there alone."""
    rows = window.ends_in(segment)
    if _is_weighted_mean(window.model):
        temporal = window.model.temporal_outputs
        return segment, targets.let_through(outputs, rows, temporal)
    rows = tf.fill([window.batch_size], 1.0) * tf.cast(rows, "float32")
    return _weighed(window, segment, outputs, rows), outputs
