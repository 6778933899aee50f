"""A cell that describes itself runs by its description, and nothing else."""

import keras
import pytest
import tensorflow as tf

from keras_seqgrad.layers.scan import state_is_output, uses_fast_scan
from keras_seqgrad.ops import common
from keras_seqgrad.ops.fast_cell import FastCell, describes
from tests.layers.problem import (
    BATCH,
    STEPS,
    UNITS,
    Problem,
    assert_close,
    mask_from,
    random,
)


class LeakyCell(keras.layers.Layer):
    """h ← a·h + (1 - a)·tanh(x·W + h·U + b), without any dropout."""

    def __init__(self, leak):
        super().__init__()
        self.leak = leak
        self.units = self.state_size = self.output_size = UNITS

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], UNITS))
        self.recurrent_kernel = self.add_weight(shape=(UNITS, UNITS))
        self.bias = self.add_weight(shape=(UNITS,))

    def call(self, inputs, states):
        (h,) = states
        row = inputs @ self.kernel + h @ self.recurrent_kernel + self.bias
        h = self.leak * h + (1 - self.leak) * keras.ops.tanh(row)
        return h, [h]


class UndescribedCell(LeakyCell):
    """The same, of a class that nobody has described."""


class FastLeaky(FastCell):
    saved = (1,)

    def __init__(self, leak):
        self.leak = leak

    def step(self, row, state, recurrent_kernel, bias):
        (h,) = state
        g = tf.tanh(row + tf.matmul(h, recurrent_kernel) + bias)
        by_row = (1 - self.leak) * (1 - g * g)
        return [self.leak * h + (1 - self.leak) * g], [by_row]

    def pull(self, values, before, output, d_state, transposed):
        (d_h,) = d_state
        d_row = values[0] * d_h
        return [d_row], [common.project(d_row, transposed) + self.leak * d_h]


@describes(LeakyCell)
def described(cell):
    return None if cell.leak > 1 else FastLeaky(cell.leak)


def test_equals_the_general_scan():
    fast, general = Problem(LeakyCell(0.3)), Problem(UndescribedCell(0.3))
    general.cell.set_weights(fast.cell.get_weights())
    assert uses_fast_scan(fast.cell, training=True)
    assert not uses_fast_scan(general.cell, training=True)
    # At step 0, where a masked cell repeats what it started from, none is.
    links = {"mask": mask_from(1), "gates": random(BATCH, STEPS, seed=5)}
    found = fast.gradients(fast.scan, **links, training=True)
    assert_close(found, general.gradients(general.scan, **links))
    general.cell.leak = 0.4
    with pytest.raises(AssertionError):
        assert_close(found, general.gradients(general.scan, **links))


def test_settings_without_a_description():
    cell = LeakyCell(1.5)
    assert not uses_fast_scan(cell, training=False)
    assert state_is_output(cell)
    assert not state_is_output(UndescribedCell(0.5))
