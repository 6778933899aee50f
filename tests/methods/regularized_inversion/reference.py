"""Target propagation in plain Python, on Keras' own cells and tape.

The recursion is written out step by step as the papers have it, with targets,
and the local losses are differentiated by TensorFlow. Nothing of the package
takes part in it.
"""

import numpy as np
import tensorflow as tf


def solve(matrix, rows, regularization):
    """argmin over h of ½‖h·U − q‖² + r/2‖h‖², by least squares in NumPy."""
    units = matrix.shape[0]
    stacked = np.vstack([matrix.T, np.sqrt(regularization) * np.eye(units)])
    wanted = np.hstack([rows, np.zeros_like(rows)]).T
    return np.linalg.lstsq(stacked, wanted, rcond=None)[0].T


def atanh(value, margin=1e-3):
    return np.arctanh(np.clip(value, margin - 1, 1 - margin))


def tanh_rule(cell, propagation, regularization, margin=1e-3):
    """Function (x_t, h_{t-1}, h_t, v_t) -> v_{t-1} of a tanh SimpleRNN."""
    kernel, recurrent, bias = (np.float64(w) for w in cell.get_weights())

    def inverse(x, value):
        given = atanh(value, margin) - x @ kernel - bias
        return solve(recurrent, given, regularization)

    def rule(x, before, after, target):
        if propagation == "none":
            return inverse(x, target)
        if propagation == "difference":
            return before + inverse(x, target) - inverse(x, after)
        slope = 1 - np.clip(after, margin - 1, 1 - margin) ** 2
        moved = (target - after) / slope
        return before + solve(recurrent, moved, regularization)

    return rule


def run(cell, x, start):
    """States h_0 … h_T of a cell, as tensors."""
    states = [tf.convert_to_tensor(start)]
    for step in range(x.shape[1]):
        states.append(cell(x[:, step], [states[-1]])[0])
    return states


def targets(rule, x, states, gradients, rate):
    """v_1 … v_T from dL/dh_1 … dL/dh_T; v_t = h_t + d_t."""
    states = [np.float64(state) for state in states]
    following, found = None, []
    for step in reversed(range(x.shape[1])):
        target = states[step + 1] - rate * np.float64(gradients[step])
        if following is not None:
            back = rule(
                np.float64(x[:, step + 1]),
                states[step + 1],
                states[step + 2],
                following,
            )
            target += back - states[step + 1]
        found.append(target)
        following = target
    return found[::-1]


def local_gradient(cell, x, start, found, local, sources):
    """Gradient of the sum of ½‖h_t − v_t‖² over steps, a mean over rows."""
    with tf.GradientTape() as tape:
        tape.watch([s for s in sources if isinstance(s, tf.Tensor)])
        state, loss = tf.convert_to_tensor(start), 0.0
        for step, target in enumerate(found):
            if local:
                state = tf.stop_gradient(state)
            state = cell(x[:, step], [state])[0]
            error = state - tf.cast(target, state.dtype)
            loss += 0.5 * tf.reduce_mean(tf.reduce_sum(error**2, axis=1))
    return tape.gradient(loss, sources)
