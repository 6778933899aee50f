"""The regularised inverse of a matrix, and what the rules of a cell are given.

All series here are time-major, (time, batch, units), in float32 or wider: the
reciprocal of a slope overflows in float16.
"""

import dataclasses

import keras
import tensorflow as tf


@dataclasses.dataclass
class Steps:
    """What one recurrent layer went through in a window.

    Attributes:
        cell: The layer's cell.
        inputs: (time, batch, features).
        before: h_{t-1} as step t saw it, (time, batch, units).
        outputs: h_t, (time, batch, units).
        units: Number of units.
    """

    cell: keras.layers.Layer
    inputs: tf.Tensor
    before: tf.Tensor
    outputs: tf.Tensor
    units: int


def regularized_inverse(matrix, regularization):
    """P, so that q·P is the regularised solution h of h·U = q.

        P = Uᵀ (U·Uᵀ + r·I)⁻¹
        q·P = argmin over h of ½‖h·U − q‖² + r/2 ‖h‖²

    By one Cholesky factor. It serves all steps of an update, so each of them
    costs one product, as the transposed matrix of back-propagation does.

    Args:
        matrix: U, (..., units, units).
        regularization: r, above 0.

    Example:

    >>> regularized_inverse(2.0 * tf.eye(2), 4.0).numpy().round(4)
    array([[0.25, 0.  ],
           [0.  , 0.25]], dtype=float32)
    """
    identity = tf.eye(matrix.shape[-1], dtype=matrix.dtype)
    gram = tf.matmul(matrix, matrix, transpose_b=True)
    factor = tf.linalg.cholesky(gram + regularization * identity)
    return tf.linalg.matrix_transpose(tf.linalg.cholesky_solve(factor, matrix))


def read(variable, like):
    """A Keras variable as a tensor of the dtype of `like`."""
    return tf.cast(tf.convert_to_tensor(variable), like.dtype)
