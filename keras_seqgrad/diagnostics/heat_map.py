"""The gradient by the state of every layer, over the time of a window."""

import dataclasses

import tensorflow as tf

from keras_seqgrad.diagnostics.pictures import new_figure
from keras_seqgrad.diagnostics.steps import (
    layer_names,
    norms_of,
    pull_steps,
)


@dataclasses.dataclass(frozen=True)
class StateGradients:
    """Norms of delta_t = dL/dh_t, as a `Probe` runs them.

    Args:
        extent: (batch size, number of steps), for which it is traced.
    """

    extent: tuple

    def __call__(self, window, seed=None):
        """Mean norms (steps, layers + 1) over rows, L a row's summed loss."""
        window.training = False

        def use(step, vectors, found):
            means = tf.reduce_mean(norms_of(vectors)[:, 0], axis=1)
            return found + tf.one_hot(step, self.extent[1])[:, None] * means

        zeros = tf.zeros((self.extent[1], len(layer_names(window.model))))
        return pull_steps(window, 1, lambda step: tf.ones((1,)), use, zeros)


def draw(names, norms):
    """Heat map of norms (steps, layers + 1): time across, layers upwards."""
    from matplotlib.colors import LogNorm

    figure, axis = new_figure(1, 1, (8, 1.8 + 0.5 * len(names)))
    there = norms[norms > 0]
    scale = LogNorm(there.min(), there.max()) if len(there) else None
    image = axis.imshow(
        norms.T, aspect="auto", origin="lower", norm=scale, cmap="viridis"
    )
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("step t of the window")
    axis.set_title("Gradient by the state, mean over rows (white: 0)")
    figure.colorbar(image, ax=axis, label="‖δ(t)‖ = ‖∂L / ∂h(t)‖")
    return figure
