"""Where a scan may stop: behind the last step at which anything happens.

Padding behind the longest row of a batch leaves every row's state as it is. The
loops of a scan run the steps before it, as many as the batch says; behind it
they hand on what a masked step would.

The rule, in one place: a scan stops early where a mask is given for more than
one step, and TensorFlow shows a CPU alone. Another device runs every step: it
would be asked after each turn whether there is another, where a number known
while compiling lets it go on by itself.
"""

import tensorflow as tf

from keras_seqgrad.tensors import devices
from keras_seqgrad.tensors.shape import shape_of


def steps_to_run(steps, mask, reset):
    """How many steps a scan must run, an integer tensor, or `steps` itself.

    Args:
        steps: Number of steps, or a tensor.
        mask: bool (time, batch, ...), True where the step is taken, or None.
        reset: bool (time, batch, ...), True where the state is replaced, or
            None.
    """
    single = isinstance(steps, int) and steps == 1
    if mask is None or single or not devices.only_cpus():
        return steps
    happens = mask if reset is None else mask | reset
    happens = tf.reduce_any(happens, axis=[*range(1, mask.shape.rank)])
    counted = tf.where(happens, tf.range(1, shape_of(happens)[0] + 1), 0)
    # Without any step there is no largest number.
    return tf.maximum(tf.reduce_max(counted), 0)
