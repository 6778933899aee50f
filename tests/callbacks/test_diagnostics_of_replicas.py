"""Diagnostics during a fit of two replicas."""

import contextlib

import keras
import numpy as np
import pytest

import keras_seqgrad as ksg
from tests import replicas, zoo
from tests.callbacks.test_gradient_diagnostics import read
from tests.methods.table import TABLE

ROWS, STEPS = 4, 3


def trained(scope, name, folder=None, windows=3):
    """Variables, logs and what was written."""
    keras.utils.set_random_seed(3)
    generator = np.random.default_rng(0)
    shape = 2, 3 * ROWS, STEPS, 2
    x, y = generator.normal(size=shape).astype("float32")[:, : windows * ROWS]
    with scope:
        network = zoo.network("simple_rnn", dropout=0.5)
        model = ksg.SequenceModel.from_model(network, stateful=True)
        model.compile(
            keras.optimizers.SGD(0.05, momentum=0.9),
            "mse",
            metrics=["mae"],
            method=TABLE[name].method(),
            jit_compile=False,
        )
    own = [ksg.callbacks.WarmRestarts(0.05, 1)]
    if folder is not None:
        own += [
            ksg.callbacks.GradientDiagnostics(
                folder, (x[:ROWS], y[:ROWS]), 2, 3, images=False, max_share=None
            )
        ]
    options = {"shuffle": False, "verbose": 0, "callbacks": own}
    logs = model.fit(x, y, ROWS, **options).history
    values = [*zoo.everything(model), *model.optimizer.variables]
    values = [np.asarray(v.numpy()) for v in values]
    return values, logs, read(folder) if folder else None


@pytest.mark.slow
def test_training_is_the_same_to_the_last_bit(tmp_path):
    """Of a method that draws and learns as it goes."""
    name = "dni"

    def scope():
        return replicas.strategy().scope()

    plain, logs, _ = trained(scope(), name)
    watched, more, found = trained(scope(), name, tmp_path / "two")
    for mine, others in zip(watched, plain, strict=True):
        np.testing.assert_array_equal(mine, others)
    for key, value in logs.items():
        assert more[key] == value
    # At the start it is what one device measures.
    alone = contextlib.nullcontext()
    _, _, expected = trained(alone, name, tmp_path / "one", 1)
    measured = ("gradient_", "exact_norm")
    for tag in expected:
        if tag.startswith(measured) and "by_group" not in tag:
            np.testing.assert_allclose(
                found[tag][0], expected[tag][0], rtol=1e-4, atol=1e-6
            )
