"""What variables are at some time, to be made that again."""

import tensorflow as tf


def of(variables):
    """What variables are now."""
    return [tf.identity(variable) for variable in variables]


def put_back(variables, readings):
    """Makes variables what they were."""
    for variable, value in zip(variables, readings, strict=True):
        variable.assign(value)
