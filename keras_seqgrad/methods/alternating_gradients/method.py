"""Alternating synthetic and real gradients: guesses in every other phase."""

from collections.abc import Sequence
from typing import Any, Literal

from keras_seqgrad.methods.alternating_gradients.phases import FlipPhase, Phase
from keras_seqgrad.methods.base import serializable
from keras_seqgrad.methods.synthetic_gradients import SyntheticGradients
from keras_seqgrad.tensors import arguments


@serializable
class AlternatingGradients(SyntheticGradients):
    """Truncation and synthetic gradients in turn: biased.

    Training begins in the real phase, which is `TruncatedBPTT`, and flips to
    the synthetic phase, which is `SyntheticGradients`, and back, at every warm
    restart of the learning rate. The synthesiser learns in both phases. Use it
    for long trainings with a schedule of restarts, so that the synthesiser is
    never used before it has learnt something. Not the choice for trainings
    shorter than some cycles, nor where truncation sees far enough.

    Rule: with M_{k+1} the guess at the end of a segment,

        received = 0                       in the real phase
        received = scale * M_{k+1}         in the synthetic phase

    and all else as `SyntheticGradients` says; the target of M holds no factor
    `scale` in either phase. (The authors' released code back-propagates the
    injection apart from the loss, so that a target is formed twice and M
    settles at half of it. Here it is formed once.)

    Gradient: biased. Memory and time: those of `SyntheticGradients`.

    The phase is the metric `phase`, 0 real and 1 synthetic, and is saved with
    the model. Give `switch_epochs`, or `ksg.callbacks.WarmRestarts` to `fit`.

    Args:
        length: Steps of a segment.
        synthesizer: As for `SyntheticGradients`; the authors' own is
            "elementwise".
        scale: What the recurrent layers receive of the guess.
        bootstrap: What the target receives of the guess.
        auxiliary: Weight of the second task, which is part of the loss in both
            phases.
        condition: "state" or "next_input".
        synthesizer_optimizer: A Keras optimizer or its name, or None.
        synthesizer_rate: Learning rate of the copy over the model's.
        switch_epochs: Numbers of epochs done when the phase flips, without
            warm restarts; None to leave it to `ksg.callbacks.WarmRestarts`.
        lambda_: As for `SyntheticGradients`.

    Raises:
        ValueError: As for `SyntheticGradients`; `switch_epochs` are not
            increasing positive integers; or `fit` finds nobody to flip it.

    Reference:
        Shang and Zhang, 2019. Alternating synthetic and real gradients for
        neural language modeling. arXiv:1902.10630.

    Example:

    >>> method = ksg.methods.AlternatingGradients(20, switch_epochs=[5, 10])
    >>> method.switch_epochs
    [5, 10]
    """

    def __init__(
        self,
        length: int,
        synthesizer: Any = None,
        scale: float = 0.1,
        bootstrap: float = 1.0,
        auxiliary: float = 0.0,
        condition: Literal["state", "next_input"] = "state",
        synthesizer_optimizer: Any = None,
        synthesizer_rate: float = 0.1,
        switch_epochs: Sequence[int] | None = None,
        lambda_: float = 0.0,
    ) -> None:
        super().__init__(
            length,
            synthesizer,
            scale,
            bootstrap,
            auxiliary,
            condition,
            synthesizer_optimizer=synthesizer_optimizer,
            synthesizer_rate=synthesizer_rate,
            lambda_=lambda_,
        )
        if switch_epochs is not None:
            switch_epochs = arguments.increasing(switch_epochs, "switch_epochs")
        self.switch_epochs = switch_epochs

    def build(self, model):
        super().build(model)
        model.method_state.parts["phase"] = Phase()

    def callbacks(self):
        return [FlipPhase(self.switch_epochs)]

    def injecting(self, window):
        return window.method_state.parts["phase"].is_second

    def train(self, window):
        window.method_state.parts["phase"].record()
        return super().train(window)

    def get_config(self):
        config = super().get_config() | {"switch_epochs": self.switch_epochs}
        del config["inject"]
        return config
