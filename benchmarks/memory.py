"""The peak of a training step, in a process of its own.

A process keeps what compiling has taken, and XLA keeps the buffers of a
program between its steps. So the peak of the first step says what the compiler
needs, and the memory before a later step is that step's own. Measured is the
peak during later steps, above what the process held before its first one:

    a small step          loads libraries and starts threads
    trim, read            what the process holds: the zero of the measure
    the first step        compiles
    trim, forget the peak what compiling took goes back to the system
    more steps            their peak is the figure

Linux alone: the peak is `VmHWM` of `/proc/self/status`, forgotten by writing 5
to `/proc/self/clear_refs`.
"""

import ctypes
import importlib
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

PROCESS = Path("/proc/self")


def in_fresh_process(module, **arguments):
    """What `measure` finds in a process of its own.

    Args:
        module: Name of a file of this folder with a function
            `memory_steps(**arguments)` that returns (small step, step).
        **arguments: Its arguments, as JSON knows them.

    Returns:
        {"mib": peak, "seconds": of a step, "first": of the first one}.
    """
    command = [sys.executable, "-m", __name__, module, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(
            f"{module} {arguments} failed with {done.returncode}: {last}"
        )
    return json.loads(done.stdout.splitlines()[-1])


def measure(small_step, step, rounds=3):
    """Peak of `step` in MiB, seconds of it and of its first run."""
    small_step()
    trim()
    idle = held("VmRSS")
    first = seconds_of(step)
    trim()
    PROCESS.joinpath("clear_refs").write_text("5")
    seconds = [seconds_of(step) for _ in range(rounds)]
    return {
        "mib": (held("VmHWM") - idle) / 2**20,
        "seconds": statistics.median(seconds),
        "first": first,
    }


def held(field):
    """Bytes that a field of the process' status tells."""
    status = PROCESS.joinpath("status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024


def trim():
    """Gives what the C library keeps for later back to the system."""
    ctypes.CDLL(None).malloc_trim(0)


def seconds_of(step):
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


if __name__ == "__main__":
    module, arguments = sys.argv[1:]
    module = importlib.import_module(f"{__package__}.{module}")
    print(json.dumps(measure(*module.memory_steps(**json.loads(arguments)))))
