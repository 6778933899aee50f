"""Targets and weights of steps that count for nothing.

A mask, or a weight of 0, leaves a step out of a loss by a product, and 0 · NaN
is NaN. So what is no number there becomes one first, before a loss or a metric
meets it. Numbers stay what they are: a loss may know padding by them.

What looks for missing targets itself gets them as they were given: a loss or
metric with an `ignore_class`, a loss of the user's own that gives one number
for all steps, a metric class of the user's own.
"""

import dataclasses
import functools

import keras
import tensorflow as tf

from keras_seqgrad.tensors import masks
from keras_seqgrad.tensors.origin import is_own
from keras_seqgrad.window.by_output import by_output, losses_of, places

SPARSE = (
    keras.losses.SparseCategoricalCrossentropy,
    keras.losses.sparse_categorical_crossentropy,
)


def clear_for_loss(segment, outputs, model):
    """The segment, with numbers for targets that the loss does not count.

    Args:
        segment: The `Segment`.
        outputs: What the model made of it, masks with them.
        model: The compiled model.
    """
    found = _Found(segment, outputs, model)
    if not found.any:
        return segment

    def clear(target, place):
        sparse = any(
            loss is SPARSE[1] or isinstance(loss, SPARSE[0])
            for loss in found.losses[place]
        )
        return found.clear(target, place, sparse)

    return found.replaced(clear)


def clear_for_metrics(segment, outputs, model):
    """(segment, outputs) as `clear_for_loss`, for the compiled metrics.

    A weight of 0 says nothing to a metric without weights. So where one stands
    by a target that is not there the step is masked, if all metrics compiled
    can be told so. With a Keras whose metrics count masked steps, targets stay
    as they were given.
    """
    groups = [m for m in model.metrics if hasattr(m, "metrics")]
    if not groups or not metrics_leave_out_masked():
        return segment, outputs
    found = _Found(segment, outputs, model)
    if not found.any:
        return segment, outputs
    for group in groups:
        if not group.built:  # as it would be by its first update
            group.build(segment.y, outputs)
    metrics = [metric for group in groups for metric in group.metrics]
    if any(map(_is_own_metric, metrics)):
        return segment, outputs
    told = all(map(_knows_masks, metrics))
    sparse = any(
        isinstance(metric, keras.metrics.SparseCategoricalCrossentropy)
        for metric in metrics
    )
    marked = list(found.outputs)

    def clear(target, place):
        by_weight = told and (target.dtype.is_floating or sparse)
        if by_weight:
            marked[place] = found.mark(target, place, sparse)
        return found.clear(target, place, sparse, by_weight)

    segment = found.replaced(clear)
    return segment, keras.tree.pack_sequence_as(outputs, marked)


@functools.cache
def metrics_leave_out_masked():
    """Whether metrics of this Keras leave masked steps out without weights.

    Before Keras 3.12 they do so beside sample weights alone.
    """
    with tf.init_scope():
        metric = keras.metrics.MeanAbsoluteError()
        mask = tf.constant([True, False])
        outputs = masks.attach(tf.zeros((2, 1)), mask)
        metric.update_state([[0.0], [1.0]], outputs)
        return float(metric.result()) == 0.0


def clear_rows(x, weights, model):
    """Inputs, with numbers in rows whose weights are 0 everywhere.

    Args:
        x: Inputs, their companions with them.
        weights: Sample weights, or None.
        model: The compiled model.
    """
    weights = by_output(weights, model, shared=True)
    pairs = zip(weights, losses_of(model), strict=True)
    trained = [weight for weight, losses in pairs if losses]
    if not trained or any(weight is None for weight in trained):
        return x
    counted = [tf.not_equal(weight, 0) for weight in trained]
    counted = [
        tf.reduce_any(flags, axis=[*range(1, flags.shape.rank)])
        for flags in counted
    ]
    counted = functools.reduce(tf.logical_or, counted)

    def clear(tensor):
        tensor = tf.convert_to_tensor(tensor)
        floating = tensor.dtype.is_floating
        return masks.clear(tensor, counted) if floating else tensor

    inputs, _, _ = masks.split(x)
    cleared = keras.tree.map_structure(clear, inputs)
    return cleared if inputs is x else {**x, "inputs": cleared}


def rows_missing(window):
    """Rows with a target that counts and is no number, (batch,), or None."""
    model, found = window.model, None
    weights = by_output(window.sample_weight, model, shared=True)
    leaves = keras.tree.flatten(window.y)
    for leaf, place in zip(leaves, places(window.y, model), strict=True):
        if not (tf.is_tensor(leaf) and leaf.dtype.is_floating):
            continue
        bad = ~tf.math.is_finite(leaf)
        flags = [window.valid]
        if place is not None and weights[place] is not None:
            flags.append(tf.not_equal(weights[place], 0))
        for counted in (_along(each, leaf) for each in flags):
            bad = bad if counted is None else bad & counted
        bad = tf.reduce_any(bad, axis=[*range(1, bad.shape.rank)])
        found = bad if found is None else found | bad
    return found


