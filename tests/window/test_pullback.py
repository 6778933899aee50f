"""The gradient of a window's loss by its outputs."""

import keras
import pytest

from keras_seqgrad import SequenceModel, methods
from tests import zoo

L = keras.layers


@pytest.mark.slow
@pytest.mark.parametrize("per_sequence", [False, True])
@pytest.mark.parametrize(
    "method",
    [
        lambda: methods.BPTT(3),
        lambda: methods.TruncatedBPTT(zoo.STEPS, 2),
        lambda: methods.RegularizedInversion(0.5, 0.5),
        lambda: methods.SyntheticGradients(zoo.STEPS, "linear"),
    ],
)
def test_gradient_goes_through_a_softmax(method, per_sequence):
    """Keras' crossentropy looks for the logits behind a softmax."""
    network = zoo.network("gru_before", per_sequence=per_sequence)
    network.add(L.Dense(3, activation="softmax"))
    x, y = zoo.data(per_sequence=per_sequence)
    y = (y[..., 0] > 0).astype("int32")
    loss = keras.losses.SparseCategoricalCrossentropy()
    _, expected = zoo.keras_gradients(network, x, y, loss)
    model = SequenceModel.from_model(network)
    model.compile("sgd", loss, method=method())
    _, found = model.estimate_gradients(x, y)
    zoo.assert_same(found[-2:], expected[-2:])
    if not isinstance(model.method, methods.RegularizedInversion):
        zoo.assert_same(found, expected)
