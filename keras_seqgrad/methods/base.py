"""The seam: what a training method is."""

import abc
import inspect
from typing import Any, Self

import keras

from keras_seqgrad.network import front
from keras_seqgrad.window.window import Window


class Method(abc.ABC):
    """How gradient crosses the boundaries, and when parameters move.

    A method is an object with fields, given to `SequenceModel.compile` and
    called from its one `train_step`. It sees the batch as a
    `keras_seqgrad.window.window.Window` and nothing of the model beside it.

    Attributes:
        random: Whether an estimate depends on its seed. A method that draws
            nothing says False, and is not asked again and again.
        takes_head: Whether it trains models of which a part needs all steps of
            a sequence at once (see `keras_seqgrad.network.head`).
        takes_uncut: Whether it trains models that run on whole windows alone.
        takes_front: Whether it trains them by what can be cut behind a part
            that needs all steps (see `keras_seqgrad.network.front`).
        cuts_targets: Whether it takes the loss of segments, for which targets
            are cut with the inputs. Losses that judge a sequence as a whole
            are refused then.
        crosses_windows: Whether, with a carried state, something of the
            gradient reaches over the end of a window.
        length: Steps from one cut to the next where that is fixed, or None.
        gates_inside: Whether it cuts or weights links inside of what it runs
            at once, or runs cells by a scan of its own. Otherwise a segment
            may be run by Keras' cuDNN kernel.
        compiles: Whether XLA can compile its steps.
        when_not_finite: What the error of a bad window says where the method
            itself may be why loss, gradient or state are not finite.

    Example:

    >>> isinstance(ksg.methods.BPTT(), ksg.methods.Method)
    True
    """

    random = True
    takes_head = takes_uncut = takes_front = False
    cuts_targets = True
    crosses_windows = False
    length: int | None = None
    gates_inside = False
    compiles = True
    when_not_finite = ""

    def check(self, model: Any) -> None:
        """Refuses a compiled model that the method cannot run on.

        Called by `compile` before `build`, and by what compares methods.
        """
        head, uncut = model.network_head, model.network_uncut
        if uncut is not None and not self.takes_uncut:
            if not self.takes_front:
                raise ValueError(
                    f"{uncut} {self!r} runs segments from the inputs on. "
                    "ksg.methods.BPTT() runs windows as a whole and trains "
                    "this model as it is; BPTT with checkpoints, ARTBP and "
                    "TruncatedBPTT without a stride run in segments what is "
                    "behind that layer."
                )
            front.find(model)
        if head is not None and not self.takes_head:
            raise ValueError(
                f"{head.reason} {self!r} takes the loss of segments. "
                "With one update a window ksg.methods.BPTT, ARTBP, SnAp, RTRL "
                "and TruncatedBPTT without a stride train this model as it is."
            )

    # Most methods have nothing to build.
    def build(self, model: Any) -> None:  # noqa: B027
        """Creates what the method learns or draws, beside the weights.

        Called by `compile`. What is created in `model.method_state.parts` is
        saved and restored with the model.
        """

    def callbacks(self) -> list:
        """Callbacks that `fit` adds to the user's, before any of them."""
        return []

    @abc.abstractmethod
    def train(self, window: Window) -> Any:
        """Moves the parameters by one window; returns the state after it."""

    @abc.abstractmethod
    def estimate(self, window: Window, seed: Any = None) -> tuple:
        """(loss, gradients) of the window's loss; moves nothing.

        Args:
            window: The window, its `scaled` being False.
            seed: Integer that replaces the method's own draws, or None for
                the draws its next training step would use.
        """

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The method a config describes."""
        return cls(**config)

    def __repr__(self):
        """The settings that are not the default."""
        parameters = inspect.signature(type(self)).parameters
        shown = ", ".join(
            f"{name}={said(value)}"
            for name, value in self.get_config().items()
            if name in parameters and value != parameters[name].default
        )
        return f"{type(self).__name__}({shown})"


def said(value):
    """A setting in a few words: an optimizer or a layer by its class."""
    if hasattr(value, "get_config"):
        return type(value).__name__
    return repr(value)


class WindowMethod(Method):
    """A method that moves the parameters once a window."""

    cuts_targets = False

    @abc.abstractmethod
    def pull(self, window, seed=None):
        """(loss, gradients, outputs, state) of a window."""

    def train(self, window):
        loss, gradients, outputs, state = self.pull(window)
        window.learner.apply(gradients)
        window.learner.record_window(outputs, loss)
        return state

    def estimate(self, window, seed=None):
        loss, gradients, _, _ = self.pull(window, seed)
        return loss, gradients


def serializable(cls):
    """Registers a method class with Keras' serialisation."""
    return keras.saving.register_keras_serializable("keras_seqgrad")(cls)
