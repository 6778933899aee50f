"""Which targets and weights have a time axis, and how they are cut.

An output with a time axis has a target at every step; one without has a target
for the sequence, which belongs to its last step.
"""

import keras
import tensorflow as tf

from keras_seqgrad.tensors import logits, masks, nested, pieces
from keras_seqgrad.tensors.shape import shape_of
from keras_seqgrad.window import further_axes
from keras_seqgrad.window.by_output import by_output, of_leaves


def cut(structure, start, length, flags):
    """Steps of the targets or weights that have time.

    A leaf (batch,) or (batch, 1) is one number a sequence and stays as it is.

    Args:
        structure: Targets or weights, nested.
        start: The first step.
        length: Number of steps.
        flags: Whether each leaf belongs to an output with time.
    """
    return keras.tree.pack_sequence_as(
        structure,
        [
            pieces.steps(leaf, start, length)
            if has_time
            and leaf is not None
            and leaf.shape[1:2] not in ((), (1,))
            else leaf
            for leaf, has_time in zip(
                keras.tree.flatten(structure), flags, strict=True
            )
        ],
    )


def spread(sample_weight, model):
    """Sample weights with those (batch,) of outputs with time as (batch, 1).

    Keras itself takes only (batch, time) or (batch, 1) there.
    """
    leaves = keras.tree.flatten(sample_weight)
    flags = of_leaves(model.temporal_outputs, sample_weight, model)
    spread = map(_spread, leaves, flags)
    return keras.tree.pack_sequence_as(sample_weight, [*spread])


def _spread(weight, has_time):
    if weight is None or not has_time or len(weight.shape) != 1:
        return weight
    return weight[:, tf.newaxis]


def weigh_rows(sample_weight, y, outputs, factors, model):
    """Sample weights, those of sequence targets times a factor for each row.

    Args:
        sample_weight: Weights as given, or None.
        y: Targets, nested.
        outputs: Nested outputs of the segment.
        factors: Float (batch,).
        model: The compiled model.

    Returns:
        Weights in the structure of the outputs.
    """
    given = by_output(sample_weight, model, shared=True)
    values = further_axes.losses_at_places(y, outputs, model)
    weights = []
    for weight, value, has_time in zip(
        given, values, model.temporal_outputs, strict=True
    ):
        if weight is None:
            weight = tf.ones_like(factors)
            if value is not None:
                weight = _shares(value, has_time, reduction_of(model.loss))
        if not has_time:
            own = tf.cast(factors, weight.dtype)
            own = tf.reshape(own, [-1] + [1] * (len(weight.shape) - 1))
            weight = weight * own
        weights.append(_spread(weight, has_time))
    return keras.tree.pack_sequence_as(outputs, weights)


def _shares(value, has_time, reduction):
    """A weight for each place of a loss: of a mean by weights, its share.

    So a row, or a step, has the weight 1 in that, as where it is one place.
    """
    weight = tf.ones_like(value)
    if reduction != "mean_with_sample_weight":
        return weight
    return weight / tf.cast(
        tf.reduce_prod(tf.shape(value)[1 + has_time :]), value.dtype
    )


def reduction_of(loss):
    """How a compiled loss goes from rows and steps to a number.

    That of all losses where they are several; "sum_over_batch_size", as Keras
    has it for names and functions, where they differ.
    """
    kinds = {
        getattr(kind, "reduction", None) or "none"
        if isinstance(kind, keras.losses.Loss)
        else "sum_over_batch_size"
        for kind in keras.tree.flatten(loss)
        if kind is not None
    }
    return kinds.pop() if len(kinds) == 1 else "sum_over_batch_size"


def terms(reduction, shape, outputs, sample_weight):
    """By what a loss, summed over rows and steps, is divided.

    Args:
        reduction: That of the loss, see `reduction_of`.
        shape: [rows, steps].
        outputs: Nested outputs, the mask of the first of which counts; None
            where there is one target a sequence.
        sample_weight: Weights as given, or None; the first ones count.

    Returns:
        (a scalar, whether it is a sum over steps).
    """
    if reduction == "sum":
        return tf.ones(()), False
    mask = None
    if outputs is not None and reduction != "none":
        mask = masks.read(keras.tree.flatten(outputs)[0])
    [weight, *_] = [*keras.tree.flatten(sample_weight), None]
    if reduction == "mean_with_sample_weight" and weight is not None:
        weight = tf.cast(weight, "float32")
        weight = tf.reshape(weight, [shape_of(weight)[0], -1])
        if mask is None:  # Keras sums the weights as they are
            return tf.reduce_sum(weight), weight.shape[1] != 1
        return tf.reduce_sum(tf.where(tf.cast(mask, "bool"), weight, 0.0)), True
    if mask is not None:
        return tf.reduce_sum(tf.cast(mask, "float32")), True
    rows, steps = (tf.cast(size, "float32") for size in shape)
    return rows * steps, True


def let_through(outputs, rows, temporal):
    """Outputs, gradient by those without a time axis stopped but in `rows`.

    Unlike by weights of 0, no weighted mean gets another divisor by that.
    """

    def let(leaf):
        return nested.select(rows, leaf, tf.stop_gradient(leaf))

    return keras.tree.pack_sequence_as(
        outputs,
        [
            output if has_time else logits.mapped(let, output)
            for output, has_time in zip(
                keras.tree.flatten(outputs), temporal, strict=True
            )
        ],
    )


def class_weights(y, sample_weight, table, temporal):
    """Sample weights, (batch, time) or (batch,), from a table of classes.

    Args:
        y: One target tensor, of class indices or one-hot.
        sample_weight: None; both at once are refused.
        table: Weight of each class, a dict by class index.
        temporal: For each flattened output, whether it has a time axis.

    Raises:
        ValueError: There are several outputs, or sample weights.
    """
    if len(temporal) > 1 or len(keras.tree.flatten(y)) > 1:
        raise ValueError(
            "`class_weight` needs a model with a single output. Received: "
            f"{len(temporal)} outputs. Give `sample_weight` instead."
        )
    if sample_weight is not None:
        raise ValueError(
            "`class_weight` and `sample_weight` exclude each other. Multiply "
            "the class weights into `sample_weight`."
        )
    (labels,) = keras.tree.flatten(y)
    if len(labels.shape) > 1 + temporal[0]:
        one_hot = labels.shape[-1] != 1
        labels = tf.argmax(labels, axis=-1) if one_hot else labels[..., 0]
    if labels.dtype.is_floating:
        labels = tf.round(labels)
    labels = tf.cast(labels, "int32")
    size = max(table) + 1
    weights = tf.constant([float(table.get(i, 1.0)) for i in range(size)])
    known = tf.gather(weights, tf.clip_by_value(labels, 0, size - 1))
    return tf.where(labels < size, known, 1.0)
