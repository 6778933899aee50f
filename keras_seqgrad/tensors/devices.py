"""On what TensorFlow computes."""

import tensorflow as tf


def gpu_is_visible():
    """Whether it shows a GPU, by the question that Keras asks."""
    return bool(tf.config.list_logical_devices("GPU"))


def only_cpus():
    """Whether it shows CPUs alone.

    To any other device a turn of a loop is a launch.
    """
    return {d.device_type for d in tf.config.list_logical_devices()} == {"CPU"}
