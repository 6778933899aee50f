"""Every method as one graph: lengths unknown, updates after earlier reads."""

import keras
import numpy as np
import pytest

from keras_seqgrad import SequenceModel, methods
from tests import update_order, zoo
from tests.methods.table import TABLE, Row

LENGTH = 3  # of segments, as in the table


def guessing(size):
    """A synthesiser that starts from other weights than zero."""
    return keras.Sequential([keras.Input((size,)), keras.layers.Dense(size)])


ROWS = {
    **TABLE,
    "dni_lambda": Row(
        lambda: methods.SyntheticGradients(
            LENGTH, guessing, lambda_=0.5, auxiliary=0.1
        ),
        "biased",
        3,
    ),
}


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_unknown_lengths_several_steps_an_execution_in_order(name, tmp_path):
    """It equals eager training, and it is not by chance that it does.

    No update of a variable may come before an earlier read of it, in the graph
    that TensorFlow has optimized.
    """
    row = ROWS[name]
    kind = row.instead.get("simple_rnn", "simple_rnn")
    # Returns run ahead of what they draw.
    dropout = 0.3 if name == "dni_lambda" else 0.0

    def make(**options):
        network = zoo.network(kind, dropout=dropout)
        model = SequenceModel.from_model(network, stateful=True)
        optimizer = keras.optimizers.Adam(0.01, epsilon=1e-2, clipnorm=1.0)
        options["jit_compile"] = False
        model.compile(optimizer, "mse", method=row.method(), **options)
        return model

    # A guess that needs the next input needs a window above a segment.
    shorter = LENGTH + 1 if name == "dni_next" else LENGTH - 1
    batches = [zoo.data(steps) for steps in (2 * LENGTH + 1, shorter)]
    shape = (zoo.BATCH, None, 2)
    dataset = zoo.generated(batches, shape, shape)
    model = make(steps_per_execution=2)
    unordered, pairs = update_order.of(
        lambda: model.fit(dataset, shuffle=False, verbose=0), tmp_path
    )
    assert pairs > 20
    assert not unordered

    eager = make(run_eagerly=True)
    for x, y in batches:
        eager.train_on_batch(x, y)
    row.epoch_end(eager)
    zoo.assert_same(*[everything(each) for each in (model, eager)])


def everything(model):
    """What training has moved, and the state after the last window."""
    found = [*zoo.everything(model), *model.optimizer.variables]
    return [np.asarray(variable, "float64") for variable in found]
