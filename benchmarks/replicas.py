"""Windows a second over replicas, of the same batch on one device.

An LSTM of 64 units on characters, batch 16, windows of 60 steps, carried
state, Adam, no XLA (Keras runs replicas on CPUs without it). Each method
trains by `fit`

* on one device,
* on two logical CPU devices of one process (MirroredStrategy),
* in two processes on this machine (MultiWorkerMirroredStrategy over
  loopback), which are told when to begin.

All arms take turns. Timed is from the end of an epoch's first window to that of
its last: to start an epoch on several replicas takes TensorFlow a second by
itself. Where cores are as few as replicas, one device already
uses all of them: what is seen is what replicas cost, not what they gain.
"""

import functools
import json
import os
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg
from benchmarks import characters
from benchmarks.table import Table
from benchmarks.timing import medians, ratios

METHODS = {
    "BPTT()": lambda: ksg.methods.BPTT(),
    "TruncatedBPTT(20)": lambda: ksg.methods.TruncatedBPTT(20),
    "SyntheticGradients(20)": lambda: ksg.methods.SyntheticGradients(20),
}
DEVICES = ["CPU:0", "CPU:1"]
FULL = {"batch_size": 16, "window": 60, "windows": 12, "units": 64}
TINY = {"batch_size": 4, "window": 40, "windows": 2, "units": 3}


def model_of(method, strategy, units):
    """A compiled model in the scope of a strategy."""
    keras.utils.set_random_seed(1)
    with strategy.scope():
        network = characters.network(units)
        model = ksg.SequenceModel.from_model(network, stateful=True)
        optimizer = keras.optimizers.Adam(1e-3)
        options = {"method": METHODS[method](), "jit_compile": False}
        model.compile(optimizer, characters.loss(), **options)
    return model


class Ends(keras.callbacks.Callback):
    """When windows end."""

    def on_train_begin(self, logs=None):
        self.times = []

    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.perf_counter())


def training(model, batch_size, window, windows):
    """A function that trains on some windows, and gives seconds for one."""
    tokens = characters.tokens(batch_size, window * windows)
    dataset = ksg.data.stream(tokens, batch_size, window).cache()
    ends = Ends()

    def train():
        model.fit(dataset, verbose=0, callbacks=[ends])
        return (ends.times[-1] - ends.times[0]) / (windows - 1)

    return train


class Machines:
    """Two processes that train when they are told to."""

    def __init__(self, sizes):
        sockets = [socket.create_server(("localhost", 0)) for _ in range(2)]
        cluster = [f"localhost:{s.getsockname()[1]}" for s in sockets]
        for each in sockets:
            each.close()
        self.processes = []
        for index in range(2):
            task = {"type": "worker", "index": index}
            config = {"cluster": {"worker": cluster}, "task": task}
            self.processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", __name__, json.dumps(sizes)],
                    env={**os.environ, "TF_CONFIG": json.dumps(config)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()

    def train(self, method):
        """Trains once on all windows; gives seconds for one of them."""
        for process in self.processes:
            print(method, file=process.stdin, flush=True)
        lines = [process.stdout.readline() for process in self.processes]
        if not all(lines):
            raise RuntimeError("One of the processes has ended.")
        return max(map(float, lines))


def be_a_machine(units, **sizes):
    """Trains by the method of each line that comes in."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    runs = {}
    for line in sys.stdin:
        name = line.strip()
        if name not in runs:
            runs[name] = training(model_of(name, strategy, units), **sizes)
        print(runs[name](), flush=True)


def tables(quick):
    sizes = TINY if quick else FULL
    [cpu] = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * len(DEVICES)
    tf.config.set_logical_device_configuration(cpu, two)
    strategies = {
        "one device": tf.distribute.get_strategy(),
        "two devices": tf.distribute.MirroredStrategy(DEVICES),
    }
    data = {name: size for name, size in sizes.items() if name != "units"}
    rows, rounds = [], 1 if quick else 5
    with Machines(sizes) as machines:
        for method in METHODS:
            arms = {}
            for arm, strategy in strategies.items():
                model = model_of(method, strategy, sizes["units"])
                arms[arm] = training(model, **data)
            arms["two processes"] = functools.partial(machines.train, method)
            seconds = {arm: [] for arm in arms}
            for turn in range(1 + rounds):
                for arm, train in arms.items():
                    found = train()
                    seconds[arm] += [found] if turn else []  # it compiles
            updates = model.optimizer.iterations.numpy() / sizes["windows"]
            updates /= 1 + rounds
            size = sum(np.prod(w.shape) for w in model.trainable_weights)
            found, over = medians(seconds), ratios(seconds, "one device")
            rows += [
                [
                    method if arm == "one device" else "",
                    arm,
                    f"{1e3 * window:.1f}",
                    f"{over[arm]:.2f}",
                    "" if arm == "one device" else f"{updates:.0f}",
                    "" if arm == "one device" else f"{size * 4 / 2**20:.2f}",
                ]
                for arm, window in found.items()
            ]
    head = ["method", "arm", "ms a window", "over one device"]
    yield Table("replicas", [*head, "sums a window", "MiB a sum"], rows)


if __name__ == "__main__":
    be_a_machine(**json.loads(sys.argv[1]))
