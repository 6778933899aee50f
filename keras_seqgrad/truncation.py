"""Where gradient may cross a step, and what the crossing is worth.

A *law* says after which steps of a sequence the backward link is cut. Methods,
layers and `ksg.data.stream` share the two laws of this file:

* `Fixed(length)`: a cut after every `length` steps. Biased.
* `Random(mean_length, alpha)`: a cut after the a-th step of a piece with
  probability c_a; every link that is not cut is worth 1 / (1 - c_a), so that
  the expected gradient is the full one. Unbiased.

Both speak in *gates*: one number for each step, by which the gradient on its
way from the step's state to the state before it is multiplied. `gates[t]`
belongs to the link between step t - 1 and step t; `gates[0]` to the link
between the first step and the initial state, which no law ever cuts.
"""

from typing import Any, Self

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_seqgrad.tensors import arguments

__all__ = ["Fixed", "Random"]

PACKAGE = "keras_seqgrad"
# Share of pieces that are too few to have a length of their own.
LEAST = 1e-12
GENERATORS = np.random.Generator, np.random.RandomState


def _extent(steps, batch_size=None):
    """(steps, rows or None), integers or, in a graph, tensors."""
    if not tf.is_tensor(steps):
        steps = arguments.positive_integer(steps, "steps")
    if batch_size is not None and not tf.is_tensor(batch_size):
        batch_size = arguments.positive_integer(batch_size, "batch_size")
    return steps, batch_size


@keras.saving.register_keras_serializable(PACKAGE)
class Fixed:
    """Cuts the backward link after every `length` steps.

    The classic truncation: cheap, the same for every window, and biased:
    whatever reaches further back than the current piece is lost. Use it when
    the memory of the task is known to be shorter than `length`; use `Random`
    when it is not.

    Rule: gate of step t is 0 where t is a multiple of `length` (t > 0),
    else 1.

    Args:
        length: Steps from one cut to the next, 1 or more.

    Raises:
        ValueError: `length` is not a positive integer.

    Reference:
        Williams and Peng, 1990. An efficient gradient-based algorithm for
        on-line training of recurrent network trajectories.

    Example:

    >>> ksg.truncation.Fixed(2).gates(5).numpy().tolist()
    [1.0, 1.0, 0.0, 1.0, 0.0]
    """

    def __init__(self, length: int) -> None:
        self.length = arguments.positive_integer(length, "length")

    def gates(
        self, steps: Any, batch_size: Any = None, seed: Any = None
    ) -> tf.Tensor:
        """Gates of `steps` steps, shape (time,); `seed` is not used."""
        steps, _ = _extent(steps, batch_size)
        step = tf.range(steps)
        cut = (step % self.length == 0) & (step > 0)
        return tf.where(cut, 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"length": self.length}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)

    def __repr__(self):
        return f"Fixed({self.length})"


