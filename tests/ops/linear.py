"""Problems for the linear scan, and the plain loop that is the truth."""

import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg
from tests.ops.reference import gated

BATCH, STEPS, UNITS = 3, 5, 2
FORMS = ["sequential", "chunked"]
LINKS = [[], ["mask"], ["gates"], ["reset"], ["mask", "gates", "reset"]]


def numbers(shape, seed, dtype="float64"):
    generator = np.random.default_rng(seed)
    found = generator.normal(size=shape)
    if "complex" in dtype:
        found = found + 1j * generator.normal(size=shape)
    return tf.constant(0.7 * found, dtype)


class Problem:
    """Arguments of a scan, and what its results are weighed by."""

    def __init__(
        self, names=(), constant=False, dtype="float64", steps=STEPS, seed=0
    ):
        series = (BATCH, steps, UNITS)
        generator = np.random.default_rng(seed)
        shape = (UNITS,) if constant else series
        self.coefficients = numbers(shape, seed + 1, dtype)
        self.inputs = numbers(series, seed + 2, dtype)
        self.state = numbers((BATCH, UNITS), seed + 3, dtype)
        self.reset_state = numbers((BATCH, UNITS), seed + 4, dtype)
        self.weights = [
            numbers(series, seed + 5, dtype),
            numbers((BATCH, UNITS), seed + 6, dtype),
        ]
        every = {
            "mask": tf.constant(generator.random((BATCH, steps)) < 0.6),
            "gates": tf.constant(generator.uniform(0, 2, (BATCH, steps))),
            "reset": tf.constant(generator.random((BATCH, steps)) < 0.3),
        }
        self.links = {name: every[name] for name in names}

    @property
    def sources(self):
        return [self.coefficients, self.inputs, self.state, self.reset_state]

    def value(self, results):
        """A real number made of both results."""
        return tf.add_n(
            [
                tf.reduce_sum(tf.math.real(weight * result))
                for weight, result in zip(self.weights, results, strict=True)
            ]
        )

    def results(self, function, sources=None):
        coefficients, inputs, state, fresh = sources or self.sources
        links = dict(self.links)
        if "reset" in links:
            links["reset_state"] = [fresh]
        outputs, [last] = function(coefficients, inputs, [state], **links)
        return [outputs, last]

    def evaluate(self, function):
        """Results and all gradients."""
        with tf.GradientTape() as tape:
            tape.watch(self.sources)
            results = self.results(function)
            value = self.value(results)
        gradients = tape.gradient(
            value, self.sources, unconnected_gradients="zero"
        )
        return results + gradients


def by(form):
    return lambda *given, **links: ksg.ops.linear_scan(
        *given, method=form, **links
    )


def plain(
    coefficients,
    inputs,
    state,
    mask=None,
    gates=None,
    reset=None,
    reset_state=None,
):
    """The rule, one step after the other, differentiated by a tape."""
    [h], outputs = state, []
    for time in range(inputs.shape[1]):
        if gates is not None:
            h = gated(h, tf.cast(gates[:, time, tf.newaxis], h.dtype))
        if reset is not None:
            h = tf.where(reset[:, time, tf.newaxis], reset_state[0], h)
        constant = coefficients.shape.rank == 1
        a = coefficients if constant else coefficients[:, time]
        new = a * h + inputs[:, time]
        if mask is not None:
            new = tf.where(mask[:, time, tf.newaxis], new, h)
        h = new
        outputs.append(h)
    return tf.stack(outputs, axis=1), [h]


def same(received, expected, tolerance=1e-12):
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
