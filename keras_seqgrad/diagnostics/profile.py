"""The influence of past states by lag, and what a truncation loses of it."""

import bisect
import dataclasses
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np

from keras_seqgrad.diagnostics.pictures import new_figure
from keras_seqgrad.diagnostics.steps import ALL
from keras_seqgrad.tensors import arguments


@dataclasses.dataclass
class InfluenceProfile:
    """Mean influence of past states on the loss of a step, by lag.

    What `influence_profile` returns; may also be made of norms measured
    elsewhere.

    Args:
        norms: Dict of arrays (max_lag + 1,) by layer, and "all" for the states
            of all layers together: mean of ||dL_s/dh_{s-k}|| for k = 0, 1, …
        sums: Dict like it: norm of the mean of dL_s/dh_s + … + dL_s/dh_{s-k},
            which is the gradient by a shift of all states, cut after lag k; or
            None.

    Example:

    >>> norms = {"all": 0.5 ** np.arange(9)}
    >>> profile = ksg.diagnostics.InfluenceProfile(norms)
    >>> round(profile.decay_rates["all"], 6), round(profile.relative_bias(4), 6)
    (0.5, 0.234375)
    """

    norms: dict
    sums: dict | None = None

    @property
    def max_lag(self) -> int:
        """The longest lag."""
        return len(self.norms[ALL]) - 1

    @property
    def decay_rates(self) -> dict[str, float]:
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

    def _of(self, layer):
        """(norms, decay rate, longest lag) of a layer."""
        arguments.choice(layer, "layer", [*self.norms])
        norms = np.asarray(self.norms[layer], "float64")
        return norms, self.decay_rates[layer], self.max_lag

    def tail(self, lag: int, layer: str = ALL) -> float:
        """Share of the influence that lies beyond a lag.

        Beyond `max_lag` the influence goes on falling at its decay rate.
        """
        norms, rate, last = self._of(layer)
        arguments.integer(lag, "lag", 0)
        if rate >= 1.0:
            raise ValueError(
                "The influence does not fall over the longer half of the lags "
                f"(rate {rate:.4g}), so what lies beyond them is unknown. "
                f"Expected a rate below 1. Measure beyond max_lag={last}, on a "
                "longer window."
            )
        beyond = norms[last] * rate / (1.0 - rate)
        total = norms.sum() + beyond
        if total == 0:
            return 0.0
        if lag >= last:
            return float(beyond * rate ** (lag - last) / total)
        return float((norms[lag + 1 :].sum() + beyond) / total)

    def beyond(self, lag: int, layer: str = ALL) -> float:
        """Bound of the influence beyond a lag, in its own units.

            E(k) = φ_{k+1} + … + φ_τ + φ_τ β / (1 - β)

        with φ the norms, τ the longest lag and β the decay rate; infinite
        where the influence does not fall.
        """
        norms, rate, last = self._of(layer)
        arguments.integer(lag, "lag", 0)
        if not norms.any():
            return 0.0
        if rate >= 1.0:
            return float("inf")
        rest = norms[last] * rate / (1.0 - rate)
        if lag >= last:
            return float(rest * rate ** (lag - last))
        return float(norms[lag + 1 :].sum() + rest)

    def gradient_norm(self, layer: str = ALL, signed: bool = False) -> float:
        """Lower bound of the norm of the gradient by a shift of all states.

        The largest of ||g_k|| - E(k), g_k being that gradient cut after lag k,
        or 0 if all are below. `signed` takes the norms that were measured
        (`sums`), in which rows and steps that pull in different directions
        cancel; else φ_0 + … + φ_k stands for them, as if nothing cancelled.
        """
        kept = np.cumsum(self._of(layer)[0])
        if arguments.flag(signed, "signed"):
            if self.sums is None:
                raise ValueError(
                    "signed=True needs the norms of sums. Expected a profile "
                    "made by influence_profile, received one without `sums`."
                )
            kept = np.asarray(self.sums[layer], "float64")
        cut = [self.beyond(lag, layer) for lag in range(len(kept))]
        return max(0.0, float(np.max(kept - cut)))

    def bias_bound(
        self,
        length: int,
        stride: int | None = None,
        layer: str = ALL,
        signed: bool = False,
    ) -> float:
        """Bound of the relative bias, for `relative_bias`' arguments.

            mean of E(j) for j = length - stride … length - 1
            over gradient_norm(layer, signed)

        infinite where that is 0. More cautious than `relative_bias` where much
        lies beyond the lags that were measured. With `signed` it bounds, by
        the triangle inequality, the bias of the gradient by a shift of all
        states, and is far above the bias of most networks: their gradients
        are small beside the influence of which they are the sum.
        """
        first = _first_lag(length, stride)
        lost = np.mean([self.beyond(j, layer) for j in range(first, length)])
        norm = self.gradient_norm(layer, signed)
        if norm > 0:
            return float(lost / norm)
        return float("inf") if lost > 0 else 0.0

    def relative_bias(
        self, length: int, stride: int | None = None, layer: str = ALL
    ) -> float:
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
        first = _first_lag(length, stride)
        _, rate, last = self._of(layer)
        lags = range(first, min(length, last))
        lost = sum(self.tail(lag, layer) for lag in lags)
        start = max(first, last)
        if length > start:  # of a geometric series
            steps = length - start
            lost += self.tail(start, layer) * (1 - rate**steps) / (1 - rate)
        return lost / (length - first)

    def to_dict(self) -> dict[str, Any]:
        """Nested dicts and numbers, fit for JSON."""
        return {
            name: {
                "norms": [float(norm) for norm in norms],
                "decay_rate": self.decay_rates[name],
            }
            for name, norms in self.norms.items()
        }

    def plot(self, path: str | PathLike | None = None) -> Any:
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


