"""Bias, variance and angle of estimates of a gradient."""

import dataclasses

import numpy as np

# Estimates are summed in at most so many blocks; leaving out one block after
# another gives the standard error, without keeping every estimate.
BLOCKS = 16
FEWEST = 3
# Standard errors above 0 from which a squared bias is one.
CERTAIN = 2
# Mean squared error, in units of the gradient, that rounding may leave.
ROUNDING = 1e-10


@dataclasses.dataclass(frozen=True)
class GradientQuality:
    """How far n estimates of a gradient g are from it.

    With m the mean of the estimates and V the trace of their covariance,

        squared_bias = (||m - g||^2 - V / n) / ||g||^2     unbiased, may be < 0
        relative_bias = root of squared_bias; 0 where no bias was found
        relative_variance = V / ||g||^2
        bias_share = relative_bias^2 / (relative_bias^2 + relative_variance)

    so that squared_bias + relative_variance is the mean squared error of a
    single estimate, in units of the gradient. ||m - g||^2 alone is V / n on
    average where there is no bias at all; what a finite number of estimates
    leaves of it after V / n is taken off is the standard error, by a jackknife
    over at most 16 blocks of estimates. A bias was found where squared_bias is
    more than two of them above 0. What `compare_gradients` gives for each
    method and group; not made by hand.

    Args:
        exact_norm: ||g||.
        cosine: Cosine with g of an estimate, the mean over estimates.
        norm_ratio: Root of the mean squared norm of an estimate, over ||g||.
        relative_bias: As said.
        relative_bias_error: How far a standard error of `squared_bias` moves
            its root up; where no bias was found, how large one may be that is
            a standard error above what was measured. 0 where the method draws
            nothing.
        relative_variance: As said; 0 where the method draws nothing.
        bias_share: Share of the mean squared error that is bias; 0 where
            there is no error beyond rounding.
        squared_bias: As said.
        squared_bias_error: Its standard error (jackknife); 0 where the method
            draws nothing.

    Example:

    >>> found = ksg.diagnostics.GradientQuality(
    ...     2.0, 0.9, 1.1, 0.3, 0.05, 0.27, 0.25, 0.09, 0.03)
    >>> [round(bound, 3) for bound in found.bias_range]
    [0.245, 0.35]
    """

    exact_norm: float
    cosine: float
    norm_ratio: float
    relative_bias: float
    relative_bias_error: float
    relative_variance: float
    bias_share: float
    squared_bias: float
    squared_bias_error: float

    @property
    def bias_range(self) -> tuple[float, float]:
        """Relative bias less and more a standard error; from 0 on if none."""
        if not self.squared_bias_error:
            # The root of the square is another number by rounding.
            return self.relative_bias, self.relative_bias
        lower = max(self.squared_bias - self.squared_bias_error, 0.0) ** 0.5
        upper = self.relative_bias + self.relative_bias_error
        return (lower if self.relative_bias else 0.0), upper


class Deviations:
    """Sums over estimates, from which their quality follows.

    Args:
        exact: The exact gradients, one array for each variable.
        repeats: Number of estimates to come.
    """

    def __init__(self, exact, repeats):
        self.exact = [np.ravel(g).astype("float64") for g in exact]
        self.repeats = repeats
        self.blocks = min(repeats, BLOCKS)
        self.sums = [
            np.zeros((self.blocks, g.size), "float32") for g in self.exact
        ]
        # Per estimate and variable: |d|^2, |g_i|^2, g_i . g for d = g_i - g.
        self.products = []

    def add(self, gradients):
        """Enters one estimate."""
        block = len(self.products) % self.blocks
        products = []
        for gradient, exact, total in zip(
            gradients, self.exact, self.sums, strict=True
        ):
            found = np.ravel(gradient).astype("float64")
            error = found - exact
            total[block] += error.astype("float32")
            products.append((error @ error, found @ found, found @ exact))
        self.products.append(products)

    def errors(self):
        """Relative error of each single estimate, of all variables."""
        products = np.array(self.products)
        norm = np.sqrt(sum(g @ g for g in self.exact))
        return _ratio(np.sqrt(products[:, :, 0].sum(axis=1)), norm)

    def quality(self, places):
        """`GradientQuality` of the variables in some places, as one vector."""
        products = np.array(self.products)[:, places].sum(axis=1)
        squares, energy, along = products.T
        norm = np.sqrt(
            sum(self.exact[place] @ self.exact[place] for place in places)
        )
        gram = sum(_gram(self.sums[place]) for place in places)
        squared_bias, variance, error = moments(gram, squares)
        scale = norm**2
        found = squared_bias > CERTAIN * error
        bias = np.sqrt(squared_bias) if found else 0.0
        upper = np.sqrt(max(squared_bias, 0.0) + error)
        total, floor = bias**2 + variance, ROUNDING * scale
        numbers = {
            "exact_norm": norm,
            "cosine": np.mean(_ratio(along, np.sqrt(energy) * norm)),
            "norm_ratio": _ratio(np.sqrt(np.mean(energy)), norm),
            "relative_bias": _ratio(bias, norm),
            "relative_bias_error": _ratio(upper - bias, norm),
            "relative_variance": _ratio(variance, scale),
            "bias_share": bias**2 / total if total > floor else 0.0,
            "squared_bias": _ratio(squared_bias, scale),
            "squared_bias_error": _ratio(error, scale),
        }
        return GradientQuality(**{k: float(v) for k, v in numbers.items()})


def moments(gram, squares):
    """Squared bias, variance, and standard error of the squared bias.

    Args:
        gram: Products of the blocks' summed deviations, (blocks, blocks).
            Estimate i is in block i modulo blocks.
        squares: Squared norm of each estimate's deviation.
    """
    count, blocks = len(squares), len(gram)
    if count == 1:
        return gram[0, 0], 0.0, 0.0
    squared_bias, variance = _split(gram.sum(), squares.sum(), count)
    place = np.arange(count) % blocks
    left_out = [
        _split(
            gram.sum() - 2 * gram[block].sum() + gram[block, block],
            squares[place != block].sum(),
            np.sum(place != block),
        )[0]
        for block in range(blocks)
    ]
    spread = np.sum((left_out - np.mean(left_out)) ** 2)
    return squared_bias, variance, np.sqrt((blocks - 1) / blocks * spread)


def _split(total, squares, count):
    """(||mean||^2 - V / count, V) of deviations whose sum has ||sum||^2."""
    mean = total / count**2
    variance = max(squares - count * mean, 0.0) / (count - 1)
    return mean - variance / count, variance


def _gram(sums):
    sums = sums.astype("float64")
    return sums @ sums.T


def _ratio(above, below):
    """Quotient; not a number where nothing is divided by."""
    return np.divide(
        above,
        below,
        out=np.full(np.broadcast(above, below).shape, np.nan),
        where=np.asarray(below) != 0,
    )
