"""What the scans share, where their own tests do not reach."""

import re

import numpy as np
import pytest
import tensorflow as tf

from keras_seqgrad.ops import common
from tests.ops.compiled_promises import loop_bodies


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_bias_gradient_counts_every_step(dtype):
    d_rows = tf.fill((512, 32, 3), tf.cast(0.125, dtype))
    received = common.bias_gradient(d_rows)
    assert received.dtype == dtype
    # Left to itself, TensorFlow's sum in float16 stops at 256 here.
    np.testing.assert_array_equal(tf.cast(received, "float64"), [2048.0] * 3)


@pytest.mark.compiled
def test_a_copy_in_a_loop_is_seen():
    @tf.function(jit_compile=True, autograph=False)
    def swapping(first, second):
        return tf.while_loop(
            lambda time, *_: time < 5,
            lambda time, one, other: (time + 1, other, one),
            (0, first, second),
        )

    series = tf.zeros((37, 2))
    program = swapping.experimental_get_compiler_ir(series, series + 1.0)(
        stage="optimized_hlo"
    )
    (body,) = loop_bodies(program)
    assert re.search(r"= f32\[37,.* copy\(", body)
