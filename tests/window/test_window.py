import keras
import pytest

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import TruncatedBPTT
from tests import zoo


def test_losses_of_mixed_outputs_are_those_of_the_window():
    """At rate 0 the logs of training are those of an evaluation."""
    inputs = keras.Input((None, 2))
    states = keras.layers.GRU(3, return_sequences=True)(inputs)
    steps = keras.layers.Dense(2, name="steps")(states)
    whole = keras.layers.Dense(1, name="whole")(keras.layers.GRU(3)(states))
    model = SequenceModel(inputs, [steps, whole])
    model.compile(
        keras.optimizers.SGD(0.0),
        ["mse", "mse"],
        metrics=[["mae"], ["mae"]],
        method=TruncatedBPTT(2),
    )
    x, y = zoo.data()
    targets = [y, y[:, -1, :1]]
    history = model.fit(x, targets, batch_size=3, verbose=0).history
    expected = model.evaluate(x, targets, verbose=0, return_dict=True)
    assert set(history) == set(expected)
    for name, value in expected.items():
        assert history[name][0] == pytest.approx(value, rel=1e-4)
