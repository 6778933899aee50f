"""Forward propagation through time: the parameters carry the past risk.

Nothing crosses a boundary backward. Each part of a sequence has its loss and
its update, and a regulariser, which the optimizer adds, keeps the parameters
near what earlier parts wanted.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_seqgrad.methods.base import Method, serializable
from keras_seqgrad.methods.fptt import part_losses
from keras_seqgrad.optimizers import fptt, regularizer
from keras_seqgrad.optimizers.average_weights import MODES, AverageWeights
from keras_seqgrad.tensors import arguments
from keras_seqgrad.window.ends import before_ends
from keras_seqgrad.window.loops import each_segment_recorded
from keras_seqgrad.window.pullback import pull, pull_window

PART_LOSSES = ("auto", "terminal", "weighted")


def gates_between(steps, length):
    """Gates (time,) that cut before every part."""
    step = tf.range(steps)
    return tf.where((step % length == 0) & (step > 0), 0.0, 1.0)


@serializable
class FPTT(Method):
    """Forward propagation through time: an update at the end of every part.

    Use it for long sequences where many updates a sequence and intermediate
    losses help: with one target per sequence the model is asked for it at the
    end of every part. Not the choice where the gradient has to reach further
    back than a part. The regulariser by its defaults did no harm where it was
    measured, nor good: train with `regularize=False` beside it. It is not the
    forward propagation of errors through time of Zucchet et al. (2026), which
    is another method. docs/methods/fptt.md has figures.

    Rule: a sequence of T steps is cut into parts of ceil(T / parts) steps, the
    last one shorter where need be. For each part, the state before it taken as
    a constant,

        W <- one step of the optimizer on  l(W) + R(W)
        R(W) = alpha/2 ||W - V||^2 - c <W, m>

    where V and m are the average and multipliers that `ksg.optimizers.FPTT`
    keeps, and c is 1/2 with form="paper", 1 with form="code"; the compiled
    optimizer is wrapped in one unless it is one. Both go on from sequence to
    sequence. With c above beta the regulariser is a friction, which undoes the
    longer steps that Adam takes where gradients are small: by the authors' own
    setting, `FPTT.authors`, nothing is learnt on some tasks. l is, with targets
    at every step, the mean loss of the part; with one target per sequence,
    after t of T steps,

        "terminal"  t/T CE(y, p) + (1 - t/T) (-sum Q log p), Q being the mean
                    of what the model said there in the previous epoch for the
                    same class (uniform at first)
        "weighted"  the compiled loss times (part + 1) / parts

    "auto" is terminal for one output (batch, classes) with categorical
    crossentropy, sparse or not, and weighted otherwise. A function (loss, y,
    y_pred, progress) -> scalar gets the compiled loss of the part, its targets
    and outputs, and t/T. Losses that regularisers and layers add are not
    weighted. Logged loss and metrics are, with one target per sequence, those
    of the last part.

    Epochs: at the end of one, before evaluation, W <- V and m <- 0, as in the
    authors' code; and Q is renewed at the start of the next. Both happen in
    `fit`, not in `train_on_batch`.

    Gradient: biased, that of `TruncatedBPTT` with the length of a part;
    exact where one part covers the window. `estimate_gradients` gives it for
    the window's own loss, without the regulariser, which is the optimizer's.
    Memory: O(T / parts) activations, three copies of the parameters, and for
    "terminal" parts x classes x classes numbers twice.

    Args:
        parts: Number of parts; or give `length`.
        alpha: Strength of the regulariser, above 0.
        beta: Share of the new parameters in the average, in (0, 1].
        form: "paper" or "code"; see `ksg.optimizers.FPTT`, as for `weight` and
            `rho`.
        length: Steps of a part, instead of `parts`.
        regularize: False trains on the same parts and losses without the
            regulariser, and without averages.
        weight: Factor of the quadratic term of the regulariser.
        rho: Share of the multiplier's term to leave out.
        part_loss: "auto", "terminal", "weighted" or a function.
        average: "swap" as said; "evaluate" to evaluate V without moving W; or
            None. See `ksg.callbacks.AverageWeights`.

    Raises:
        ValueError: An argument is out of its range; not one of `parts` and
            `length` is given; the model is compiled with an FPTT optimizer of
            other settings, or does not have what `part_loss` needs.

    Reference:
        Kag and Saligrama, 2021. Training recurrent neural networks via
        forward propagation through time. ICML, PMLR 139:5189-5200.

    Example:

    >>> method = ksg.methods.FPTT(parts=10, alpha=0.1)
    >>> method.part_length(784)
    79
    """

    random = False

    def __init__(
        self,
        parts: int | None = None,
        alpha: float = 0.01,
        beta: float = 0.5,
        form: str = "paper",
        *,
        length: int | None = None,
        regularize: bool = True,
        weight: float = 1.0,
        rho: float = 0.0,
        part_loss: str | Callable[..., Any] = "auto",
        average: str | None = "swap",
    ) -> None:
        if (parts is None) == (length is None):
            raise ValueError(
                "Give either `parts` or `length`. "
                f"Received: parts={parts!r}, length={length!r}"
            )
        regularizer.check_settings(alpha, beta, form, weight, rho)
        if not callable(part_loss):
            arguments.choice(
                part_loss,
                "part_loss",
                PART_LOSSES,
                " or a function (loss, y, y_pred, progress) -> scalar",
            )
        arguments.choice(average, "average", (*MODES, None))
        self.parts, self.length = (
            None if value is None else arguments.positive_integer(value, name)
            for name, value in (("parts", parts), ("length", length))
        )
        self.settings = {
            "alpha": float(alpha),
            "beta": float(beta),
            "form": form,
            "weight": float(weight),
            "rho": float(rho),
        }
        self.regularize = arguments.flag(regularize, "regularize")
        self.part_loss = part_loss
        self.average = average

    @classmethod
    def authors(
        cls,
        parts: int | None = None,
        alpha: float = 0.5,
        beta: float = 0.5,
        **options: Any,
    ) -> "FPTT":
        """The regulariser as in the authors' code: form="code", alpha=0.5.

        To reproduce what they did, not to train with. They took alpha=0.1 for
        MNIST and CIFAR-10, 0.2 for characters and words of the Penn Treebank
        (beta=0.7 for words), 0.5 for the rest.

        Args:
            parts: Number of parts; or give `length`.
            alpha: Strength of the regulariser.
            beta: Share of the new parameters in the average.
            **options: As for the class.

        Returns:
            An `FPTT`.

        Example:

        >>> ksg.methods.FPTT.authors(10)
        FPTT(parts=10, alpha=0.5, form='code')
        """
        return cls(parts, alpha, beta, "code", **options)

    def part_length(self, steps: Any) -> Any:
        """Steps of a part of a sequence of `steps`, an integer or a tensor."""
        if self.length is not None:
            return self.length
        return -(-steps // self.parts)

    # --- compile ----------------------------------------------------------

    def build(self, model):
        self._build_optimizer(model)
        if self.part_loss not in ("auto", "terminal"):
            return
        table, reason = part_losses.table_for(model, self._parts_of(model))
        if table is not None:
            model.method_state.parts[part_losses.TABLE] = table
        elif self.part_loss == "terminal":
            raise ValueError(
                'part_loss="terminal" needs a model of layers with one output '
                "(batch, classes), trained by categorical crossentropy, sparse "
                f"or not, in a known number of parts. Received: {reason}. Set "
                'part_loss="weighted", or give a function.'
            )

    def _build_optimizer(self, model):
        given = fptt.find(model.optimizer)
        if given is None and self.regularize:
            model.optimizer = fptt.wrap(model.optimizer, **self.settings)
        elif given is not None and not self.regularize:
            raise ValueError(
                "regularize=False leaves the regulariser out. Expected an "
                "optimizer without FPTT, received "
                f"{model.optimizer.__class__.__name__} with it. Compile with "
                "the inner optimizer."
            )
        elif given is not None and given.settings != self.settings:
            raise ValueError(
                "The settings of the regulariser are the optimizer's where it "
                f"is FPTT. Expected {given.settings}, received "
                f"{self.settings}. Compile with the inner optimizer, or give "
                "the method the same settings."
            )

    def _parts_of(self, model):
        """Number of parts of the model's sequences, or None if unknown."""
        if self.parts is not None or model.is_opaque:
            return self.parts
        inputs = keras.tree.flatten(model.network.inputs)
        [steps, *_] = [
            tensor.shape[1]
            for tensor, temporal in zip(
                inputs, model.graph.temporal_inputs, strict=True
            )
            if temporal
        ]
        return None if steps is None else -(-steps // self.length)

    def callbacks(self):
        own = [part_losses.RollClassDistributions()]
        if self.regularize and self.average:
            own.append(AverageWeights(self.average))
        return own

    # --- the steps --------------------------------------------------------

    def train(self, window):
        length = self.part_length(window.steps)
        loss = self._loss(window, length)

        def step(segment, state):
            value, gradients, outputs, state = pull(
                window, segment, state, loss=loss
            )
            window.learner.apply(gradients)
            if loss != window.loss:
                value = window.loss(segment, outputs)
            return outputs, state, value

        return each_segment_recorded(window, length, step, window.state)

    def _loss(self, window, length):
        """Function (segment, outputs) -> scalar, the loss of a part."""
        if callable(self.part_loss):
            return part_losses.chosen(self.part_loss, window)
        if part_losses.TABLE in window.method_state.parts:
            return part_losses.terminal(window, length)
        if self.part_loss == "terminal" or (
            self.part_loss == "weighted" and not window.one_target
        ):
            raise ValueError(
                f'part_loss="{self.part_loss}" needs one target per sequence. '
                'With targets at every step set part_loss="auto".'
            )
        if window.one_target:
            return part_losses.weighted(window, length)
        return window.loss

    def estimate(self, window, seed=None):
        length = self.part_length(window.steps)
        gates = before_ends(window, gates_between(window.steps, length))
        loss, gradients, _, _ = pull_window(window, gates)
        return loss, gradients

    def get_config(self):
        return {
            "parts": self.parts,
            **self.settings,
            "length": self.length,
            "regularize": self.regularize,
            "part_loss": self.part_loss,
            "average": self.average,
        }

    @classmethod
    def from_config(cls, config):
        if isinstance(config["part_loss"], dict):
            function = keras.saving.deserialize_keras_object(
                config["part_loss"]
            )
            config = {**config, "part_loss": function}
        return cls(**config)
