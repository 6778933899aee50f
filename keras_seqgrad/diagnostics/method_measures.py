"""Numbers that only some methods have."""

import dataclasses

import numpy as np
import tensorflow as tf

from keras_seqgrad import methods
from keras_seqgrad.diagnostics.boundary_gradients import boundary_gradients
from keras_seqgrad.optimizers import fptt


@dataclasses.dataclass(frozen=True)
class Gates:
    """The gates a method draws, as a `Probe` runs it."""

    method: methods.Method

    def __call__(self, window, seed):
        return self.method.gates(window, seed)


def lengths_between(gates):
    """Lengths of the pieces between cuts of gates (time,) or (batch, time)."""
    found = []
    for row in np.atleast_2d(gates):
        ends = [0, *np.flatnonzero(row == 0), len(row)]
        found += np.diff(ends).tolist()
    return found


def measures(model, steps, data, seeds):
    """What the compiled method shows of itself.

    Args:
        model: The `SequenceModel`.
        steps: Number of steps of the window.
        data: (x, y, sample_weight).
        seeds: Seeds of the draws to show.

    Returns:
        (scalars, histograms), dicts by name.
    """
    method = model.method
    scalars = {
        f"method/{metric.name}": float(metric.result())
        for metric in model.method_state.metrics
    }
    histograms = {}
    if isinstance(method, methods.SyntheticGradients) and steps > method.length:
        found = boundary_gradients(model, *data)
        scalars["synthesizer/cosine"] = found.cosine
        scalars["synthesizer/relative_error"] = found.relative_error
        errors = np.linalg.norm(found.guessed - found.true, axis=2)
        histograms["synthesizer/errors_at_boundaries"] = errors.ravel()
    if isinstance(method, methods.ARTBP) and method.cuts == "drawn":
        step, lengths = Gates(method), []
        for seed in seeds:
            gates = model.probe(step, *data, seed=seed, jit=False)
            lengths += lengths_between(gates.numpy())
        scalars["cuts/mean_length"] = float(np.mean(lengths))
        histograms["cuts/lengths"] = lengths
    regularised = fptt.find(model.optimizer)
    if regularised is not None and regularised.built:
        scalars |= from_average(regularised)
    return scalars, histograms


def from_average(optimizer):
    """Distance of the parameters from the average that FPTT keeps."""
    if not tf.convert_to_tensor(optimizer.started):
        return {}
    pairs = zip(optimizer.regularized, optimizer.averages, strict=True)
    distance = sum(float(tf.reduce_sum((v - a) ** 2)) for v, a in pairs) ** 0.5
    norm = sum(float(tf.reduce_sum(v**2)) for v in optimizer.regularized) ** 0.5
    return {
        "fptt/distance_from_average": distance,
        "fptt/relative_distance": distance / norm if norm else 0.0,
    }
