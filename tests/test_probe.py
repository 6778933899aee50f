import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.probe import Probe, as_tensors
from tests import zoo


def test_many_probes_are_not_taken_for_one_that_is_traced_again(monkeypatch):
    warnings = []

    def warn(text, *arguments):
        warnings.append(text)

    monkeypatch.setattr(tf.get_logger(), "warning", warn)
    model = ksg.SequenceModel.from_model(zoo.network("gru"))
    model.compile("sgd", "mse", jit_compile=False)
    data = as_tensors(*zoo.data())
    for place in range(8):
        Probe(model, lambda window, seed, place=place: place, False)(data)
    assert warnings == []

    def traced_again():
        return 0

    # The control: TensorFlow does speak of functions of one code.
    for _ in range(8):
        tf.function(lambda: traced_again())()
    assert any("retracing" in text for text in warnings)
