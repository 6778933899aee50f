"""Which rows cross a boundary, and what is read there."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.methods.synthetic_gradients.boundary import look
from keras_seqgrad.window.opening import open_window
from tests import zoo


def window(x, y, stateful=False):
    model = ksg.SequenceModel.from_model(zoo.network("gru"), stateful=stateful)
    model.compile("sgd", "mse")
    x, y = keras.tree.map_structure(tf.convert_to_tensor, (x, y))
    return open_window(model, model.carried["training"], (x, y), True)


def rows(window, start):
    return look(window, start, window.state).rows.numpy().tolist()


@pytest.mark.parametrize(
    "start, expected", [(0, False), (3, True), (6, True), (7, False)]
)
def test_a_sequence_goes_on_inside_of_it_only(start, expected):
    given = window(*zoo.data())
    assert rows(given, start) == [expected] * zoo.BATCH
    # The same for a step that is known when the program runs.
    assert rows(given, tf.constant(start)) == [expected] * zoo.BATCH


def test_a_stream_goes_on_over_its_windows():
    given = window(*zoo.data(), stateful=True)
    given.fresh = tf.constant([True, False, False])
    assert rows(given, 0) == [False, True, True]
    assert rows(given, 3) == rows(given, 7) == [True, True, True]
    at_end = look(given, 7, given.state, next_state=True)
    assert at_end.rows.numpy().tolist() == [False] * 3
    inside = look(given, 6, given.state, next_state=True)
    assert inside.rows.numpy().tolist() == [True] * 3


def test_nothing_crosses_a_reset():
    x, y = zoo.data()
    reset = np.zeros((zoo.BATCH, zoo.STEPS), bool)
    reset[1, 3] = reset[2, 6] = True
    given = window({"inputs": x, "reset": reset}, y)
    assert rows(given, 3) == [True, False, True]
    assert rows(given, 4) == [True, True, True]
    assert rows(given, 6) == [True, True, False]


def test_rows_that_a_mask_ends_are_over():
    x, y = zoo.data()
    mask = np.ones((zoo.BATCH, zoo.STEPS), bool)
    mask[0, 3:] = False  # over after three steps
    mask[1, 2:5] = False  # a hole
    given = window({"inputs": x, "mask": mask}, y)
    assert rows(given, 2) == [True, True, True]
    assert rows(given, 3) == [False, True, True]


def test_what_is_read_belongs_to_the_next_step():
    x, y = zoo.data()
    given = window(x, y)
    state = {
        "gru": [tf.constant(x[:, :1] @ np.ones((1, 2, 3), "float32"))[:, 0]]
    }
    state = keras.tree.pack_sequence_as(given.state, keras.tree.flatten(state))
    names = ["input", "state", "target"]
    reading = look(given, 3, state, names).reading
    np.testing.assert_array_equal(reading["input"], x[:, 3])
    np.testing.assert_array_equal(reading["target"], y[:, 3])
    (before,) = keras.tree.flatten(state)
    np.testing.assert_array_equal(reading["state"], before)
    reading = look(given, 3, state, next_state=True).reading
    _, after = given.forward(given.segment(3, 1), state)
    np.testing.assert_array_equal(
        reading["state"], keras.tree.flatten(after)[0]
    )
    assert zoo.differ([reading["state"]], [before])


def test_a_missing_target_is_read_as_zeros():
    x, y = zoo.data()
    y[0, 3, 1] = np.nan
    given = window(x, y)
    reading = look(given, 3, given.state, ["target"]).reading
    y[0, 3, 1] = 0.0
    np.testing.assert_array_equal(reading["target"], y[:, 3])
