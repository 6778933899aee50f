"""Whether what segments log adds up to what their window logs.

Most losses are means over rows and steps, most metrics a mean or counts. Then
segments can be entered in the logs one after another, and nobody keeps their
outputs. Which of it is so is seen on a small example, which is entered whole
and in two parts of different lengths.
"""

import copy
import itertools
import json
import re
import weakref

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.tensors import masks, origin, readings, replicas
from keras_seqgrad.window import per_step, targets
from keras_seqgrad.window.by_output import (
    by_output,
    losses_of,
    paths_of,
    places,
    weights_of_losses,
)
from keras_seqgrad.window.window import Segment

COMPILED = ("loss", "loss_weights", "metrics", "weighted_metrics")
ROWS, STEPS = per_step.ROWS, per_step.STEPS
PARTS = [(0, 5), (5, 3)]

# What has been seen, by the tracker of the loss: each `compile` has its own.
_known = weakref.WeakKeyDictionary()
# Places of the means, or None, where all that is compiled is Keras' own: what
# one model has shown the next need not show again.
_shown = {}
# What is not Keras' own in the description of what is compiled.
OWN = re.compile(r'"class_name": "function"|"module": "(?!keras\.|builtins")')


def means_over_steps(window):
    """Variables of metrics that are means over steps; the others are sums.

    None where losses and metrics need the outputs of all segments together.
    """
    model = window.model
    if not window.all_steps or any(
        origin.overrides(model, name)
        for name in ("compute_loss", "compute_metrics")
    ):
        return None
    if replicas.count() > 1:
        return None
    known = _known.setdefault(window.learner.loss_tracker, {})
    key = _key(window)
    if key not in known:
        with tf.init_scope():
            known[key] = _seen(window, key)
    return known[key]


# --- entries ---------------------------------------------------------------


def trained(model):
    """Places of the outputs that have a loss of their own in the logs."""
    found = [place for place, has in enumerate(losses_of(model)) if has]
    return found or [0]


def sums_of_losses(window, segment, outputs, share, of_targets):
    """(sum, by what it is divided) of each loss that the logs show.

    Args:
        window: The `Window`.
        segment: The segment.
        outputs: What the model made of it.
        share: Its share of the window's steps.
        of_targets: Its loss of the targets.
    """
    model = window.model
    chosen, losses, values = trained(model), losses_of(model), [of_targets]
    if len(chosen) > 1:
        values = window.learner.output_losses(
            lambda: window.target_loss(segment, outputs)
        )
    outputs = keras.tree.flatten(outputs)
    weights = by_output(segment.sample_weight, model, shared=True)
    of_window = by_output(window.sample_weight, model, shared=True)
    pairs = []
    for place, value in zip(chosen, values, strict=True):
        reduction = targets.reduction_of(losses[place])
        terms, grows = targets.terms(
            reduction,
            [window.batch_size, segment.length],
            outputs[place],
            weights[place],
        )
        if reduction != "sum" and weights[place] is not None:
            # A weight for each step, be the segment one of a single step.
            grows |= of_window[place].shape[1] != 1
        terms = tf.cast(terms, value.dtype)
        pairs.append(
            (
                terms * tf.reduce_mean(value),
                terms if grows else terms * tf.cast(share, value.dtype),
            )
        )
    return pairs


def total(model, sums):
    """(loss of all outputs, that of each) of sums over segments."""
    values = [tf.math.divide_no_nan(value, by) for value, by in sums]
    chosen = trained(model)
    if len(chosen) == 1:  # which has its weight already
        return values[0], []
    weights = weights_of_losses(model)
    weights = [weights[place] for place in chosen]
    whole = [w * v for w, v in zip(weights, values, strict=True)]
    return tf.add_n(whole), values


def enter_metrics(window, segment, outputs, means, share):
    """Enters a segment in the compiled metrics as its share of the window.

    Args:
        window: The `Window`.
        segment: The segment.
        outputs: What the model made of it.
        means: Variables that are means over steps.
        share: The segment's share of the window's steps.
    """
    before = readings.of(means)
    for variable in means:
        variable.assign(tf.zeros_like(variable))
    window.learner.record_metrics(segment, outputs)
    for variable, value in zip(means, before, strict=True):
        variable.assign(value + tf.cast(share, value.dtype) * variable)


# --- the example -----------------------------------------------------------


def _key(window):
    """By what examples differ."""

    def said(leaf):
        if not hasattr(leaf, "shape"):
            return None
        shape = tuple(leaf.shape)
        return leaf.dtype, len(shape), shape[1:2] == (1,), shape[2:]

    given = window.y, window.sample_weight
    leaves = map(said, keras.tree.flatten(given))
    specs = map(said, window.model.output_specs)
    of_outputs = places(window.y, window.model)
    return *leaves, *specs, *of_outputs, _may_be_masked(window)