@keras.saving.register_keras_serializable(PACKAGE)
class Random:
    """Cuts at random and reweights what is kept: truncation without bias.

    Use it when dependencies may be longer than any truncation length you can
    afford. The price is variance: the weight of a link t steps into a piece is
    a product of t factors, which grows like a power of t for a finite `alpha`
    and exponentially for `alpha=None`. Not the choice when the gradient noise
    is already what limits training.

    Rule: the age a = 1, 2, … counts the steps since the last cut, and

        c_a = (alpha - 1) / ((alpha - 2) * mean_length + a)
        c_a = 1 / mean_length                       for alpha=None

    is the probability of a cut after the step of age a. The gate of the link
    that leaves this step is 0 with probability c_a, else 1 / (1 - c_a): its
    expectation is 1, whatever happened before, so the expected gradient is
    that of the whole sequence. The mean length of a piece is `mean_length`
    under either law.

    **Few lengths.** With a `hazard` pieces have one of few lengths, which grow
    by about r = (1 - hazard)^(-1 / (alpha - 1)) from one to the next. Windows
    of a stream, which are padded to few lengths for XLA, then need no padding.
    A cut after a step whose age is one of these lengths, g steps above the one
    before, has the probability

        c_a = g * (beta - 1) / ((beta - 2) * mean_length + a)
        beta = 1 + hazard * r / (r - 1)
        c_a = g / mean_length                       for alpha=None

    and at other ages there is none. The mean length is the same, and the tail
    falls with the same exponent. Lengths lie as far apart as leaves every c_a
    at `hazard` or below.

    Args:
        mean_length: Expected steps from one cut to the next, more than 1.
        alpha: Tail exponent, more than 2 (a finite variance of the length
            needs more than 3), or None for a constant probability.
        hazard: Largest probability of a cut at one step, 0.1 or more and below
            1, for pieces of few lengths; None for pieces of any length.

    Raises:
        ValueError: `mean_length` is not above 1, `alpha` not above 2, or
            `hazard` not from 0.1 to 1.

    Reference:
        Tallec and Ollivier, 2017. Unbiasing truncated backpropagation through
        time. arXiv:1705.08209, equation 14.

    Example:

    >>> law = ksg.truncation.Random(50, alpha=4.0)
    >>> round(float(law.cut_probability(1)), 4)
    0.0297
    >>> law = ksg.truncation.Random(50, hazard=0.5)
    >>> sorted(set(law.draw_lengths(9, np.random.default_rng(0)).tolist()))
    [18, 41, 152, 210]
    """

    def __init__(
        self,
        mean_length: float,
        alpha: float | None = 4.0,
        hazard: float | None = None,
    ) -> None:
        self.mean_length = arguments.number(
            mean_length,
            "mean_length",
            above=1,
            wanted="more than 1 step; at 1 every link is cut and nothing can "
            "make up for it",
        )
        self.alpha = None
        if alpha is not None:
            self.alpha = arguments.number(
                alpha,
                "alpha",
                above=2,
                wanted="more than 2 (the mean length is infinite otherwise), "
                "or None for a constant probability of a cut",
            )
        self.hazard, self._tail = None, self.alpha
        if hazard is not None:
            self.hazard = arguments.number(
                hazard,
                "hazard",
                least=0.1,
                below=1,
                wanted="0.1 or more and below 1, or None for pieces of any "
                "length",
            )
            if self.alpha is not None:
                ratio = (1.0 - self.hazard) ** (-1.0 / (self.alpha - 1.0))
                self._tail = 1.0 + self.hazard * ratio / (ratio - 1.0)
            self._lengths = self._few_lengths()

    def cut_probability(self, age: npt.ArrayLike) -> np.ndarray:
        """c_a for one age or an array of ages (1 = first step of a piece)."""
        age = arguments.array(age, "age", "numbers of 1 or more")
        if age.dtype.kind not in "iuf" or not (
            np.all(np.isfinite(age)) and np.all(age >= 1)
        ):
            arguments.refuse(age, "age", "numbers of 1 or more")
        age = age.astype("float64")
        if self.hazard is None:
            return self._rate(age)
        ends = self._lengths
        place = np.minimum(np.searchsorted(ends, age), len(ends) - 1)
        gaps = np.diff(ends, prepend=0.0)[place]
        return np.where(ends[place] == age, gaps, 0.0) * self._rate(age)

    def draw_lengths(
        self, count: int, generator: Any, longest: int = 100_000
    ) -> np.ndarray:
        """Lengths of `count` pieces, drawn by a NumPy `generator`.

        Lengths are drawn by inverting the law; the few beyond `longest` are
        returned as `longest`.
        """
        count = arguments.positive_integer(count, "count")
        longest = arguments.positive_integer(longest, "longest")
        if not isinstance(generator, GENERATORS):
            wanted = "a NumPy generator, as np.random.default_rng(seed)"
            arguments.refuse(generator, "generator", wanted)
        ages = np.arange(1, longest)
        survival = np.cumprod(1.0 - self.cut_probability(ages))
        drawn = generator.random(count)
        # P(length > j) = survival[j - 1], a falling sequence.
        return 1 + np.searchsorted(-survival, -drawn, side="right")

    def link_weights(self, steps: Any) -> tf.Tensor:
        """Worth of each link when none is cut, shape (time,).

        The gates of a piece that starts with the first step: 1 for the link to
        the initial state, then 1 / (1 - c_1), 1 / (1 - c_2), …
        """
        steps, _ = _extent(steps)
        age = tf.cast(tf.range(steps), "float32")
        return tf.where(age > 0, 1.0 / (1.0 - self._probability(age)), 1.0)

    def gates(
        self, steps: Any, batch_size: Any = None, seed: Any = None
    ) -> tf.Tensor:
        """Draws the gates of a sequence of `steps` steps.

        Args:
            steps: Number of steps.
            batch_size: None: the same cuts for every row. A number: every row
                has cuts of its own.
            seed: A pair of integers for `tf.random.stateless_uniform`.

        Returns:
            float32 tensor (time,), or (batch, time) with `batch_size`.
        """
        steps, batch_size = _extent(steps, batch_size)
        seed = arguments.tensor(seed, "seed", "a pair of integers")
        if (
            not seed.dtype.is_integer
            or seed.shape.rank != 1
            or (seed.shape[0] != 2)
        ):
            arguments.refuse(seed, "seed", "a pair of integers")
        rows = 1 if batch_size is None else batch_size
        # Integers, because XLA draws other floats from the same seed.
        bits = tf.random.stateless_uniform(
            (steps, rows), seed, None, None, tf.uint32, alg="philox"
        )
        uniform = tf.cast(tf.bitwise.right_shift(bits, 8), "float32") / 2**24

        def step(carry, drawn):
            age, _ = carry
            probability = self._probability(tf.maximum(age, 1.0))
            cut = (drawn < probability) & (age > 0)
            gate = tf.where(
                cut, 0.0, tf.where(age > 0, 1.0 / (1.0 - probability), 1.0)
            )
            return tf.where(cut, 1.0, age + 1.0), gate

        start = (tf.zeros((rows,)), tf.zeros((rows,)))
        _, gates = tf.scan(step, uniform, start)
        gates = tf.transpose(gates)
        return gates[0] if batch_size is None else gates

    def _probability(self, age):
        """`cut_probability` of a float32 tensor."""
        if self.hazard is None:
            return self._rate(age)
        ends = tf.constant(self._lengths, "float32")
        gaps = tf.constant(np.diff(self._lengths, prepend=0), "float32")
        found = age[..., tf.newaxis] == ends
        return tf.reduce_sum(tf.where(found, gaps, 0.0), -1) * self._rate(age)

    def _few_lengths(self):
        """The lengths of pieces, as long as anything is left of them."""
        length, left, found = 0, 1.0, []
        while left > LEAST:
            # What makes gap * rate(length + gap) the hazard.
            gap = self.hazard / self._rate(length)
            if self._tail is not None:
                gap /= 1.0 - self.hazard / (self._tail - 1.0)
            gap = max(1, int(gap))
            length += gap
            left *= 1.0 - gap * self._rate(length)
            found.append(length)
        return np.array(found, "float64")

    def _rate(self, age):
        """Probability of a cut for each step since the length before."""
        if self._tail is None:
            return (0.0 * age + 1.0) / self.mean_length
        scale = (self._tail - 2.0) * self.mean_length
        return (self._tail - 1.0) / (scale + age)

    def get_config(self) -> dict[str, Any]:
        return {
            "mean_length": self.mean_length,
            "alpha": self.alpha,
            "hazard": self.hazard,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)

    def __repr__(self):
        more = "" if self.hazard is None else f", hazard={self.hazard}"
        return f"Random({self.mean_length}, alpha={self.alpha}{more})"


# What an argument `truncation` may be.
Truncation = int | Fixed | Random | None
