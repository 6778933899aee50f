"""Kills trainings at random moments, and compares what they come to.

Each method trains a small stateful model in a process of its own, which saves
its state after every batch by `ksg.callbacks.BackupAndRestore`. The process
gets SIGKILL at a random moment, every other time as soon as it is seen to write
a state, and is started again in the same folder, until the training is done;
then anew, until there were so many kills. What the training comes to (weights,
slots, what the method has learned and drawn) must be the same bits as without.

    python benchmarks/reliability.py                  # 20 kills a method
    python benchmarks/reliability.py --methods tbptt --kills 3

Prints a row of a table in Markdown for each method: kills, those that left a
half-written state, trainings that came to their end, and how many of these were
equal. The exit status is 1 unless all were. Every process is a fork of this
one, in which TensorFlow is imported and has not run. For Linux.
"""

import argparse
import hashlib
import os
import pathlib
import random
import signal
import sys
import tempfile
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import keras_seqgrad as ksg  # noqa: E402
from keras_seqgrad.state import snapshot  # noqa: E402

ROWS, STEPS, WINDOWS, EPOCHS = 2, 6, 6, 2
METHODS = {
    "bptt": lambda: ksg.methods.BPTT(2),
    "tbptt": lambda: ksg.methods.TruncatedBPTT(3),
    "tbptt_stride": lambda: ksg.methods.TruncatedBPTT(3, 2),
    "artbp": lambda: ksg.methods.ARTBP(3, seed=1),
    "artbp_rows": lambda: ksg.methods.ARTBP(3, per_row=True, seed=1),
    "dni": lambda: ksg.methods.SyntheticGradients(3, "elementwise"),
    "dni_auxiliary": lambda: ksg.methods.SyntheticGradients(
        3, "linear", auxiliary=0.1, condition="next_input"
    ),
    "dni_lambda": lambda: ksg.methods.SyntheticGradients(
        3, "linear", lambda_=0.7
    ),
    "alternating": lambda: ksg.methods.AlternatingGradients(
        3, "linear", switch_epochs=[1]
    ),
    "fptt": lambda: ksg.methods.FPTT(3),
    "snap": lambda: ksg.methods.SnAp(3),
    "rtrl": lambda: ksg.methods.RTRL(3),
    "uoro": lambda: ksg.methods.UORO(3, seed=1),
    "inversion": lambda: ksg.methods.RegularizedInversion(0.5, 0.5),
    "inversion_learned": lambda: ksg.methods.RegularizedInversion(
        0.5, propagation="learned", seed=1
    ),
    "tprop": lambda: ksg.methods.TargetPropagation(
        3, "lagrangian", parameter_steps=1, multipliers_from=1
    ),
}


def make_model(method):
    """A model that draws, too: by dropout, where the method allows it."""
    dropout = 0.0 if method.startswith("inversion") else 0.3
    network = keras.Sequential(
        [
            keras.Input((None, 2)),
            keras.layers.GRU(3, dropout=dropout, return_sequences=True),
            keras.layers.Dense(2),
        ]
    )
    model = ksg.SequenceModel.from_model(network, stateful=True)
    model.compile("adam", "mse", method=METHODS[method](), jit_compile=False)
    return model


def make_windows():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(2, ROWS * STEPS * WINDOWS, 2))
    return ksg.data.stream(
        x.astype("float32"), ROWS, STEPS, targets=y.astype("float32")
    )


def digest(model):
    """Of all that the training has moved, but for an epoch's own."""
    found = hashlib.sha256()
    for name, arrays in snapshot.take(model).items():
        if name not in snapshot.OF_AN_EPOCH:
            for array in arrays:
                found.update(array.tobytes())
    return found.hexdigest()


def train(method, folder, say):
    """The training, in the process that may be killed."""
    warnings.simplefilter("ignore")  # of TensorFlow, that data is not eager
    # An eager step needs no time to compile after every start.
    tf.config.run_functions_eagerly(True)
    keras.utils.set_random_seed(0)
    model = make_model(method)
    say("begins")
    backup = ksg.callbacks.BackupAndRestore(folder, save_freq=1)
    model.fit(make_windows(), epochs=EPOCHS, verbose=0, callbacks=[backup])
    say(digest(model))


class Training:
    """The training in a process of its own, until it ends or is killed."""

    def __init__(self, method, folder):
        self.said, writes = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            status = 1
            try:
                train(
                    method,
                    folder,
                    lambda w: os.write(writes, f"{w}\n".encode()),
                )
                status = 0
            finally:
                os._exit(status)
        os.close(writes)
        self.lines = os.fdopen(self.said)

    def begin(self):
        """Waits until it comes to `fit`."""
        if self.lines.readline() != "begins\n":
            raise RuntimeError("The training did not begin.")

    def kill(self, after, unfinished=None):
        """Kills it; returns its digest if it was done before.

        Args:
            after: Seconds.
            unfinished: A file to wait for then, for a while.
        """
        time.sleep(after)
        until = time.perf_counter() + 1
        while unfinished and time.perf_counter() < until:
            if os.path.exists(unfinished):
                break
            time.sleep(1e-4)
        os.kill(self.process, signal.SIGKILL)
        return self.wait()

    def wait(self):
        """Its digest; "" where it was killed."""
        found = self.lines.read().strip()
        self.lines.close()
        _, status = os.waitpid(self.process, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            raise RuntimeError("The training failed by itself.")
        return found


def survive(method, kills, rng):
    """(kills, those while writing, trainings done, those of them equal)."""
    with tempfile.TemporaryDirectory() as folder:
        reference = Training(method, f"{folder}/states")
        reference.begin()
        start = time.perf_counter()
        expected = reference.wait()
        lasts = time.perf_counter() - start
    killed = writing = done = equal = 0
    while killed < kills:
        with tempfile.TemporaryDirectory() as folder:
            states, found = pathlib.Path(folder, "states"), ""
            while not found:
                training = Training(method, states)
                training.begin()
                if killed >= kills:
                    found = training.wait()
                    break
                half = states / "unfinished.tmp"
                half.unlink(missing_ok=True)
                waits = half if killed % 2 else None
                found = training.kill(rng.uniform(0, 0.6 * lasts), waits)
                killed += not found
                writing += half.exists()
        done += 1
        equal += found == expected
    return killed, writing, done, equal


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    rng, right = random.Random(arguments.seed), True
    print("| method | kills | while writing | trainings | equal |", flush=True)
    print("|---|---|---|---|---|", flush=True)
    for method in arguments.methods:
        counts = survive(method, arguments.kills, rng)
        right &= counts[2] == counts[3]
        print(f"| {method} | {' | '.join(map(str, counts))} |", flush=True)
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
