"""How far back the loss of a step reaches, measured on a window."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from keras_seqgrad.diagnostics import given
from keras_seqgrad.diagnostics.profile import InfluenceProfile
from keras_seqgrad.diagnostics.steps import (
    extent,
    layer_names,
    norms_of,
    pull_steps,
    sizes_of,
)
from keras_seqgrad.model import SequenceModel
from keras_seqgrad.tensors import arguments, nested


@dataclasses.dataclass(frozen=True)
class Lags:
    """The profile of a window, as a `Probe` runs it.

    Args:
        max_lag: The longest lag.
        targets: Most steps whose loss is followed back.
        extent: (batch size, number of steps), for which it is traced.
    """

    max_lag: int
    targets: int
    extent: tuple

    def __post_init__(self):
        arguments.positive_integer(self.max_lag, "max_lag")
        arguments.positive_integer(self.targets, "targets")
        if self.extent[1] <= self.max_lag:
            raise ValueError(
                f"A lag of max_lag={self.max_lag} needs a longer window. "
                f"Expected more than {self.max_lag} steps, received "
                f"{self.extent[1]}."
            )

    def __call__(self, window, seed=None):
        """(mean norms, norms of mean sums), (layers + 1, max_lag + 1) each."""
        window.training = False
        steps = self.extent[1]
        places = [steps - 1]
        if not window.one_target:
            count = min(self.targets, steps - self.max_lag)
            places = np.linspace(self.max_lag, steps - 1, count).astype(int)
        targets = tf.constant(places, "int32")
        rows = tf.fill([window.batch_size], steps)
        if window.one_target and window.lengths is not None:
            rows = window.lengths

        def use(step, vectors, found):
            # A row that ends in padding ends before the window does.
            places = targets[:, tf.newaxis] + (rows - steps)
            lags = tf.one_hot(places - step, lags_count)
            norms = tf.einsum("ntb,tbk->nk", norms_of(vectors), lags)
            sums = [tf.einsum("tbu,tbk->ku", v, lags) for v in vectors]
            return nested.add(found, [norms, *sums])

        lags_count = self.max_lag + 1
        names, sizes = layer_names(window.model), sizes_of(window)
        norms, *sums = pull_steps(
            window,
            len(places),
            lambda step: tf.cast(targets == step, "float32"),
            use,
            [
                tf.zeros((len(names), lags_count)),
                *(tf.zeros((lags_count, size)) for size in sizes),
            ],
        )
        long_enough = rows[:, tf.newaxis] > tf.range(lags_count)
        counted = tf.reduce_sum(tf.cast(long_enough, "float32"), axis=0)
        counted = len(places) * tf.maximum(counted, 1.0)
        means = [tf.cumsum(s / counted[:, tf.newaxis]) for s in sums]
        return norms / counted, norms_of(means)


def influence_profile(
    model: SequenceModel,
    x: Any,
    y: Any,
    max_lag: int,
    sample_weight: Any = None,
    targets: int = 16,
) -> InfluenceProfile:
    """Measures how far back the loss of a step reaches.

    For lags k = 0 … max_lag, the mean over rows and steps s of a window of

        ||dL_s / dh_{s-k}||

    with L_s the loss of a row at step s, and h_t the state that a recurrent
    layer has after step t, for an LSTM h and c; through whatever reads it, the
    next step or a layer above. What `TruncatedBPTT` loses is what lies beyond
    its length. Use it to see whether a truncation length is long enough
    (`suggest_truncation_length`); it speaks of the weights as they are now,
    so look again after training. A model that has not learned yet shows what
    its initialisation lets through.

    Exact, by reverse passes over the window for `targets` steps side by side.
    Time: about that of `targets` one-step windows a step, without XLA. A step
    whose loss is masked or weighted by 0 counts as 0, and what layers add by
    themselves (`add_loss`, activity regularisers) is left out. Where the output
    of a cell is not its state, lag 0 is the influence of the output. Layers run
    in inference mode; nothing changes.

    Args:
        model: A compiled `SequenceModel` made of layers.
        x: Inputs of one window, as `fit` takes them for one batch.
        y: Targets. With one target per sequence, lags are counted from the
            last step.
        max_lag: The longest lag, below the number of steps.
        sample_weight: Weights, or None.
        targets: Most steps s to look at, spread evenly over those that have
            max_lag steps before them.

    Returns:
        `InfluenceProfile`.

    Raises:
        ValueError: The window is not longer than max_lag, or the model is a
            subclass with its own `call_segment`.

    Reference:
        Aicher, Foti and Fox, 2019. Adaptively truncating backpropagation
        through time to control gradient bias. arXiv:1905.07473.

    Example:

    >>> network = keras.Sequential([
    ...     keras.Input((None, 1)),
    ...     keras.layers.GRU(2, return_sequences=True),
    ... ])
    >>> model = ksg.SequenceModel.from_model(network)
    >>> model.compile("sgd", "mse")
    >>> x, y = np.ones((3, 12, 1)), np.ones((3, 12, 2))
    >>> profile = ksg.diagnostics.influence_profile(model, x, y, max_lag=8)
    >>> profile.norms["all"].shape
    (9,)
    """
    given.check_model(model)
    names = layer_names(model)
    data = given.window(model, x, y, sample_weight)
    step = Lags(max_lag, targets, extent(model, data[0]))
    found = model.probe(step, *data, jit=False)
    norms, sums = (dict(zip(names, f.numpy(), strict=True)) for f in found)
    return InfluenceProfile(norms, sums)
