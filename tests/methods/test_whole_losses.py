"""Losses of a whole sequence under every method."""

import keras
import numpy as np
import pytest

from keras_seqgrad import SequenceModel, methods
from tests import zoo
from tests.methods.table import TABLE
from tests.methods.test_conformance import fit, make, network_for

# The model refuses for a method that cuts, whichever it is, and variants of one
# method take the whole loss by the same lines.
ALIKE = {"tbptt_stride", "dni_next", "dni_lambda", "alternating", "rtrl"}
ALIKE |= {"artbp_rows", "artbp_window", "inversion_learned"}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TABLE.keys() - ALIKE))
def test_labels_of_a_sequence_are_never_cut(name):
    """Of another length than the inputs, they have no steps to cut."""
    x, _ = zoo.data(4)
    y = np.array([[1, 0, 0], [2, 1, 0], [1, 2, 1]], "int32")
    layer = network_for(name).layers[0]
    network = keras.Sequential(
        [keras.Input((None, 2)), layer, keras.layers.Dense(4)]
    )
    frozen = keras.optimizers.SGD(0.0)
    loss = keras.losses.CTC()
    model = make(name, network, optimizer=frozen, loss=loss)
    right = float(loss(y, network(x)))
    if model.method.cuts_targets:
        value = model.evaluate(x, y, verbose=0)
        assert abs(value - right) < 1e-4 * right
        text = r"`y`: the loss ctc judges .* Train with ksg.methods.BPTT\(\)"
        with pytest.raises(ValueError, match=text):
            fit(model, x, y)
        with pytest.raises(ValueError, match=text):
            model.estimate_gradients(x, y)
        return
    [logged] = fit(model, x, y).history["loss"]
    assert abs(logged - right) < 1e-4 * right
    value, found = model.estimate_gradients(x, y)
    assert abs(float(value) - right) < 1e-4 * right
    if TABLE[name].gradient == "exact":
        _, expected = zoo.keras_gradients(network, x, y, loss)
        zoo.assert_same(found, expected)


def test_methods_that_cut_targets():
    cutting = {name for name, row in TABLE.items() if row.method().cuts_targets}
    assert cutting == {
        "tbptt",
        "tbptt_stride",
        "dni",
        "dni_next",
        "dni_lambda",
        "alternating",
        "fptt",
        "snap",
        "rtrl",
        "uoro",
    }
    assert methods.ARTBP(3, update="cut").cuts_targets


def test_a_sum_over_steps_is_told_what_to_write_instead():
    """And what it is told is taken, and is the same loss."""
    x, y = zoo.data()

    def summed(y, outputs):
        return keras.ops.sum((y - outputs) ** 2)

    class Each(keras.losses.Loss):
        def call(self, y, outputs):
            return keras.ops.sum((y - outputs) ** 2, axis=-1)

    method = methods.TruncatedBPTT(3)
    model = SequenceModel.from_model(zoo.network())
    model.compile("sgd", summed, method=method)
    text = r'the loss summed judges .* and no sum .* reduction="sum"'
    with pytest.raises(ValueError, match=text):
        model.fit(x, y, verbose=0)
    model.compile(
        keras.optimizers.SGD(0.0), Each(reduction="sum"), method=method
    )
    logs = model.train_on_batch(x, y)
    expected = summed(y, model(x))
    assert float(logs) == pytest.approx(float(expected), rel=1e-5)
