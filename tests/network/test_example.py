"""Inputs to check a model with: drawn ones, or the user's."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests.network.networks import L, lstm

ASKS = r"(?s:.*)compile\(\.\.\., example=x\)"


def characters(mixing=False):
    """Codes of small letters, which no draw hits."""
    inputs = keras.Input((None,), dtype="int32")
    words = L.Embedding(26, 2)(inputs - 97)
    if mixing:
        words = keras.ops.flip(words, axis=1)
    return keras.Model(inputs, L.Dense(1)(lstm(2)(words)))


def letters(steps=6):
    return np.random.default_rng(0).integers(97, 123, (9, steps))


def compiled(network, **options):
    model = ksg.SequenceModel.from_model(network)
    model.compile("sgd", "mse", **options)
    return model


def test_asks_for_an_example_where_none_can_be_drawn():
    with pytest.raises(ValueError, match=f"layer 'embedding' fails{ASKS}"):
        compiled(characters())


def test_names_what_fails_on_the_inputs_that_fit_best():
    """Later ones may fail the table, which says nothing of the model."""

    class Broken(L.Layer):
        def call(self, inputs):
            tf.debugging.assert_greater(inputs, 9.0)
            return inputs

    inputs = keras.Input((5,), dtype="int32")
    hidden = lstm(2)(L.Embedding(6, 2)(inputs))
    network = keras.Model(inputs, Broken(name="broken")(hidden))
    with pytest.raises(ValueError, match=f"layer 'broken' fails{ASKS}"):
        compiled(network)


def test_checks_on_the_example_given():
    compiled(characters(), example=letters())
    with pytest.raises(ValueError, match="Layer 'flip' cannot be cut"):
        compiled(
            characters(mixing=True),
            example=letters(),
            method=ksg.methods.FPTT(2),
        )


@pytest.mark.slow
def test_asks_where_all_is_nan():
    inputs = keras.Input((None, 2))
    strange = keras.ops.log(-1.0 - inputs**2)
    network = keras.Model(inputs, L.Dense(1)(lstm(2)(strange)))
    with pytest.raises(ValueError, match=f"layer 'log' makes NaN{ASKS}"):
        compiled(network)
    x = np.arange(12.0).reshape(2, 3, 2)
    with pytest.raises(ValueError, match=f"the example, layer 'log'{ASKS}"):
        compiled(network, example=x)


def test_an_example_of_another_form_is_refused():
    with pytest.raises(ValueError, match=r"shapes \[\(None, None\)\]. Rec"):
        compiled(characters(), example=letters()[..., None])


@pytest.mark.parametrize("x", [letters(1), np.full((9, 6), 99)])
def test_an_example_that_shows_nothing_is_refused(x):
    with pytest.raises(ValueError, match="two or more steps that differ"):
        compiled(characters(), example=x)


def test_the_example_may_have_companions():
    mask = np.ones((9, 6), bool)
    compiled(characters(), example={"inputs": letters(), "mask": mask})


def test_a_loaded_model_needs_no_example(tmp_path):
    network = characters()
    model = compiled(network, example=letters())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    x = letters()
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.method is not None
    with pytest.raises(ValueError, match=ASKS):
        loaded.compile("sgd", "mse")
