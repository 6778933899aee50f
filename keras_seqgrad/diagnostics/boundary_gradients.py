"""What crosses the boundaries of a window, beside what should."""

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_seqgrad.diagnostics import given
from keras_seqgrad.methods.synthetic_gradients import SyntheticGradients
from keras_seqgrad.model import SequenceModel
from keras_seqgrad.state.vector import differentiable, join
from keras_seqgrad.tensors import masks, nested


@dataclasses.dataclass
class BoundaryGradients:
    """True and guessed gradients at the boundaries of a window.

    In units of a row's loss summed over the steps still to come.

    Args:
        steps: Integers (boundaries,), the steps the boundaries lie before.
        true: Array (boundaries, batch, state size), by exact
            back-propagation through the rest of the window.
        guessed: Array of that shape, by the synthesiser.

    Example:

    >>> true = np.array([[[3.0, 4.0]]])
    >>> found = ksg.diagnostics.BoundaryGradients([5], true, 0.5 * true)
    >>> found.cosine, found.relative_error, found.norm_ratio
    (1.0, 0.5, 0.5)
    """

    steps: list
    true: np.ndarray
    guessed: np.ndarray

    @property
    def cosine(self) -> float:
        """Cosine of all guesses together with the truth; 0 without guesses."""
        norms = np.linalg.norm(self.true) * np.linalg.norm(self.guessed)
        return float(np.sum(self.true * self.guessed) / norms) if norms else 0.0

    @property
    def relative_error(self) -> float:
        """Norm of the error over the norm of the truth; 1 for guesses of 0."""
        error = np.linalg.norm(self.guessed - self.true)
        return float(error / np.linalg.norm(self.true))

    @property
    def norm_ratio(self) -> float:
        """Norm of the guesses over the norm of the truth."""
        return float(np.linalg.norm(self.guessed) / np.linalg.norm(self.true))


def boundary_gradients(
    model: SequenceModel, x: Any, y: Any, sample_weight: Any = None
) -> BoundaryGradients:
    """Compares a synthesiser's guesses with exact back-propagation.

    At every boundary inside a window, with the loss l_t of a row at step t,

        true = d/dh_k (sum of l_t over the steps from the boundary on)
        guessed = the synthesiser's guess at h_k

    A small loss of the synthesiser says that it predicts its own targets,
    which hold its own guesses; this says how far they are from the truth. The
    truth ends with the window: on a stream give windows long beside the
    memory of the model. Memory O(time); changes nothing.

    Args:
        model: A `SequenceModel` compiled with `ksg.methods.SyntheticGradients`
            or `AlternatingGradients`.
        x: Inputs of one window, as `fit` takes them for one batch.
        y: Targets.
        sample_weight: Weights, or None.

    Returns:
        `BoundaryGradients`.

    Raises:
        ValueError: The method has no synthesiser, or the window no boundary.

    Example:

    >>> network = keras.Sequential([
    ...     keras.Input((None, 1)),
    ...     keras.layers.GRU(2, return_sequences=True),
    ... ])
    >>> model = ksg.SequenceModel.from_model(network)
    >>> method = ksg.methods.SyntheticGradients(4)
    >>> model.compile("sgd", "mse", method=method)
    >>> x, y = np.ones((3, 12, 1)), np.ones((3, 12, 2))
    >>> found = ksg.diagnostics.boundary_gradients(model, x, y)
    >>> found.steps, found.true.shape, found.relative_error
    ([4, 8], (2, 3, 2), 1.0)
    """
    given.check_model(model)
    method = model.method
    if not isinstance(method, SyntheticGradients):
        raise ValueError(
            "`boundary_gradients` needs a model compiled with "
            "ksg.methods.SyntheticGradients or AlternatingGradients. "
            f"Received: method={method!r}"
        )
    # Unrolled over the segments, which XLA would be slow to compile.
    found = model.probe(compare, x, y, sample_weight, jit=False)
    steps, true, guessed = (each.numpy() for each in found)
    return BoundaryGradients(steps.tolist(), true, guessed)


def compare(window, seed=None):
    """(steps, true, guessed) of the boundaries inside a window."""
    method = window.model.method
    synthesis = window.method_state.parts["synthesis"]
    total, length = window.steps, method.length
    steps = list(range(length, total, length))
    if not steps:
        raise ValueError(
            "A window of one segment has no boundary inside. Expected more "
            f"than length={length} steps, received {total}."
        )
    state, states, pieces, guessed = window.state, [], [], []
    memory = synthesis.start(window.batch_size, window.fresh)
    with tf.GradientTape() as tape:
        for start in range(0, total, length):
            here = method.boundary(window, start, state)
            memory = synthesis.restart(memory, here.rows)
            guess, memory = synthesis.guess(here.reading, memory)
            if start:
                guessed.append(tf.where(here.rows[:, None], guess, 0.0))
                tape.watch(differentiable(state))
                states.append(differentiable(state))
            segment = window.segment(start, min(length, total - start))
            outputs, state = window.forward(segment, state)
            pieces.append(outputs)
        outputs = whole(pieces, window.model.temporal_made)
        loss = window.loss(window.whole(), outputs)
    flat = keras.tree.flatten(states)
    found = nested.fill(tape.gradient(loss, flat), flat)
    terms = window.count(window.whole(), outputs)
    true = [
        join(leaves) * terms
        for leaves in keras.tree.pack_sequence_as(states, found)
    ]
    return tf.constant(steps), tf.stack(true), tf.stack(guessed)


def whole(pieces, temporal):
    """Outputs of segments one after another, their masks with them."""
    joined = []
    for place, has_time in enumerate(temporal):
        parts = [keras.tree.flatten(piece)[place] for piece in pieces]
        if not has_time:
            joined.append(parts[-1])
            continue
        output = tf.concat(parts, axis=1)
        found = [masks.read(part) for part in parts]
        if found[0] is not None:
            output = masks.attach(output, tf.concat(found, axis=1))
        joined.append(output)
    return keras.tree.pack_sequence_as(pieces[0], joined)
