"""No update of a variable may come before an earlier read of it.

Of most methods `test_conformance` asks this in a test of unknown lengths.
"""

import keras
import pytest

import keras_seqgrad as ksg
from tests import update_order, zoo
from tests.methods.table import TABLE
from tests.methods.test_conformance import ELSEWHERE

ROWS = {
    name: (TABLE[name].method, TABLE[name].instead)
    for name in sorted(ELSEWHERE)
}
# All that its row in the table does, and the second head beside it.
ROWS["dni_lambda"] = (
    lambda: ksg.methods.SyntheticGradients(
        2, "linear", lambda_=0.5, auxiliary=0.1
    ),
    {},
)


@pytest.mark.compiled
@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_updates_wait_for_reads_in_the_optimized_graph(name, tmp_path):
    method, instead = ROWS[name]
    network = zoo.network(instead.get("simple_rnn", "simple_rnn"))
    model = ksg.SequenceModel.from_model(network, stateful=True)
    model.compile(
        keras.optimizers.Adam(clipnorm=1.0),
        "mse",
        method=method(),
        jit_compile=False,
    )
    x, y = zoo.data(4)
    unordered, pairs = update_order.of(
        lambda: model.train_on_batch(x, y), tmp_path
    )
    assert pairs > 20
    assert not unordered
