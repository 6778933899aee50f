"""Memory and time of exact gradients through very long sequences.

One LSTM layer of 128 units, batch 8, a readout at every step. Each arm runs in
a process of its own; memory is the peak above that of the process before its
first step.

    python benchmarks/checkpointing.py                 # 20,000 steps
    python benchmarks/checkpointing.py --steps 100000 --arms auto

The arms: "keras" (stock model, no jit, as Keras' own gradient under XLA grows
with the square of the length), "stored" (BPTT()) and "auto"
(BPTT(checkpoint_every="auto")).
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

BATCH, FEATURES, UNITS = 8, 8, 128


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


def measure(arm, steps, rounds):
    """Trains one arm and prints what it took as JSON."""
    import keras
    import numpy as np

    import keras_seqgrad as ksg

    def make():
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((None, FEATURES)),
                layers.LSTM(UNITS, return_sequences=True),
                layers.Dense(1),
            ]
        )
        options = {"jit_compile": False}
        if arm != "keras":
            every = None if arm == "stored" else "auto"
            model = ksg.SequenceModel.from_model(model)
            method = ksg.methods.BPTT(checkpoint_every=every)
            options = {"jit_compile": True, "method": method}
        model.compile("adam", "mse", **options)
        return model

    generator = np.random.default_rng(0)
    shape = (BATCH, steps, FEATURES)
    x = generator.normal(size=shape).astype("float32")
    y = x.sum(axis=2, keepdims=True)
    # Loads libraries and thread pools; the same for every arm.
    make().train_on_batch(x[:, :60], y[:, :60])
    model = make()
    idle = memory()
    peak = Peak()
    peak.start()
    began = time.perf_counter()
    model.train_on_batch(x, y)
    first = time.perf_counter() - began
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        model.train_on_batch(x, y)
        seconds.append(time.perf_counter() - began)
    peak.running = False
    found = {
        "peak_mib": (peak.highest - idle) / 2**20,
        "seconds": statistics.median(seconds),
        "first_seconds": first,
    }
    print(json.dumps(found))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--arms", nargs="+", default=["keras", "stored", "auto"]
    )
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure, arguments.steps, arguments.rounds)
        return
    print(f"{arguments.steps} steps, batch {BATCH}, LSTM {UNITS}")
    print("| arm | peak above idle (MiB) | seconds a step | first step (s) |")
    print("|---|---|---|---|")
    for arm in arguments.arms:
        command = [sys.executable, __file__, "--measure", arm]
        command += ["--steps", str(arguments.steps)]
        command += ["--rounds", str(arguments.rounds)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            reason = result.stderr.strip().splitlines()[-1:]
            print(f"| {arm} | failed with {result.returncode}: {reason} | | |")
            continue
        found = json.loads(result.stdout.strip().splitlines()[-1])
        print(
            f"| {arm} | {found['peak_mib']:.0f} | {found['seconds']:.2f} | "
            f"{found['first_seconds']:.2f} |"
        )


if __name__ == "__main__":
    main()
