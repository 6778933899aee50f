"""Two replicas in one process, on the devices of `plugins/session.py`."""

import functools

import numpy as np
import tensorflow as tf


@functools.cache
def strategy():
    """One for all: TensorFlow counts the sums of replicas in a process."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def four_rows(*arrays):
    """Arrays of three rows with one more: as many for both replicas."""
    return [np.concatenate([array, -array[:1]]) for array in arrays]
