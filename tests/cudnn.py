"""A GPU that only seems to be there, its cuDNN kernel written in TensorFlow."""

import contextlib
import types

import pytest
import tensorflow as tf


@contextlib.contextmanager
def gpu():
    """Makes TensorFlow show a GPU, and gives the list of its kernel's calls.

    Each is (kind, number of steps, whether the kernel was traced).
    """
    calls = []
    logical = tf.config.list_logical_devices
    physical = tf.config.list_physical_devices
    shown = types.SimpleNamespace(name="/physical:GPU:0", device_type="GPU")

    def with_gpu(ask):
        def devices(device_type=None):
            found = [] if device_type == "GPU" else ask(device_type)
            return found + ([shown] if device_type in (None, "GPU") else [])

        return devices

    def kernel(input, rnn_mode, **options):
        calls.append((rnn_mode, input.shape[1], not tf.executing_eagerly()))
        return run(input, rnn_mode=rnn_mode, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.config, "list_logical_devices", with_gpu(logical))
        patch.setattr(tf.config, "list_physical_devices", with_gpu(physical))
        built = {"is_cuda_build": True, "is_rocm_build": False}
        patch.setattr(tf.sysconfig, "get_build_info", lambda: built)
        patch.setattr(tf.raw_ops, "CudnnRNNV3", kernel)
        yield calls


def run(
    input,
    input_h,
    input_c,
    params,
    rnn_mode,
    sequence_lengths,
    time_major,
    is_training,
):
    """What `tf.raw_ops.CudnnRNNV3` computes, one layer, batch first.

    Like the kernel it has a gradient, and that has none.
    """
    assert is_training and not time_major
    begin = [input_h[:, 0]]
    if rnn_mode == "lstm":
        begin.append(input_c[:, 0])

    @tf.custom_gradient
    def whole(input, params, *begin):
        given = [input, params, *begin]

        def gradient(*d_made):
            with tf.GradientTape() as tape:
                tape.watch(given)
                made = loop(rnn_mode, *given)
            pulled = tape.gradient(made, given, output_gradients=d_made)
            return [once(d) for d in pulled]

        return loop(rnn_mode, *given), gradient

    outputs, *end = whole(input, params, *begin)
    h, c = (*(tensor[:, tf.newaxis] for tensor in end), None)[:2]
    return outputs, h, c, None, None


@tf.custom_gradient
def once(tensor):
    """A gradient that no other may be taken of."""

    def gradient(_):
        raise LookupError("CudnnRNNBackpropV3 has no gradient")

    return tf.identity(tensor), gradient


def loop(kind, input, params, *begin):
    """[outputs, *state after them]."""
    units, features = begin[0].shape[1], input.shape[2]
    gates = {"lstm": 4, "gru": 3}[kind]
    sizes = [units * features] * gates + [units * units] * gates
    split = tf.split(params, sizes + [units] * 2 * gates)
    w = [tf.reshape(each, [units, features]) for each in split[:gates]]
    u = [tf.reshape(e, [units, units]) for e in split[gates : 2 * gates]]
    b, b_u = split[2 * gates : 3 * gates], split[3 * gates :]

    def step(state, x):
        h = state[0]
        x = [tf.matmul(x, w[i], transpose_b=True) + b[i] for i in range(gates)]
        h = [tf.matmul(h, u[i], transpose_b=True) for i in range(gates)]
        h = [h[i] + b_u[i] for i in range(gates)]
        if kind == "lstm":
            i, f, g, o = (x[place] + h[place] for place in range(gates))
            c = tf.sigmoid(f) * state[1] + tf.sigmoid(i) * tf.tanh(g)
            return [tf.sigmoid(o) * tf.tanh(c), c]
        r, z = (tf.sigmoid(x[place] + h[place]) for place in (0, 1))
        new = tf.tanh(x[2] + r * h[2])
        return [z * state[0] + (1.0 - z) * new]

    if input.shape[1] is None:
        states = tf.scan(step, tf.transpose(input, [1, 0, 2]), [*begin])
        outputs = tf.transpose(states[0], [1, 0, 2])
        return [outputs, *(series[-1] for series in states)]
    state, outputs = [*begin], []
    for time in range(input.shape[1]):
        state = step(state, input[:, time])
        outputs.append(state[0])
    return [tf.stack(outputs, axis=1), *state]