class _Found:
    """The masks and weights of a segment, by output."""

    def __init__(self, segment, outputs, model):
        self.segment = segment
        self.outputs = keras.tree.flatten(outputs)
        self.masks = [masks.read(output) for output in self.outputs]
        self.temporal = model.temporal_outputs
        self.model = model
        self.weights = by_output(segment.sample_weight, model, shared=True)
        self.losses = [
            [keras.losses.get(each) for each in losses]
            for losses in losses_of(model)
        ]
        self.any = segment.y is not None and any(
            flags is not None for flags in (*self.masks, *self.weights)
        )

    def replaced(self, clear):
        """The segment with weights cleared, and targets by a function.

        Those of losses that look for missing ones themselves stay.
        """

        def judged(target, place):
            output, has_time = self.outputs[place], self.temporal[place]
            counted = self.losses[place] and all(
                _judges_places(loss, target, output, has_time)
                for loss in self.losses[place]
            )
            return clear(target, place) if counted else target

        def weigh(weight, place):
            mask = _along(self.masks[place], weight)
            if mask is None or not weight.dtype.is_floating:
                return weight
            return masks.clear(weight, mask)

        return dataclasses.replace(
            self.segment,
            y=self._map(judged, self.segment.y),
            sample_weight=self._map(weigh, self.segment.sample_weight),
        )

    def _map(self, function, structure):
        """`function(tensor, place of its output)` of targets or weights."""

        def call(leaf, place):
            known = tf.is_tensor(leaf) and place is not None
            return function(leaf, place) if known else leaf

        flat = keras.tree.flatten(structure)
        flat = map(call, flat, places(structure, self.model))
        return keras.tree.pack_sequence_as(structure, [*flat])

    def clear(self, target, place, sparse, by_weight=True):
        """`target` with zeros where it counts for nothing and is no number."""
        usable = _usable(target, self.outputs[place], sparse)
        flags = [self.masks[place]]
        if by_weight:
            flags.append(self._weighted(place))
        flags = [f for f in (_along(f, target) for f in flags) if f is not None]
        if usable is None or not flags:
            return target
        counted = functools.reduce(tf.logical_and, flags)
        return tf.where(counted | usable, target, tf.zeros((), target.dtype))

    def mark(self, target, place, sparse):
        """The output, masked in steps of weight 0 without a target."""
        output, steps = self.outputs[place], 1 + self.temporal[place]
        usable = _usable(target, output, sparse)
        weighted = _along(self._weighted(place), target)
        if usable is None or weighted is None or target.shape.rank < steps:
            return output
        there = weighted | usable
        there = tf.reduce_all(there, axis=[*range(steps, there.shape.rank)])
        return masks.attach(output, masks.combine(self.masks[place], there))

    def _weighted(self, place):
        weight = self.weights[place]
        return None if weight is None else tf.not_equal(weight, 0)


def _along(flags, tensor):
    """`flags` whose axes are the first ones of `tensor`, or None.

    They are not those of a target that is one number a sequence.
    """
    if flags is None:
        return None
    while flags.shape.rank > tensor.shape.rank and flags.shape[-1] == 1:
        flags = flags[..., 0]
    if flags.shape.rank > tensor.shape.rank:
        return None
    fits = all(
        flag in (1, size) or (None in (flag, size) and size != 1)
        for flag, size in zip(flags.shape, tensor.shape, strict=False)
    )
    return masks.align(tf.cast(flags, "bool"), tensor) if fits else None


def _usable(target, output, sparse=False):
    """Where a target is a number, or a class; None for everywhere."""
    classes = output.shape[-1] if output.shape.rank else 1
    axes_less = output.shape.rank - target.shape.rank
    indices = axes_less == 1 or (axes_less == 0 and target.shape[-1] == 1)
    if indices and (classes or 1) > 1 and (sparse or target.dtype.is_integer):
        index = tf.cast(target, "float32")
        return (index >= 0) & (index < classes)
    return masks.computable(target) if target.dtype.is_floating else None


def _judges_places(loss, target, output, has_time):
    """Whether a loss is one number for each place that a mask can leave out.

    The others look for missing targets themselves, or have targets of their
    own length, as CTC has.
    """
    if getattr(loss, "ignore_class", None) is not None:
        return False
    function = loss
    if isinstance(loss, keras.losses.Loss):
        own = is_own(type(loss))
        function = loss.call if own else getattr(loss, "fn", loss.call)
    if not is_own(function):
        return function is not keras.losses.ctc
    # As Keras calls it, in floats; traced, which computes nothing.
    kind = keras.backend.floatx()
    specs = [tf.TensorSpec(t.shape, kind) for t in (target, output)]
    try:
        trace = tf.function(function).get_concrete_function(*specs)
    except Exception:
        # It runs eagerly alone, and cannot be looked at.
        return False
    rank = trace.output_shapes.rank
    if rank is None or rank < 1 + has_time:
        return False
    return not has_time or trace.output_shapes[1] in (None, output.shape[1])


def _is_own_metric(metric):
    """Whether a metric is a class of the user's own, or looks itself."""
    if isinstance(metric, keras.metrics.MeanMetricWrapper):
        return False
    ignores = getattr(metric, "ignore_class", None) is not None
    return ignores or is_own(metric)


def _knows_masks(metric):
    """Whether a metric leaves masked steps out, and has values by step."""
    kind = keras.metrics.MeanMetricWrapper
    return isinstance(metric, kind) and type(metric) is not kind
