"""Target propagation through regularised inverses of the cell.

Every state gets a target, its own value moved a little along the way that
lowers the loss. A target goes from step to step by an approximate inverse of
the cell, where BPTT sends a gradient through the transposed Jacobian.
"""

import functools
from typing import Any, Literal

import keras
import tensorflow as tf

from keras_seqgrad.methods.base import WindowMethod, serializable
from keras_seqgrad.methods.regularized_inversion import cells, learned
from keras_seqgrad.methods.regularized_inversion.learned import LearnedInverse
from keras_seqgrad.methods.regularized_inversion.rule import Inversion
from keras_seqgrad.state.method_state import Draws
from keras_seqgrad.tensors import arguments, replicas, updates
from keras_seqgrad.window.pullback import pull_window
from keras_seqgrad.window.window import Window


def as_config(optimizer):
    """An optimizer's name or config, from which each model makes its own."""
    found = arguments.optimizer(optimizer, "inverse_optimizer")
    if isinstance(optimizer, str):
        return optimizer
    return keras.optimizers.serialize(found)


@serializable
class RegularizedInversion(WindowMethod):
    """Target propagation via regularised inversion (TP-RI): biased.

    Use it to study credit assignment without transposed Jacobians. Not the
    choice for training a model well: on the papers' own task it was not
    better than `BPTT` with the same step sizes, and the local form was much
    worse on long sequences (see docs/methods/regularized_inversion.md).

    Rule, with L the window's loss and B the number of rows:

        d_t = −γ·B·dL/dh_t + J(d_{t+1})          v_t = h_t + d_t
        local loss = mean over rows of Σ_t ½‖h_t − v_t‖²

    with J the inverse of a step, linearised: for h_t = φ(x_t·W + h_{t-1}·U + b)

        J(d) = (d / φ'(h_t))·Uᵀ(U·Uᵀ + r·I)⁻¹

    The weights of recurrent layers move along the gradient of the local loss,
    v held fixed; all others along the ordinary gradient of L. Both go through
    the optimizer of `compile`, so γ is a factor on the rate of the recurrent
    layers. `estimate_gradients` gives the gradient of the local loss over γ,
    which has the scale of the gradient of L: with the transposed Jacobian for
    J it would be that of `BPTT` (local), as it is for a linear layer with
    orthogonal U and r → 0.

    Several recurrent layers: dL/dh_t of a lower one is what the upper one's
    local loss over γ hands down by its inputs. SimpleRNN (tanh, sigmoid, relu,
    linear) and GRU; no LSTM, no cell of your own. A masked step passes d
    unchanged, a reset lets nothing pass. A state that a sequence starts from
    is a parameter of its first step.

    Gradient: biased. Memory: that of `BPTT`. Time: one more loop over the
    steps, and one Cholesky factor for each recurrent matrix an update.

    Args:
        target_rate: γ, above 0. It acts on the loss of a row, so that the
            target of a row does not depend on the size of the batch.
        regularization: r, above 0; None with a learned inverse.
        propagation: "linearized"; "difference" or "none" for the inverse
            itself with and without difference correction (SimpleRNN only);
            "learned" for an inverse network G, d_{t-1} = G(x_t, h_t + d_t) −
            G(x_t, h_t), trained to reconstruct h_{t-1}.
        local: Whether h_{t-1} is held fixed in the local loss of step t, as
            in the paper; if not, the local losses are differentiated through
            time, as in the authors' code.
        margin: Least distance from the limits of φ at which it is inverted.
        inverse_optimizer: Optimizer of G, a name or a Keras optimizer.
        noise: Standard deviation of the noise on the states that G learns to
            reconstruct.
        seed: Integer seed of the noise; None for a random one.
        max_growth: Most by which one step back may lengthen a displacement of
            a row, above 0; a longer one is shortened to that, its direction
            kept. With 0.9 no d_t is longer than ten times the longest
            −γ·B·dL/dh. None for no limit, as in the paper: then d grows without
            bound wherever the cell forgets or saturates, as a GRU's does with
            any r. The limit is this package's own, and not for "none", whose
            targets are displaced even where d is 0.

    Raises:
        ValueError: An argument is out of its range; on `compile`, a layer has
            no rule, or the model is a subclass with its own `call_segment`.

    Reference:
        Roulet and Harchaoui, 2021. Target propagation via regularized
        inversion. arXiv:2112.01453. Manchev and Spratling, 2020. Target
        propagation in recurrent neural networks. JMLR 21(7).

    Example:

    >>> network = keras.Sequential([
    ...     keras.Input((None, 3)),
    ...     keras.layers.SimpleRNN(4),
    ...     keras.layers.Dense(1),
    ... ])
    >>> model = ksg.SequenceModel.from_model(network)
    >>> method = ksg.methods.RegularizedInversion(0.1, regularization=1.0)
    >>> model.compile("sgd", "mse", method=method)
    >>> history = model.fit(np.ones((2, 9, 3)), np.ones((2, 1)), verbose=0)
    """

    random = False
    gates_inside = True
    takes_head = True

    def __init__(
        self,
        target_rate: float,
        regularization: float | None = None,
        propagation: Literal[
            "linearized", "difference", "none", "learned"
        ] = "linearized",
        local: bool = True,
        margin: float = 1e-3,
        inverse_optimizer: Any = "adam",
        noise: float = 0.1,
        seed: int | None = None,
        max_growth: float | None = None,
    ) -> None:
        arguments.choice(propagation, "propagation", cells.PROPAGATIONS)
        if propagation == "learned" and regularization is not None:
            raise ValueError(
                "A learned inverse has no `regularization`: the noise it is "
                "trained with does that. Set regularization=None. Received: "
                f"regularization={regularization!r}"
            )
        self.target_rate = arguments.number(target_rate, "target_rate", above=0)
        self.regularization = None
        if propagation != "learned":
            self.regularization = arguments.number(
                regularization, "regularization", above=0
            )
        self.propagation = propagation
        self.local = arguments.flag(local, "local")
        self.margin = arguments.number(margin, "margin", above=0, below=0.5)
        self.inverse_optimizer = as_config(inverse_optimizer)
        self.noise = arguments.number(noise, "noise", least=0)
        self.seed = arguments.seed(seed, most=arguments.LARGEST_SEED)
        self.max_growth = max_growth
        if max_growth is not None:
            self.max_growth = arguments.number(
                max_growth, "max_growth", above=0
            )
            if propagation == "none":
                raise ValueError(
                    'propagation="none" displaces a target also where nothing '
                    "was to be taken back, which no factor bounds. Set "
                    'propagation="difference", or max_growth=None. Received: '
                    f"max_growth={max_growth!r}"
                )

    def check(self, model):
        super().check(model)
        if model.is_opaque:
            raise ValueError(
                "RegularizedInversion inverts layers that it knows. Expected "
                "a model made with SequenceModel.from_model(model) or "
                "SequenceModel(inputs, outputs), received a subclass with its "
                "own `call_segment`. Use ksg.methods.BPTT() there."
            )
        for name, node in model.graph.nodes.items():
            cells.refuse(node.held[0].cell, name, self.propagation)

    def build(self, model):
        if self.propagation != "learned":
            return
        layers = [node.held[0] for node in model.graph.nodes.values()]
        inverses = [
            LearnedInverse(cell, cells.activation_of(cell), f"inverse_{place}")
            for place, cell in enumerate(cells.distinct(layers))
        ]
        parts = model.method_state.parts
        parts.update({inverse.name: inverse for inverse in inverses})
        parts["draws"] = Draws(self.seed)
        parts["inverse_optimizer"] = keras.optimizers.get(
            self.inverse_optimizer
        )
        parts["inverse_optimizer"].build(
            [v for inverse in inverses for v in inverse.trainable_variables]
        )

    def inversion(self, window: Window) -> Any:
        """The `Inversion` that runs a window's cells."""
        # Of a loss that the optimizer scales up, the gradient still stands for
        # a displacement of the same size.
        scale = window.scale(tf.ones(()))
        rows = tf.cast(window.batch_size * replicas.count(), "float32")
        return Inversion(
            functools.partial(self._rule, inverses=self._inverses(window)),
            self.target_rate * rows / scale,
            self.local,
            self.max_growth,
        )

    @property
    def when_not_finite(self):
        if self.max_growth is not None:
            return ""
        return (
            f"{self!r} sets no limit to its displacements, which an inverse "
            "step lengthens where the cell forgets or saturates, so that over "
            "many steps they overflow: set max_growth=0.9. "
        )

    def _inverses(self, window):
        """The learned inverses by the id of their cell."""
        if self.propagation != "learned":
            return {}
        parts = window.method_state.parts
        known = cells.distinct(window.recurrent_layers)
        return {
            id(cell): parts[f"inverse_{place}"]
            for place, cell in enumerate(known)
        }

    def _rule(self, steps, rate, inverses):
        rate = tf.cast(rate, steps.outputs.dtype)
        if self.propagation == "learned":
            return learned.difference(steps, inverses[id(steps.cell)], rate)
        return cells.rules_of(steps.cell)[self.propagation](
            steps,
            cells.activation_of(steps.cell),
            self.regularization,
            self.margin,
            rate,
        )

    def pull(self, window, seed=None):
        return pull_window(window, scan=self.inversion(window).scan)

    def train(self, window):
        inversion = self.inversion(window)
        loss, gradients, outputs, state = pull_window(
            window, scan=inversion.scan
        )
        if self.propagation == "learned":
            self._learn(window, inversion.visited)
        recurrent = {
            id(variable)
            for layer in window.recurrent_layers
            for variable in layer.trainable_variables
        }
        window.learner.apply(
            [
                gradient * self.target_rate
                if id(variable) in recurrent
                else gradient
                for variable, gradient in zip(
                    window.variables, gradients, strict=True
                )
            ]
        )
        window.learner.record_window(outputs, loss)
        return state

    def _learn(self, window, visited):
        """Moves the learned inverses by one step of their own optimizer."""
        parts = window.method_state.parts
        inverses = self._inverses(window)
        variables = [
            v for part in inverses.values() for v in part.trainable_variables
        ]
        with tf.GradientTape() as tape:
            loss = 0.0
            for steps, mask in visited:
                noise = 0.0
                if self.noise:
                    noise = learned.uniform_noise(
                        tf.shape(steps.before) * [1, replicas.count(), 1],
                        self.noise,
                        parts["draws"].next(),
                        steps.before.dtype,
                    )
                    noise = replicas.share(noise, 1)
                inverse = inverses[id(steps.cell)]
                loss += learned.reconstruction_loss(steps, mask, inverse, noise)
        gradients = tape.gradient(loss, variables)
        updates.apply(parts["inverse_optimizer"], gradients, variables)

    def get_config(self):
        return {
            "target_rate": self.target_rate,
            "regularization": self.regularization,
            "propagation": self.propagation,
            "local": self.local,
            "margin": self.margin,
            "inverse_optimizer": self.inverse_optimizer,
            "noise": self.noise,
            "seed": self.seed,
            "max_growth": self.max_growth,
        }
