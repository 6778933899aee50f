"""Arrays given to `fit`, `evaluate` and `predict`, as one dataset each.

Keras makes a pipeline of traced functions of them, which shuffles, cuts and
gathers: a third of the time of a small eager training. Slices in their order
need none of it.
"""

import functools

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.state import runs

# With one of these Keras does more than to cut arrays into batches.
MORE = {"validation_split", "steps_per_epoch", "validation_steps", "steps"}


def quick(run):
    """A run of `keras.Model` that makes a dataset of arrays where it may."""

    @functools.wraps(run)
    def with_dataset(self, *args, **given):
        given = runs.bind(run, self, args, given)
        if self.distribute_strategy.num_replicas_in_sync == 1:
            given = with_slices(given, run.__name__ == "fit")
        return run(self, **given)

    return with_dataset


def with_slices(given, trains):
    """The arguments of a run by name, where they can be with a dataset."""
    if any(given.get(name) for name in MORE):
        return given
    size = given.get("batch_size") or 32
    data = [given.get(name) for name in ("x", "y", "sample_weight")]
    dataset = slices(data, size)
    shuffled = given.get("shuffle", trains)
    if dataset is None or (shuffled and dataset.cardinality() > 1):
        return given
    rest = {"y", "sample_weight", "batch_size"}
    given = {k: v for k, v in given.items() if k not in rest} | {"x": dataset}
    if trains:
        given["shuffle"] = False
    if isinstance(given.get("validation_data"), tuple):
        size = given.pop("validation_batch_size", None) or size
        apart = slices(given["validation_data"], size)
        given["validation_data"] = apart or given["validation_data"]
    return given


def slices(data, size):
    """A dataset of (x, y, sample_weight), or None of what is no arrays."""
    while data and data[-1] is None:
        data = data[:-1]
    # TensorFlow would make one tensor of a list.
    data = [tuple(part) if isinstance(part, list) else part for part in data]
    leaves = keras.tree.flatten(data)
    if not all(isinstance(leaf, np.ndarray) for leaf in leaves):
        return None
    if len({len(leaf) for leaf in leaves}) != 1:
        return None
    data = keras.tree.map_structure(as_keras_takes_it, tuple(data))
    if len(leaves[0]) <= size:
        return tf.data.Dataset.from_tensors(data)
    return tf.data.Dataset.from_tensor_slices(data).batch(size)


def as_keras_takes_it(array):
    floating = np.issubdtype(array.dtype, np.floating)
    return array.astype(keras.config.floatx()) if floating else array
