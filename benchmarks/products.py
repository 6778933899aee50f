"""The matrix products of a training step of a recurrent layer, and no more.

What no implementation in float32 can do without: the inputs by their kernel,
and three products of gradients, each over all steps at once; and one product a
step, forward and back, each of which needs the one before it. Under XLA, on the
same shapes; between the products of two steps stands one multiplication.
"""

import tensorflow as tf

BLOCKS = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def products(kind, x, units):
    """A function that runs them once."""
    width = BLOCKS[kind] * units
    kernel = tf.random.normal((x.shape[-1], width), stddev=0.01)
    recurrent = tf.random.normal((units, width), stddev=0.01)
    x = tf.constant(x.swapaxes(0, 1))
    steps, batch, _ = x.shape

    def series(width):
        shape = batch, width
        return tf.TensorArray(tf.float32, steps, element_shape=shape)

    @tf.function(jit_compile=True, autograph=False)
    def run(x, kernel, recurrent):
        rows = tf.matmul(x, kernel)

        def forward(time, h, states):
            states = states.write(time, h)
            row = rows[time] * tf.matmul(h, recurrent)
            return time + 1, row[:, :units], states

        def back(time, d_h):
            d_row = rows[steps - 1 - time] * tf.tile(d_h, [1, BLOCKS[kind]])
            return time + 1, tf.matmul(d_row, recurrent, transpose_b=True)

        def over_time(body, *start):
            start = tf.constant(0), *start
            return tf.while_loop(
                lambda time, *rest: time < steps,
                body,
                start,
                maximum_iterations=steps,
            )[1:]

        h, states = over_time(forward, tf.ones((batch, units)), series(units))
        [d_h] = over_time(back, h)
        flat = [
            tf.reshape(each, [-1, each.shape[-1]])
            for each in (x, states.stack(), rows)
        ]
        d_kernel = tf.matmul(flat[0], flat[2], transpose_a=True)
        d_recurrent = tf.matmul(flat[1], flat[2], transpose_a=True)
        d_x = tf.matmul(flat[2], kernel, transpose_b=True)
        return d_h, d_kernel, d_recurrent, d_x

    return lambda: run(x, kernel, recurrent)[0].numpy()
