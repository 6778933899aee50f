"""Methods train two machines as they train one device.

Run as a script this file is one of the machines.
"""

import contextlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests import machines
from tests.methods import test_replicas as replicas
from tests.window import test_guard_of_replicas as guard

# Of each kind of state one: rows, draws, what is learnt beside, and traces. All
# methods train two replicas of one process as one in `test_replicas`.
NAMES = ["tbptt", "artbp_rows", "dni", "snap"]
CHOICES = ["skip", "raise"]


def trained(name, scope):
    """Weights, what is carried for rows and what the method keeps."""
    method = replicas.TABLE[name].method
    # One as a graph: what a step of it asks of a cluster all of them ask.
    given = method, scope, True, "simple_rnn", name != "dni"
    weights, _, kept = replicas.trained(*given)
    return [*weights, *kept]


def guarded(choice, scope):
    """What was found and is left where a row of the second machine is bad."""
    x, y = guard.windows()
    x[2 * guard.ROWS - 1, 2] = np.nan
    found, state = guard.trained(scope, choice, x, y)
    return found, [value for each in state.values() for value in each]


def main(folder):
    """Trains as one of the machines; the first one keeps what comes of it."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    found = {name: trained(name, strategy.scope()) for name in NAMES}
    found |= {name: guarded(name, strategy.scope()) for name in CHOICES}
    if strategy.cluster_resolver.task_id == 0:
        Path(folder, "found").write_bytes(pickle.dumps(found))


@pytest.mark.slow
def test_two_machines_train_as_one(tmp_path):
    command = ["-m", "tests.methods.test_several_machines", tmp_path]
    processes = machines.start_two(command, tmp_path / "machine")
    alone = contextlib.nullcontext
    guards = {name: guarded(name, alone()) for name in CHOICES}
    expected = {name: trained(name, alone()) for name in NAMES}
    assert machines.end(processes) == [0, 0]
    found = pickle.loads((tmp_path / "found").read_bytes())
    for name in NAMES:
        for mine, others in zip(found[name], expected[name], strict=True):
            np.testing.assert_allclose(
                mine, others, rtol=1e-6, atol=1e-6, err_msg=name
            )
    for name in CHOICES:
        assert found[name][0] == guards[name][0]
        for mine, others in zip(found[name][1], guards[name][1], strict=True):
            np.testing.assert_allclose(mine, others, rtol=1e-5, atol=1e-6)


if __name__ == "__main__":
    main(sys.argv[1])