def _may_be_masked(window):
    model = window.model
    return (
        window.mask is not None
        or window.sample_weight is not None
        or model.is_opaque
        or model.graph.masks_steps
    )


def _seen(window, key):
    """What `means_over_steps` says, by running what is compiled."""
    example, outputs = _example(window)
    groups = [m for m in window.model.metrics if hasattr(m, "metrics")]
    for group in groups:
        if not group.built:  # as it would be by its first update
            group.build(example.y, outputs)
    variables = [v for group in groups for v in group.variables]
    key = _compiled(window.model), key
    if key not in _shown:
        restore = window.learner.keep_output_losses()
        kept = readings.of(variables)
        try:
            found = _compare(example, outputs, variables)
        finally:
            restore()
            readings.put_back(variables, kept)
        if key[0] is not None:
            _shown[key] = found
    else:
        found = _shown[key]
    return None if found is None else [variables[place] for place in found]


def _compiled(model):
    """Losses and metrics in words; None where some are not Keras' own."""
    try:
        config = keras.Model.get_compile_config(model)
        said = [config[name] for name in COMPILED]
        said += [paths_of(model), keras.config.floatx()]
        text = json.dumps(said, sort_keys=True)
    # What is the user's own may fail in any way to be put in words.
    except Exception:
        return None
    return None if OWN.search(text) else text


def _example(window):
    """(a small window without inputs, nested outputs of the model for it)."""
    model, generator = window.model, np.random.default_rng(1)
    found = by_output(window.y, model)
    y, outputs = list(found), []

    def like(leaf, features=()):
        _, *sizes = leaf.shape
        steps = [1 if size == 1 else STEPS for size in sizes[:1]]
        known = itertools.zip_longest(sizes[1:], features[: len(sizes) - 1])
        return [ROWS, *steps, *(size or other or 3 for size, other in known)]

    for place, spec in enumerate(model.output_specs):
        features = [size or 3 for size in spec.shape[2:]]
        output = generator.uniform(0.05, 0.95, [ROWS, STEPS, *features])
        output = tf.cast(output, spec.dtype)
        if _may_be_masked(window):
            mask = generator.random((ROWS, STEPS)) < 0.7
            output = masks.attach(output, tf.constant(mask))
        outputs.append(output)
        target = found[place]
        if target is not None:
            # 0 and 1 are numbers, classes and labels.
            made = generator.integers(0, 2, like(target, features))
            y[place] = tf.cast(made, target.dtype)

    def weigh(leaf):
        if leaf is None:
            return None
        return tf.cast(generator.random(like(leaf)), leaf.dtype)

    example = copy.copy(window)
    example.batch_size, example.steps = ROWS, STEPS
    example.inputs = example.mask = example.reset = None
    example.y = keras.tree.pack_sequence_as(
        window.y, [y[place] for place in places(window.y, model)]
    )
    example.sample_weight = keras.tree.map_structure(
        weigh, window.sample_weight
    )
    return example, keras.tree.pack_sequence_as(model.nested_outputs, outputs)


def _compare(window, outputs, variables):
    """Places of variables that are means; None where parts do not add up."""

    def entered(start, length):
        segment = Segment(
            start,
            length,
            None,
            targets.cut(window.y, start, length, window.cut_targets),
            targets.cut(
                window.sample_weight, start, length, window.cut_weights
            ),
        )
        made = window.cut_outputs(outputs, start, length)
        for variable in variables:
            variable.assign(tf.zeros_like(variable))
        try:
            window.learner.record_metrics(segment, made)
            loss = window.target_loss(segment, made)
        # What is compiled may fail in any way on what it is not for.
        except Exception:
            return None
        sums = sums_of_losses(window, segment, made, length / STEPS, loss)
        values = [np.asarray(v, "float64") for v in variables]
        return values, np.asarray(sums, "float64"), np.asarray(np.mean(loss))

    runs = [entered(*part) for part in [(0, STEPS), *PARTS]]
    if None in runs:
        return None
    whole, *parts = runs
    found, _ = total(window.model, sum(sums for _, sums, _ in parts))
    if not per_step.same(whole[2], np.asarray(found)):
        return None
    means = []
    for place in range(len(variables)):
        value, *pieces = [each[0][place] for each in (whole, *parts)]
        shared = [
            p * n / STEPS for p, (_, n) in zip(pieces, PARTS, strict=True)
        ]
        if not value.any():  # which tells nothing
            return None
        if per_step.same(value, sum(shared)):
            means.append(place)
        elif not per_step.same(value, sum(pieces)):
            return None
    return means
