"""Processes that stand for the machines of a cluster."""

import json
import multiprocessing
import os
import runpy
import socket
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
WAIT = 600

# To import TensorFlow takes as long as what most machines then do. A server
# does it once, sets nothing of it up, and every machine is a fork of it.
server = multiprocessing.get_context("forkserver")
server.set_forkserver_preload(["keras_seqgrad"])


def run(command, log, environment):
    """Runs Python with the arguments `command`, as a process of its own."""
    os.environ.update(environment)
    with open(log, "a") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.path.insert(0, str(ROOT))
    first, *sys.argv[1:] = map(str, command)
    if first == "-m":
        name = sys.argv.pop(1)
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        sys.argv[0] = first
        runpy.run_path(first, run_name="__main__")


def start_two(command, log):
    """Two processes that run Python with the arguments `command`.

    Each has its number after the name of its log, which gets what it prints.
    """
    sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
    workers = [f"localhost:{s.getsockname()[1]}" for s in sockets]
    for each in sockets:
        each.close()
    processes = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        cluster = json.dumps({"cluster": {"worker": workers}, "task": task})
        environment = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CONFIG": cluster}
        arguments = command, f"{log}-{index}.log", environment
        processes.append(server.Process(target=run, args=arguments))
        processes[-1].start()
    return processes


def end(processes):
    """Exit codes, in order."""
    try:
        for process in processes:
            process.join(WAIT)
            assert not process.is_alive()
        return [process.exitcode for process in processes]
    finally:
        for process in processes:
            process.kill()
