"""Two real processes, and what becomes of them when one is killed."""

import time

import keras
import numpy as np
import pytest

from tests import machines
from tests.examples import script

SCRIPT = script.ROOT / "examples" / "several_machines.py"
EPOCHS = 1


def command(folder):
    return [SCRIPT, "--folder", folder, "--epochs", f"{EPOCHS}"]


def weights(folder):
    """All that was saved, the rows' state with it."""
    model = keras.saving.load_model(folder / "model.keras")
    rows = [rows.numpy() * 1.0 for rows in model.carried["training"].rows]
    assert rows[-1].shape == (8,)
    return [*model.get_weights(), *rows]


@pytest.mark.slow
def test_two_machines_train_as_one_and_go_on_when_one_has_died(tmp_path):
    alone, two = tmp_path / "alone", tmp_path / "two"
    script.load("several_machines").main(alone, EPOCHS)
    processes, states = machines.start_two(command(two), two), two / "states"
    deadline = time.monotonic() + machines.WAIT
    while not list(states.glob("*.backup")):
        assert time.monotonic() < deadline and processes[1].is_alive()
        time.sleep(0.05)
    processes[1].kill()
    first, killed = machines.end(processes)
    assert first != 0 and killed < 0
    assert list(states.glob("*.backup"))
    assert machines.end(machines.start_two(command(two), two)) == [0, 0]
    assert not states.exists()  # done
    for found, expected in zip(weights(two), weights(alone), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
