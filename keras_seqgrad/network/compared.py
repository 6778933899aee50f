"""Whether tensors of two runs are the same, and whether steps depend."""

import numpy as np
import tensorflow as tf

from keras_seqgrad.network.tracing import tensors
from keras_seqgrad.tensors import devices, masks

# By how much of its largest number a tensor may differ from that of another
# way to compute it, by the lowest dtype that it was computed in.
FINE = 1e-4
ROUNDING = {"bfloat16": 0.1, "float16": 0.03, "float32": FINE}
TENSOR_FLOAT = 0.01
# And from what the same way gives for a part of the sequence.
SAME_WAY = 0.3
# Where a recurrent layer is given large numbers, a gate that is all but closed
# lets their rounding through: this share of them counts as a result's scale.
LARGE, LET_THROUGH = 10.0, 0.02


def array(value):
    """A tensor as an array of NumPy's own dtypes."""
    if isinstance(value, tf.SparseTensor):
        value = tf.sparse.to_dense(value)
    value = tf.convert_to_tensor(value)
    return np.asarray(
        tf.cast(value, "float64") if value.dtype.is_floating else value
    )


def mask(value):
    """The mask that a tensor carries, as an array; all True without one."""
    found = masks.read(value)
    return np.ones(value.shape[:2], bool) if found is None else array(found)


def joined(pieces, has_time):
    """One array of those of consecutive pieces of a sequence."""
    arrays = [array(piece) for piece in pieces]
    sizes = {a.shape[:1] + a.shape[2:] for a in arrays}
    if not has_time or len(sizes) > 1 or min(a.ndim for a in arrays) < 2:
        return arrays[-1]
    return np.concatenate(arrays, axis=1)


def least_scale(given):
    """The scale below which results of these arrays tell nothing."""
    given = [a[np.isfinite(a)] for a in given if a.dtype.kind == "f"]
    largest = max((np.abs(a).max(initial=0.0) for a in given), default=0.0)
    return LET_THROUGH * largest if largest > LARGE else 0.0


def differs(first, second, rounding, least=0.0):
    """Whether two arrays differ by more than a share of their scale.

    What is not finite must be so in both.

    Args:
        first: An array.
        second: An array.
        rounding: The share.
        least: What their scale is at least.
    """
    if first.shape != second.shape:
        return True
    if first.dtype.kind not in "fc":
        return not np.array_equal(first, second)
    finite = np.isfinite(first) & np.isfinite(second)
    kept = [np.where(finite, 0.0, each) for each in (first, second)]
    if not np.array_equal(*kept, equal_nan=True):
        return True
    first, second = first[finite], second[finite]
    scale = max(1e-6, least, np.abs(first).max(initial=0.0))
    return np.abs(first - second).max(initial=0.0) > rounding * scale


def is_finite(value):
    """Whether all of an array is finite, as what is no float is."""
    return value.dtype.kind not in "fc" or bool(np.isfinite(value).all())


def has_nan(value):
    """Whether any of an array is NaN."""
    return value.dtype.kind in "fc" and bool(np.isnan(value).any())


def varies(value):
    """Whether an array (batch, time, ...) is not the same at all steps."""
    return bool((value[:, 1:] != value[:, :1]).any())


def roundings(graph):
    """By how much each tensor of `graph` may differ, by its id.

    A float32 readout of half-precision features is as exact as those are.
    """
    least = dict(ROUNDING)
    fast = tf.config.experimental.tensor_float_32_execution_enabled()
    if fast and devices.gpu_is_visible():
        least["float32"] = TENSOR_FLOAT
    found = {}
    for layer, _, args, kwargs, result in graph.calls:
        given, made = tensors([args, kwargs]), tensors(result)
        dtypes = [t.dtype for t in given + made]
        dtypes.append(getattr(layer, "compute_dtype", None))
        rounding = max(least.get(dtype, FINE) for dtype in dtypes)
        rounding = max([rounding, *(found.get(id(t), 0.0) for t in given)])
        found.update((id(t), rounding) for t in made)
    return found


def mixes_steps(run, sources):
    """Whether outputs at some steps have a gradient by inputs at others.

    For what draws random numbers, of which two runs tell nothing, or is too
    coarse to be compared.

    Args:
        run: Function () -> outputs (batch, time, ...), made of the sources.
        sources: Tensors (batch, time, ...).
    """
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(sources)
        outputs = [o for o in run() if o.dtype.is_floating]
        if not (sources and outputs):
            return False
        # Squares, because what is normalised may have a constant sum.
        early = [tf.square(output[:, :-1]) for output in outputs]
        last = [tf.square(output[:, -1:]) for output in outputs]
    zero = tf.UnconnectedGradients.ZERO
    d_early = tape.gradient(early, sources, unconnected_gradients=zero)
    d_last = tape.gradient(last, sources, unconnected_gradients=zero)
    return any(
        bool(tf.reduce_any(tf.math.is_finite(d) & tf.not_equal(d, 0.0)))
        for d in [*(d[:, -1:] for d in d_early), *(d[:, :-1] for d in d_last)]
    )
