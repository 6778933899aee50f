"""How a displacement goes back through a step of a SimpleRNN.

With h_t = φ(x_t·W + h_{t-1}·U + b) and P the regularised inverse of U, the
regularised inverse of the step at a value v is

    f⁻¹_r(v) = (φ⁻¹(v) − x_t·W − b)·P

where φ⁻¹ first brings v into the range of φ, `margin` away from its limits.
Three rules take a displacement d = v − h_t to the state before it:

    none         f⁻¹_r(h_t + d) − h_{t-1}
    difference   f⁻¹_r(h_t + d) − f⁻¹_r(h_t)
    linearized   (d / φ'(h_t))·P

`linearized` is the derivative of `difference` by d at 0. The terms x_t·W + b
cancel in both of them.

Roulet and Harchaoui, 2021. Target propagation via regularized inversion.
arXiv:2112.01453. The difference is that of Lee et al., 2015, arXiv:1412.7525.
"""

from typing import NamedTuple

import tensorflow as tf

from keras_seqgrad.methods.regularized_inversion.inverse import (
    read,
    regularized_inverse,
)
from keras_seqgrad.ops import common


class Inverse(NamedTuple):
    """An activation's inverse, and its derivative, both functions of a value.

    Attributes:
        limits: Open limits of the activation's range, None for infinity.
        value: φ⁻¹ inside the range.
        slope: 1 / φ' by the activation's value; 0 where φ' is 0.
    """

    limits: tuple
    value: object
    slope: object


INVERSES = {
    "tanh": Inverse((-1.0, 1.0), tf.atanh, lambda h: 1.0 / (1.0 - h * h)),
    "sigmoid": Inverse(
        (0.0, 1.0),
        lambda h: tf.math.log(h) - tf.math.log1p(-h),
        lambda h: 1.0 / (h * (1.0 - h)),
    ),
    # Many pre-activations give 0; the one nearest to the others is taken.
    "relu": Inverse((0.0, None), tf.identity, lambda h: tf.sign(h)),
    "linear": Inverse((None, None), tf.identity, tf.ones_like),
}


def bounded(value, activation, margin):
    """`value` inside the range of an activation, `margin` from its limits.

    The limit 0 of relu is part of its range and needs no margin.
    """
    low, high = INVERSES[activation].limits
    if activation == "relu":
        return tf.maximum(value, 0.0)
    if low is None:
        return value
    return tf.clip_by_value(value, low + margin, high - margin)


def inverse_activation(value, activation, margin):
    """φ⁻¹ of a value, brought into the range first."""
    return INVERSES[activation].value(bounded(value, activation, margin))


def inverse_slope(value, activation, margin):
    """1 / φ' at the pre-activation that gave `value`, below 1 / margin."""
    return INVERSES[activation].slope(bounded(value, activation, margin))


def linearized(steps, activation, regularization, margin, rate):
    """The rule `linearized`, which does not depend on the target rate.

    Args:
        steps: `Steps` of the layer.
        activation: Name of φ.
        regularization: r.
        margin: Least distance of a value from the limits of φ.
        rate: Displacement for a gradient of 1, above 0: a gradient δ by h_t
            stands for the displacement −rate·δ.

    Returns:
        (series, back): series by time, and the function (their values at step
        t, δ_t) to δ_{t-1}.
    """
    del rate
    inverse = regularized_inverse(
        read(steps.cell.recurrent_kernel, steps.outputs), regularization
    )

    def back(slope, delta):
        return tf.matmul(delta * slope, inverse)

    return [inverse_slope(steps.outputs, activation, margin)], back


def difference(steps, activation, regularization, margin, rate):
    """The rule `difference`; arguments as for `linearized`."""
    inverse = regularized_inverse(
        read(steps.cell.recurrent_kernel, steps.outputs), regularization
    )

    def back(value, origin, delta):
        target = value - rate * delta
        moved = inverse_activation(target, activation, margin) - origin
        return tf.matmul(moved / -rate, inverse)

    origin = inverse_activation(steps.outputs, activation, margin)
    return [steps.outputs, origin], back


def none(steps, activation, regularization, margin, rate):
    """The rule `none`; arguments as for `linearized`."""
    inverse = regularized_inverse(
        read(steps.cell.recurrent_kernel, steps.outputs), regularization
    )
    given = common.project(steps.inputs, read(steps.cell.kernel, steps.inputs))
    if steps.cell.bias is not None:
        given += read(steps.cell.bias, given)

    def back(value, before, given, delta):
        target = value - rate * delta
        moved = inverse_activation(target, activation, margin) - given
        return (tf.matmul(moved, inverse) - before) / -rate

    return [steps.outputs, steps.before, given], back


RULES = {"linearized": linearized, "difference": difference, "none": none}
