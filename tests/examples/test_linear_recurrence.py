import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests.examples import script


@pytest.fixture(scope="module")
def example():
    return script.load("linear_recurrence")


@pytest.mark.parametrize("kind", ["MinGRU", "LRU", "MinLSTM", "QRNN", "RGLRU"])
def test_a_block_is_a_skip_around_a_gated_recurrence(example, kind):
    inputs = keras.Input((None, 3))
    block = keras.Model(inputs, example.block(inputs, kind))
    norm, recurrence, gate, dense = (
        layer for layer in block.layers if layer.weights
    )
    assert type(recurrence) is getattr(ksg.layers, kind)
    if gate.activation is not keras.activations.sigmoid:
        gate, dense = dense, gate
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 3)), "float32")
    y = recurrence(norm(x))
    np.testing.assert_allclose(block(x), x + dense(y) * gate(y), atol=1e-6)


@pytest.mark.slow
def test_quick_run(example, tmp_path, capsys, eagerly):
    arguments = ["--quick", "--layer", "QRNN", "--kernel", "3"]
    arguments += ["--batches", "3", "--length", "6"]
    errors = example.main([*arguments, "--no-jit", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "adding over 6 steps, 2 blocks of QRNN, width 8" in printed
    assert len(errors) == 2 and np.isfinite(errors).all()
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded, ksg.SequenceModel)