def _first_lag(length, stride):
    """The first lag at which a loss is cut, of `length` or fewer of them."""
    length = arguments.positive_integer(length, "length")
    if stride is not None:
        stride = arguments.positive_integer(stride, "stride")
    return length - min(stride or length, length)


def check_tolerance(tolerance):
    """The relative bias as a float, or refuses one that is none."""
    return arguments.number(
        tolerance, "tolerance", above=0, below=1, wanted="above 0 and below 1"
    )


def suggest_truncation_length(
    profile: InfluenceProfile,
    tolerance: float = 0.1,
    stride: int | None = None,
    lengths: Sequence[int] | None = None,
    signed: bool = False,
) -> int:
    """The shortest truncation length whose estimated bias is tolerable.

        smallest K with profile.relative_bias(K, stride) < tolerance

    or, of some `lengths` that are given, Aicher's choice:

        smallest K with profile.bias_bound(K, stride, signed=signed)
        < tolerance, else the largest

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
        lengths: Increasing integers to choose from; None for any.
        signed: As for `InfluenceProfile.bias_bound`, among `lengths`.

    Returns:
        K, an integer.

    Raises:
        ValueError: The tolerance is out of its range, `lengths` do not
            increase, or, without them, the influence does not fall with the
            lag.

    Reference:
        Aicher, Foti and Fox, 2019. Adaptively truncating backpropagation
        through time to control gradient bias. arXiv:1905.07473.

    Example:

    >>> norms = {"all": 0.5 ** np.arange(9)}
    >>> profile = ksg.diagnostics.InfluenceProfile(norms)
    >>> ksg.diagnostics.suggest_truncation_length(profile, 0.1, stride=1)
    4
    """
    if not isinstance(profile, InfluenceProfile):
        arguments.refuse(profile, "profile", "an InfluenceProfile")
    check_tolerance(tolerance)
    arguments.flag(signed, "signed")
    if stride is not None:
        arguments.positive_integer(stride, "stride")
    if lengths is not None:
        lengths = arguments.increasing(lengths, "lengths")
        for length in lengths:
            bias = profile.bias_bound(length, stride, signed=signed)
            if bias < tolerance:
                return length
        return lengths[-1]

    def is_long_enough(length):
        return profile.relative_bias(length, stride) < tolerance

    # The bias falls with the length, in the end as a geometric series.
    enough = 1
    while not is_long_enough(enough):
        enough *= 2
    candidates = range(1, enough + 1)
    place = bisect.bisect_left(candidates, True, key=is_long_enough)
    return candidates[place]
