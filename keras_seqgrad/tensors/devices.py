"""On what TensorFlow computes."""

import tensorflow as tf


def only_cpus():
    """Whether it shows CPUs alone.

    To any other device a turn of a loop is a launch.
    """
    return {d.device_type for d in tf.config.list_logical_devices()} == {"CPU"}
