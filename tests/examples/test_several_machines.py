"""Two real processes, and what becomes of them when one is killed."""

import json
import os
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from tests.examples import script

ROOT = script.ROOT
SCRIPT = ROOT / "examples" / "several_machines.py"
EPOCHS, WAIT = 1, 300


def start(folder, cluster, index):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment["CUDA_VISIBLE_DEVICES"] = "-1"
    task = {"type": "worker", "index": index}
    environment["TF_CONFIG"] = json.dumps(
        {"cluster": {"worker": cluster}, "task": task}
    )
    with open(folder.parent / f"{folder.name}-{index}.log", "a") as log:
        return subprocess.Popen(
            [
                sys.executable,
                SCRIPT,
                "--folder",
                folder,
                "--epochs",
                f"{EPOCHS}",
            ],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def start_two(folder):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    cluster = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for each in sockets:
        each.close()
    return [start(folder, cluster, index) for index in range(2)]


def end(processes):
    """Exit codes, in order."""
    try:
        return [process.wait(WAIT) for process in processes]
    finally:
        for process in processes:
            process.kill()


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
    processes, states = start_two(two), two / "states"
    deadline = time.monotonic() + WAIT
    while not list(states.glob("*.backup")):
        assert time.monotonic() < deadline and processes[1].poll() is None
        time.sleep(0.05)
    processes[1].kill()
    first, killed = end(processes)
    assert first != 0 and killed < 0
    assert list(states.glob("*.backup"))
    assert end(start_two(two)) == [0, 0]
    assert not states.exists()  # done
    for found, expected in zip(weights(two), weights(alone), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
