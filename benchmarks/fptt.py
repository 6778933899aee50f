"""What FPTT costs beside truncated BPTT on the same parts.

One LSTM layer, a target at every step, Adam; both arms make the same updates on
the same parts, FPTT with its regulariser. They take turns in one process.

    python benchmarks/fptt.py                      # time
    python benchmarks/fptt.py --memory             # peak over the parts

Prints medians of milliseconds a sequence and their ratio, with a tenth of the
sequence a part and with a part every step. --memory runs one arm a process and
prints the peak above that of the process before its first step, for a longer
sequence in 1, 10 and 100 parts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

FEATURES = 8


def make(parts, units, steps, regularize=True):
    import keras

    import keras_seqgrad as ksg

    network = keras.Sequential(
        [
            keras.Input((steps, FEATURES)),
            keras.layers.LSTM(units, return_sequences=True),
            keras.layers.Dense(1),
        ]
    )
    model = ksg.SequenceModel.from_model(network)
    method = ksg.methods.TruncatedBPTT(-(-steps // parts))
    if regularize:
        method = ksg.methods.FPTT(parts)
    model.compile("adam", "mse", method=method, jit_compile=True)
    return model


def numbers(batch_size, steps):
    import numpy as np

    generator = np.random.default_rng(0)
    x = generator.normal(size=(batch_size, steps, FEATURES)).astype("float32")
    return x, x.sum(axis=2, keepdims=True)


def time_both(parts, arguments):
    """Milliseconds a sequence of (TruncatedBPTT, FPTT)."""
    batch = numbers(arguments.batch_size, arguments.steps)
    models = [
        make(parts, arguments.units, arguments.steps, regularize)
        for regularize in (False, True)
    ]
    seconds = [[], []]
    for round_ in range(arguments.rounds + 2):
        for model, found in zip(models, seconds, strict=True):
            began = time.perf_counter()
            model.train_on_batch(*batch)
            if round_ >= 2:
                found.append(time.perf_counter() - began)
    return [1e3 * statistics.median(found) for found in seconds]


def memory():
    """Bytes this process holds now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024


class Peak(threading.Thread):
    """Watches memory until it is stopped."""

    def __init__(self):
        super().__init__(daemon=True)
        self.highest, self.running = memory(), True

    def run(self):
        while self.running:
            self.highest = max(self.highest, memory())
            time.sleep(0.002)


def measure(parts, arguments):
    """Prints the peak of one training step as JSON."""
    # Loads libraries and thread pools; the same for every number of parts.
    small = numbers(arguments.batch_size, 60)
    make(1, arguments.units, 60).train_on_batch(*small)
    batch = numbers(arguments.batch_size, arguments.memory_steps)
    model = make(parts, arguments.units, arguments.memory_steps)
    idle = memory()
    peak = Peak()
    peak.start()
    model.train_on_batch(*batch)
    peak.running = False
    print(json.dumps({"peak_mib": (peak.highest - idle) / 2**20}))


def show_memory(arguments):
    print(f"{arguments.memory_steps} steps")
    print("| parts | peak above idle (MiB) |")
    print("|---|---|")
    for parts in (1, 10, 100):
        command = [sys.executable, __file__, *sys.argv[1:]]
        command += ["--measure", str(parts)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            print(f"| {parts} | failed: {result.stderr.strip()[-200:]} |")
            continue
        found = json.loads(result.stdout.strip().splitlines()[-1])
        print(f"| {parts} | {found['peak_mib']:.0f} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--memory-steps", type=int, default=10_000)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments)
        return
    size = f"batch {arguments.batch_size}, LSTM {arguments.units}"
    print(size)
    if arguments.memory:
        show_memory(arguments)
        return
    print(f"{arguments.steps} steps")
    print("| parts | TruncatedBPTT (ms) | FPTT (ms) | ratio |")
    print("|---|---|---|---|")
    for parts in (10, arguments.steps):
        plain, regularized = time_both(parts, arguments)
        ratio = regularized / plain
        print(
            f"| {parts} | {plain:.1f} | {regularized:.1f} | {ratio:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
