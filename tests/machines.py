"""Processes that stand for the machines of a cluster."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
WAIT = 600


def start(command, log, cluster=(), index=0):
    """A process that runs Python with the arguments `command`.

    Args:
        command: What follows `python`.
        log: File that gets what it prints.
        cluster: Addresses of all machines; empty for one that is alone.
        index: Its place among them.
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment["CUDA_VISIBLE_DEVICES"] = "-1"
    if cluster:
        task = {"type": "worker", "index": index}
        environment["TF_CONFIG"] = json.dumps(
            {"cluster": {"worker": [*cluster]}, "task": task}
        )
    with open(log, "a") as file:
        return subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def start_two(command, log):
    """Two processes, each with its number after the name of its log."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    cluster = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for each in sockets:
        each.close()
    return [
        start(command, f"{log}-{index}.log", cluster, index)
        for index in range(2)
    ]


def end(processes):
    """Exit codes, in order."""
    try:
        return [process.wait(WAIT) for process in processes]
    finally:
        for process in processes:
            process.kill()
