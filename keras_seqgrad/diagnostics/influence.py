"""How far back the loss of a step reaches, and what a cut there loses."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_seqgrad.diagnostics.pictures import new_figure
from keras_seqgrad.diagnostics.steps import (
    ALL,
    extent,
    layer_names,
    pull_steps,
)
from keras_seqgrad.tensors.arguments import positive_integer

LONGEST = 10_000_000


@dataclasses.dataclass
class InfluenceProfile:
    """Mean influence of past states on the loss of a step, by lag.

    What `influence_profile` returns; may also be made of norms measured
    elsewhere.

    Args:
        norms: Dict of arrays (max_lag + 1,) by layer, and "all" for the states
            of all layers together: mean of ||dL_s/dh_{s-k}|| for k = 0, 1, …

    Example:

    >>> norms = {"all": 0.5 ** np.arange(9)}
    >>> profile = ksg.diagnostics.InfluenceProfile(norms)
    >>> round(profile.decay_rates["all"], 6), round(profile.relative_bias(4), 6)
    (0.5, 0.234375)
    """

    norms: dict

    @property
    def max_lag(self):
        """The longest lag."""
        return len(self.norms[ALL]) - 1

    @property
    def decay_rates(self):
        """Factor by which the influence falls from lag to lag, by layer.

        From a straight line through the logarithms over the longer half of
        the lags; 0 where the influence is 0 there.
        """
        lags = np.arange((self.max_lag + 1) // 2, self.max_lag + 1)
        found = {}
        for name, norms in self.norms.items():
            values = np.asarray(norms, "float64")[lags]
            there = values > 0
            found[name] = 0.0
            if there.sum() > 1:
                slope, _ = np.polyfit(lags[there], np.log(values[there]), 1)
                found[name] = float(np.exp(slope))
        return found

    def tail(self, lag, layer=ALL):
        """Share of the influence that lies beyond a lag.

        Beyond `max_lag` the influence goes on falling at its decay rate.
        """
        norms = np.asarray(self.norms[layer], "float64")
        rate, last = self.decay_rates[layer], self.max_lag
        if rate >= 1.0:
            raise ValueError(
                "The influence does not fall over the longer half of the lags "
                f"(rate {rate:.4g}), so what lies beyond them is unknown. "
                f"Expected a rate below 1. Measure beyond max_lag={last}, on a "
                "longer window."
            )
        beyond = norms[last] * rate / (1.0 - rate)
        total = norms.sum() + beyond
        if lag >= last:
            return float(beyond * rate ** (lag - last) / total)
        return float((norms[lag + 1 :].sum() + beyond) / total)

    def relative_bias(self, length, stride=None, layer=ALL):
        """Estimated relative bias of `ksg.methods.TruncatedBPTT`.

        The mean share of influence that is cut off, over the lags at which
        the losses of a stride are cut:

            mean of tail(j) for j = length - stride … length - 1

        It adds norms: where what is cut off would cancel the true bias is
        smaller, where what is kept cancels it is larger.

        Args:
            length: As for `TruncatedBPTT`; so is `stride`.
            stride: None for `length`.
            layer: Name of a layer, or "all".
        """
        first = length - min(stride or length, length)
        return float(
            np.mean([self.tail(lag, layer) for lag in range(first, length)])
        )

    def to_dict(self):
        """Nested dicts and numbers, fit for JSON."""
        return {
            name: {
                "norms": [float(norm) for norm in norms],
                "decay_rate": self.decay_rates[name],
            }
            for name, norms in self.norms.items()
        }

    def plot(self, path=None):
        """Influence by lag, one line for each layer.

        Args:
            path: File to write, or None.

        Returns:
            The matplotlib figure, drawn without a window.

        Raises:
            ImportError: matplotlib is not installed.
        """
        figure, axis = new_figure(1, 1, (6.4, 4))
        first, *others = self.norms
        for name, norms in self.norms.items():
            if [name] == others and np.array_equal(norms, self.norms[first]):
                continue  # a single layer is all of them
            style = {"color": "black"} if name == ALL else {"alpha": 0.8}
            rate = self.decay_rates[name]
            label = f"{name} (× {rate:.3g} a step)"
            axis.plot(np.arange(len(norms)), norms, label=label, **style)
        if np.max(self.norms[ALL]) > 0:
            axis.set_yscale("log")
        axis.set_title("How far back the loss of a step reaches")
        axis.set_xlabel("lag k in steps")
        axis.set_ylabel("mean ‖∂L(s) / ∂h(s − k)‖")
        axis.grid(alpha=0.3)
        axis.legend(title="layer")
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure


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
        positive_integer(self.max_lag, "max_lag")
        positive_integer(self.targets, "targets")
        if self.extent[1] <= self.max_lag:
            raise ValueError(
                f"A lag of max_lag={self.max_lag} needs a longer window. "
                f"Expected more than {self.max_lag} steps, received "
                f"{self.extent[1]}."
            )

    def __call__(self, window, seed=None):
        """Mean norms (layers + 1, max_lag + 1)."""
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

        def use(step, norms, found):
            # A row that ends in padding ends before the window does.
            places = targets[:, tf.newaxis] + (rows - steps)
            lags = tf.one_hot(places - step, self.max_lag + 1)
            return found + tf.einsum("ntb,tbk->nk", norms, lags)

        names = layer_names(window.model)
        found = pull_steps(
            window,
            len(places),
            lambda step: tf.cast(targets == step, "float32"),
            use,
            tf.zeros((len(names), self.max_lag + 1)),
        )
        long_enough = rows[:, tf.newaxis] > tf.range(self.max_lag + 1)
        counted = tf.reduce_sum(tf.cast(long_enough, "float32"), axis=0)
        return found / (len(places) * tf.maximum(counted, 1.0))


def influence_profile(model, x, y, max_lag, sample_weight=None, targets=16):
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
    whose loss is masked or weighted by 0 counts as 0. Where the output of a
    cell is not its state, lag 0 is the influence of the output. Layers run in
    inference mode; nothing changes.

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
    names = layer_names(model)
    step = Lags(max_lag, targets, extent(model, x))
    found = model.probe(step, x, y, sample_weight, jit=False).numpy()
    return InfluenceProfile(dict(zip(names, found, strict=True)))


def suggest_truncation_length(profile, tolerance=0.1, stride=None):
    """The shortest truncation length whose estimated bias is tolerable.

        smallest K with profile.relative_bias(K, stride) < tolerance

    Advice, not proof: the estimate adds norms and knows no directions, and
    goes on beyond the measured lags by an exponential. Check it by
    `compare_gradients` with `ksg.methods.TruncatedBPTT(K)`. Not for models
    still far from what they will become: measure again as they learn.

    Args:
        profile: An `InfluenceProfile`.
        tolerance: Relative bias that is small enough, above 0 and below 1.
        stride: Steps from one update to the next; None for K. With a short
            stride most losses reach back nearly K steps, with stride = K
            half of them less than K / 2.

    Returns:
        K, an integer.

    Raises:
        ValueError: The tolerance is out of its range, or the influence does
            not fall with the lag.

    Reference:
        Aicher, Foti and Fox, 2019. Adaptively truncating backpropagation
        through time to control gradient bias. arXiv:1905.07473.

    Example:

    >>> norms = {"all": 0.5 ** np.arange(9)}
    >>> profile = ksg.diagnostics.InfluenceProfile(norms)
    >>> ksg.diagnostics.suggest_truncation_length(profile, 0.1, stride=1)
    4
    """
    if not 0 < tolerance < 1:
        raise ValueError(
            "`tolerance` must be above 0 and below 1. Received: "
            f"tolerance={tolerance!r}"
        )
    if stride is not None:
        positive_integer(stride, "stride")
    tails, total = [], 0.0
    for length in range(1, LONGEST):
        tails.append(profile.tail(length - 1))
        total += tails[-1]
        reach = length if stride is None else min(stride, length)
        if length > reach:
            total -= tails[length - 1 - reach]
        if total < tolerance * reach:
            return length
    raise ValueError(
        f"No length below {LONGEST} is long enough. Raise the tolerance."
    )
