"""A cosine learning rate that starts anew, cycle after cycle."""

import math
from typing import Literal

import keras

from keras_seqgrad.tensors import arguments, replicas

GROWTHS = ("fixed", "doubling_cycles", "doubling_boundaries")
PRESETS = {"base 5": 5, "base 160": 160}


class WarmRestarts(keras.callbacks.Callback):
    """Sets the learning rate of every epoch: cosine cycles with restarts.

    In the t-th epoch (t = 0, 1, ...) of a cycle of n epochs

        rate = minimum + (learning_rate - minimum) / 2 (1 + cos(pi t / n))

    Use it for long trainings with `AlternatingGradients`, whose phase it flips
    at every restart, or with any other method or Keras model. Not together
    with another schedule of the learning rate. A pure function of the epoch,
    so that training goes on right after `fit(initial_epoch=...)`.

    Args:
        learning_rate: Rate at the start of each cycle.
        cycle: Epochs of the first cycle; or a name of Shang and Zhang's:
            "base 5" (restarts when 5, 10, 20, 40, 80, ... epochs are done) or
            "base 160" (160, 320, ...).
        growth: Of the cycles after the first one: "fixed", all alike (5, 10,
            15, ... epochs done); "doubling_cycles", each twice as long as the
            one before (5, 15, 35, ...); "doubling_boundaries", each as long as
            all before (5, 10, 20, ...). The names need the last.
        minimum: Rate the cosine falls to.

    Raises:
        ValueError: An argument is out of its range; or the optimizer follows a
            schedule of its own.

    Reference:
        Loshchilov and Hutter, 2017. SGDR: stochastic gradient descent with
        warm restarts. arXiv:1608.03983.

    Example:

    >>> ksg.callbacks.WarmRestarts(1e-3, "base 5").restarts(170)
    [5, 10, 20, 40, 80, 160]
    """

    def __init__(
        self,
        learning_rate: float,
        cycle: int | Literal["base 5", "base 160"],
        growth: Literal[
            "fixed", "doubling_cycles", "doubling_boundaries"
        ] = "doubling_boundaries",
        minimum: float = 0.0,
    ) -> None:
        super().__init__()
        arguments.choice(growth, "growth", GROWTHS)
        if isinstance(cycle, str):
            if cycle not in PRESETS or growth != "doubling_boundaries":
                raise ValueError(
                    "`cycle` must be a number of epochs or one of "
                    f"{sorted(PRESETS)}, with growth='doubling_boundaries'. "
                    f"Received: cycle={cycle!r}, growth={growth!r}"
                )
            cycle = PRESETS[cycle]
        self.minimum = arguments.number(minimum, "minimum", least=0)
        self.learning_rate = arguments.number(
            learning_rate, "learning_rate", above=0
        )
        if self.minimum >= self.learning_rate:
            raise ValueError(
                "`learning_rate` must be above `minimum`, and that 0 or above. "
                f"Received: learning_rate={learning_rate}, minimum={minimum}"
            )
        self.cycle = arguments.positive_integer(cycle, "cycle")
        self.growth = growth

    def restarts(self, epochs: int) -> list[int]:
        """Numbers of epochs done when a cycle restarts, up to `epochs`."""
        arguments.integer(epochs, "epochs", 0)
        found, end, length = [], self.cycle, self.cycle
        while end <= epochs:
            found.append(end)
            if self.growth == "doubling_cycles":
                length *= 2
            elif self.growth == "doubling_boundaries":
                length = end
            end += length
        return found

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        done = [0, *self.restarts(arguments.integer(epoch, "epoch", 0))]
        start = done[-1]
        length = self.cycle
        if self.growth == "doubling_cycles":
            length *= 2 ** (len(done) - 1)
        elif self.growth == "doubling_boundaries":
            length = start or self.cycle
        share = (1 + math.cos(math.pi * (epoch - start) / length)) / 2
        return self.minimum + (self.learning_rate - self.minimum) * share

    @property
    def _phase(self):
        """The phase of a method that alternates, or None."""
        method_state = getattr(self.model, "method_state", None)
        return method_state and method_state.parts.get("phase")

    def set_model(self, model):
        super().set_model(model)
        if self._phase is not None:
            self._phase.driven = True

    def on_epoch_begin(self, epoch, logs=None):
        optimizer = self.model.optimizer
        try:
            optimizer.learning_rate = self.rate(epoch)
        except TypeError as error:
            raise ValueError(
                "WarmRestarts sets the learning rate itself. Expected an "
                "optimizer with a number as its learning_rate, received one "
                "with a schedule."
            ) from error
        if self._phase is not None:
            self._phase.set(len(self.restarts(epoch)))

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = replicas.number(
                self.model.optimizer.learning_rate
            )
