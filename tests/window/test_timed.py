"""Windows without a step, and rows and flags that are none."""

import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo


def compiled(**options):
    model = ksg.SequenceModel.from_model(zoo.network())
    model.compile("sgd", "mse", **options)
    return model


@pytest.mark.compiled
@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_window_without_a_step_is_no_loss_of_0(jit_compile):
    """Nor where only the step knows that there is none."""
    x, y = np.ones((2, 0, 2), "float32"), np.ones((2, 0, 2), "float32")
    signature = (tf.TensorSpec((2, None, 2)), tf.TensorSpec((2, None, 2)))
    data = tf.data.Dataset.from_generator(
        lambda: iter([(x, y)]), output_signature=signature
    )
    text = "no_time_steps_in_x" if jit_compile else "`x` has no time steps"
    model = compiled(jit_compile=jit_compile)
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        model.fit(data, verbose=0)


@pytest.mark.parametrize("name", ["mask", "reset"])
def test_flags_that_are_numbers_are_refused(name):
    x, y = zoo.data()
    flags = np.full(x.shape[:2], 0.3)
    text = rf"`x\['{name}'\]` says.*dtype float64.*{name} > 0.5"
    with pytest.raises(ValueError, match=text):
        compiled().train_on_batch({"inputs": x, name: flags}, y)
    kept = np.ones(x.shape[:2], int)
    compiled().train_on_batch({"inputs": x, "mask": kept}, y)


def test_other_rows_are_refused():
    """Keras broadcasts them in silence where it gets a batch at a time."""
    x, y = zoo.data()
    text = rf"`y` must have the {len(x)} rows of `x`. Received: 1 rows"
    with pytest.raises(ValueError, match=text):
        compiled().train_on_batch(x, y[:1])
    with pytest.raises(ValueError, match="`sample_weight` has no rows"):
        compiled().estimate_gradients(x, y, np.array(2.0))
