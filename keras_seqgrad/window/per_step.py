"""Whether a loss is a mean over time steps, so that it may be cut.

Methods that move the parameters once a segment take the loss of its steps
alone. That is right for a loss that judges every step by itself, as most do,
and wrong for one that judges the sequence, as connectionist temporal
classification (CTC) does. Which a loss is, it shows on a small example: its
value on a whole sequence must be that of the two halves.
"""

import weakref

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.tensors import origin
from keras_seqgrad.window import by_output

ROWS, STEPS = 2, 8

# What losses have shown, by the shapes they have shown it for.
_known = weakref.WeakKeyDictionary()


def losses_of(model):
    """The losses of each flattened output, [] where a subclass has its own."""
    if decides_itself(model):
        return [[] for _ in model.temporal_outputs]
    return by_output.losses_of(model)


def decides_itself(model):
    """Whether a subclass has a loss of its own, with targets of its own."""
    return origin.overrides(model, "compute_loss")


def is_per_step(losses, target, output):
    """Whether losses of an output with time judge every step by itself.

    Args:
        losses: Losses as they are compiled: names, functions or objects.
        target: Target, or its specification.
        output: Specification of the output.

    Returns:
        True or False; None where they do not run on an example of these
        shapes, or there are none.
    """
    verdicts = [shown(loss, target, output)[0] for loss in losses]
    if False in verdicts:
        return False
    return True if verdicts and all(verdicts) else None


def mixes_rows(losses, target, output):
    """Whether the loss of a row is another one beside other rows."""
    return any(shown(loss, target, output)[1] for loss in losses)


def flags(model, y, steps):
    """For each flattened output, whether its targets are cut with the inputs.

    Args:
        model: The compiled model.
        y: Targets in the structure of the outputs, or None.
        steps: Those of the inputs, an integer or a tensor.
    """
    temporal = model.temporal_outputs
    aligned = by_output.by_output(y, model)
    if all(target is None for target in aligned):
        return temporal
    cut = []
    for has_time, target, losses, output in zip(
        temporal, aligned, losses_of(model), model.output_specs, strict=True
    ):
        if target is None:
            cut.append(False)
            continue
        single = is_per_step(losses, target, output)
        if single is None and isinstance(steps, int):
            # Of what nothing is known, the length must speak.
            single = target.shape[1:2] in ((steps,), (None,))
        cut.append(has_time and single is not False)
    return cut


# --- the example -----------------------------------------------------------


def shown(loss, target, output):
    """(whether it judges single steps, whether it mixes rows) or Nones."""
    try:
        loss = keras.losses.get(loss)
        kind = keras.backend.standardize_dtype(target.dtype)
        known = _known.setdefault(loss, {})
        _, *sizes = target.shape
        steps = [size if size == 1 else STEPS for size in sizes[:1]]
        key = (*steps, *sizes[1:]), kind, tuple(output.shape)[2:]
    except (AttributeError, TypeError, ValueError):
        return None, None
    if key not in known:
        y, outputs = example(*key)
        try:
            with tf.init_scope():
                known[key] = judge(loss, y, outputs)
        # A loss of the user's own may fail in any way on what it is not for.
        except Exception:
            known[key] = None, None
    return known[key]


def example(target, kind, output):
    """Small targets and outputs that any loss may take.

    Args:
        target: Shape of the targets behind their rows, of `STEPS` steps or 1.
        kind: Their dtype.
        output: Shape of the outputs behind their rows and steps.
    """
    generator = np.random.default_rng(0)
    # Sizes that one of them leaves open are those of the other.
    alike = len(target) == len(output) + 1
    seen = target[1:] if alike else [3] * len(output)
    output = [o or t or 3 for o, t in zip(output, seen, strict=True)]
    seen = [STEPS, *output] if alike else [3] * len(target)
    target = [t or o for t, o in zip(target, seen, strict=True)]
    # Steps of different size: what is divided by a sum over all of them is
    # not taken for a mean.
    outputs = generator.uniform(0.1, 0.9, [STEPS, ROWS, *output])
    size = np.linspace(0.3, 1.0, STEPS)
    outputs = np.moveaxis(np.moveaxis(outputs, 0, -1) * size, -1, 1)
    if "float" in kind:
        y = generator.uniform(0.1, 0.9, [ROWS, *target])
    else:
        classes = max([2, *output[-1:]])
        y = generator.integers(0, classes, [ROWS, *target])
        y[..., :1] = 1
    if target[:1] == [STEPS]:
        # The same in both halves, so that a mean over labels that count is
        # over as many in each.
        y[:, STEPS // 2 :] = y[:, STEPS // 2 - 1 :: -1]
    return y, outputs


def judge(loss, y, outputs):
    """What `shown` says, by running the loss."""
    every, half = slice(None), STEPS // 2
    has_steps = y.shape[1:2] == (STEPS,)

    def value(rows=every, steps=every):
        part = y[rows, steps] if has_steps else y[rows]
        return run(loss, part, outputs[rows, steps])

    whole = value()
    first, second = value(steps=slice(half)), value(steps=slice(half, None))
    has_time = whole.shape[1:2] == (STEPS,) and first.shape[1:2] == (half,)
    if has_time:
        joined = np.concatenate([first, second], axis=1)
    else:
        joined = (first + second) / 2
    # Where a loss draws or has no number here, its shape speaks alone.
    if not same(whole, value()):
        return has_time, False
    alone = [value(rows=slice(row, row + 1)) for row in range(ROWS)]
    apart = np.concatenate(alone) if whole.ndim else np.mean(alone, axis=0)
    return same(whole, joined), not same(whole, apart)


def run(loss, y, outputs):
    """The values of a loss before they are reduced."""
    kind = getattr(loss, "dtype", None) or keras.config.floatx()
    y, outputs = tf.cast(y, kind), tf.cast(outputs, kind)
    if isinstance(loss, keras.losses.Loss):
        return np.asarray(loss.call(y, outputs), "float64")
    # As Keras does before it asks a function.
    if len(y.shape) == len(outputs.shape) + 1 and y.shape[-1] == 1:
        y = y[..., 0]
    elif len(outputs.shape) == len(y.shape) + 1 and outputs.shape[-1] == 1:
        outputs = outputs[..., 0]
    return np.asarray(loss(y, outputs), "float64")


def same(first, second):
    """Whether two values are one but for rounding, and numbers."""
    if first.shape != second.shape or not np.isfinite(first).all():
        return False
    scale = np.abs(first).max(initial=1e-6)
    return bool(np.abs(first - second).max(initial=0.0) <= 1e-4 * scale)
