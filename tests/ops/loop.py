"""A step, and a scan over it as a plain Python loop."""

import numpy as np
import tensorflow as tf

from keras_seqgrad.ops.rnn import rnn

BATCH, STEPS, FEATURES, UNITS = 3, 5, 2, 4
EXACT = 1e-12


def random(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=shape))


class Problem:
    """A step with a state (h, count), and tensors it has gradients for."""

    def __init__(self):
        self.kernel = tf.Variable(random(FEATURES, UNITS, seed=1))
        self.recurrent = tf.Variable(0.5 * random(UNITS, UNITS, seed=2))
        self.tensors = [
            random(BATCH, STEPS, FEATURES, seed=3),
            random(BATCH, UNITS, seed=4),
            random(BATCH, UNITS, seed=5),
            random(BATCH, UNITS, seed=6),
            random(BATCH, UNITS, seed=7),
        ]

    def step(self, x, state):
        h = tf.tanh(x @ self.kernel + state["h"] @ self.recurrent)
        return h * state["h"], {"count": state["count"] + 1, "h": h}

    def gradients(self, scan, **options):
        """[outputs, state] of `scan`, and the gradients of everything."""
        with tf.GradientTape() as tape:
            tape.watch(self.tensors)
            results = scan(self.step, *self.tensors, **options)
            loss = tf.add_n(
                [tf.reduce_sum(r * random(*r.shape, seed=9)) for r in results]
            )
        sources = [self.kernel, self.recurrent, *self.tensors]
        return results, tape.gradient(
            loss, sources, unconnected_gradients="zero"
        )


@tf.custom_gradient
def through_gate(gate, tensor):
    return tf.identity(tensor), lambda d: (None, gate * d)


def plain(
    step, x, h, fresh, previous, again, mask=None, gates=None, reset=None
):
    """What `rnn` does, as a Python loop for TensorFlow to differentiate."""
    outputs = []
    for t in range(x.shape[1]):
        if gates is not None:
            gate = gates[t] if gates.shape.rank == 1 else gates[:, t, None]
            h, previous = through_gate(gate, h), through_gate(gate, previous)
        if reset is not None:
            flag = reset[:, t, None]
            h = tf.where(flag, fresh, h)
            previous = tf.where(flag, again, previous)
        output, new = step(x[:, t], {"count": 0, "h": h})
        new = new["h"]
        if mask is not None:
            flag = mask[:, t, None]
            output = tf.where(flag, output, previous)
            new = tf.where(flag, new, h)
        h, previous = new, output
        outputs.append(output)
    return tf.stack(outputs, axis=1), h


def scanned(step, x, h, fresh, previous, again, **options):
    count = tf.zeros((BATCH,), "int32")
    if "reset" in options:
        options["reset_state"] = {"count": count, "h": fresh}
    outputs, state = rnn(
        step,
        x,
        {"count": count, "h": h},
        previous_output=previous,
        reset_output=again,
        **options,
    )
    return outputs, state["h"]


def assert_close(found, expected, tolerance=EXACT):
    for a, b in zip(
        tf.nest.flatten(found), tf.nest.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def finite_difference(function, tensor, direction, epsilon=1e-6):
    ahead = function(tensor + epsilon * direction)
    behind = function(tensor - epsilon * direction)
    return (ahead - behind) / (2 * epsilon)
