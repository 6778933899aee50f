"""How a displacement goes back through a step of a GRU, linearised.

h_{t-1} = h reaches h_t = z·h + (1 − z)·g by several ways: by itself, with the
factor z, and through the matrix U_m of each gate m, with a factor a_m per unit:

    reset_after=True    a_z = (h − g)·z'   a_r = (1 − z)·g'·k·r'
                        a_g = (1 − z)·g'·r                k = h·U_g + b'
    reset_after=False   a_z = (h − g)·z'   a_g = (1 − z)·g'

A displacement d of h_t is shared out among the ways as its least correction
is: of all u with z·u_0 + Σ a_m·u_m = d, unit by unit, the one with the
smallest Σ u²,

    u_0 = z·d / s    u_m = a_m·d / s    s = z² + Σ a_m²

Each share goes back through the regularised inverse P_m of its own matrix, and
by itself as it is:

    d_{t-1} = u_0 + Σ u_m·P_m

With `reset_after=False` the matrix of g multiplies r·h; q = u_g·P_g is then
the displacement of that product, shared out between h and the gate r in the
same way, with the factors r and h·r'.

Where one way carries all, the rule is that way's inverse: z → 1 gives
d_{t-1} = d, and z → 0 with a constant r the rule of `simple_rnn.linearized`.

The rule is this package's own. Roulet and Harchaoui, 2021 (arXiv:2112.01453)
also invert gate by gate; their released code has z and 1 − z exchanged.
"""

import tensorflow as tf

from keras_seqgrad.methods.regularized_inversion.inverse import (
    read,
    regularized_inverse,
)
from keras_seqgrad.ops import common


def gates(steps):
    """z, r and g of all steps, and what g's reset gate multiplies.

    Returns:
        (z, r, g, k): k = h·U_g + b' with `reset_after`, else h.
    """
    cell, before = steps.cell, steps.before
    units = steps.units
    row = common.project(steps.inputs, read(cell.kernel, before))
    recurrent = read(cell.recurrent_kernel, before)
    if cell.reset_after:
        product = common.project(before, recurrent)
        if cell.bias is not None:
            bias = read(cell.bias, before)
            row, product = row + bias[0], product + bias[1]
        from_h, k = tf.split(product, [2 * units, units], axis=-1)
    else:
        if cell.bias is not None:
            row += read(cell.bias, before)
        from_h, k = common.project(before, recurrent[:, : 2 * units]), before
    row_gates, row_g = tf.split(row, [2 * units, units], axis=-1)
    z, r = tf.split(tf.sigmoid(row_gates + from_h), 2, axis=-1)
    if cell.reset_after:
        g = tf.tanh(row_g + r * k)
    else:
        g = tf.tanh(row_g + common.project(r * k, recurrent[:, 2 * units :]))
    return z, r, g, k


def shares(factors, margin):
    """Of a displacement 1, the least u with Σ a·u = 1, unit by unit.

    Args:
        factors: The a, a list of tensors of one shape.
        margin: The sum of squares is taken for no less than margin².
    """
    total = tf.add_n([a * a for a in factors])
    total = tf.maximum(total, margin**2)
    return [a / total for a in factors]


def linearized(steps, activation, regularization, margin, rate):
    """The rule above; arguments and result as of `simple_rnn.linearized`.

    `activation` and `rate` have no effect: the activations are the GRU's own,
    and the rule is linear.
    """
    del activation, rate
    z, r, g, k = gates(steps)
    matrices = read(steps.cell.recurrent_kernel, steps.outputs)
    inverses = regularized_inverse(
        tf.stack(tf.split(matrices, 3, axis=1)), regularization
    )
    by_z = (steps.before - g) * z * (1.0 - z)
    by_g = (1.0 - z) * (1.0 - g * g)
    if steps.cell.reset_after:
        by_r = by_g * k * r * (1.0 - r)
        direct, *others = shares([z, by_z, by_r, by_g * r], margin)
        together = tf.concat(tf.unstack(inverses), axis=0)

        def back(direct, others, delta):
            shared = tf.tile(delta, [1, 3]) * others
            return delta * direct + tf.matmul(shared, together)

        return [direct, tf.concat(others, axis=-1)], back

    direct, by_z, by_g = shares([z, by_z, by_g], margin)
    kept, by_r = shares([r, steps.before * r * (1.0 - r)], margin)
    to_z, to_r, to_g = tf.unstack(inverses)
    to_both = tf.concat([to_z, to_r], axis=0)

    def back_before(direct, by_z, by_g, kept, by_r, delta):
        product = tf.matmul(delta * by_g, to_g)
        shared = tf.concat([delta * by_z, product * by_r], axis=1)
        return delta * direct + product * kept + tf.matmul(shared, to_both)

    return [direct, by_z, by_g, kept, by_r], back_before


RULES = {"linearized": linearized}
