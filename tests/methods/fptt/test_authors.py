"""The named setting, and settings that were saved."""

import keras
import pytest

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import FPTT
from keras_seqgrad.optimizers import fptt
from tests import zoo


def test_the_authors_setting_and_what_was_saved_with_it():
    """A file says its settings, so that it goes on as it was saved."""
    method = FPTT.authors(3, part_loss="weighted")
    config = method.get_config()
    assert repr(method) == (
        "FPTT(parts=3, alpha=0.5, form='code', part_loss='weighted')"
    )
    assert repr(FPTT(3)) == "FPTT(parts=3)"
    assert FPTT(3).settings == fptt.FPTT("sgd").settings
    network = zoo.network("gru", per_sequence=True)
    model = SequenceModel.from_model(network)
    model.compile("sgd", "mse", method=method)
    saved = keras.saving.serialize_keras_object(model.optimizer)
    assert saved["config"]["form"] == config["form"] == "code"
    again = keras.saving.deserialize_keras_object(saved)
    assert again.settings == FPTT.from_config(config).settings
    assert again.settings["alpha"] == 0.5
    with pytest.raises(ValueError, match="either `parts` or `length`"):
        FPTT.authors()
