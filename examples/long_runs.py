"""Long runs of the examples: they stop when asked, and go on when started anew.

A run has a file of results, that says what it is and has a report of every
epoch, and a folder of states beside it. Started again with the same words it
goes on from its last state.
"""

import json
import math
import time

import keras
import tensorflow as tf
from common import positive_float, write_json

import keras_seqgrad as ksg


def add_arguments(parser):
    """Options of a script that takes long."""
    add, either = parser.add_argument, "seconds from now; default: no end"
    add("--seconds", type=positive_float, default=math.inf, help=either)
    parser.count("--threads", None, "default: as many as TensorFlow takes")


def begin(settings):
    """Limits the threads; when to stop, of `time.monotonic`."""
    if settings.threads:
        tf.config.threading.set_intra_op_parallelism_threads(settings.threads)
        tf.config.threading.set_inter_op_parallelism_threads(settings.threads)
    return time.monotonic() + settings.seconds


def opened(path, said):
    """What the file of a run holds, or what is said of it where there is none.

    Ends the script where the file is of another run.
    """
    before = json.loads(path.read_text()) if path.exists() else said
    differ = [key for key in said if before.get(key) != said[key]]
    if differ:
        raise SystemExit(
            f"{path} is of another run: {', '.join(differ)}. Delete it and its "
            "states, or give another folder by --out."
        )
    return dict(before)


def search(score, rates, factor=2.0, most=8):
    """The best rate, with a worse one on either side of it.

    Args:
        score: Of a rate; less is better, None ends the search.
        rates: To begin with; one alone is taken as it is.
        factor: From a rate to the one beyond it.
        most: Rates to try; the best may then be at an end.

    Returns:
        The rate; None where the search was ended.
    """
    found, rates = {}, list(rates)
    while True:
        for rate in rates:
            found[rate] = score(rate)
            if found[rate] is None:
                return None
        best, low, high = min(found, key=found.get), min(found), max(found)
        if len(found) == 1 or low < best < high or len(found) >= most:
            return best
        beyond = best / factor if best == low else best * factor
        rates = [float(f"{beyond:.2g}")]


class Run(keras.callbacks.Callback):
    """Counts processor time, writes a report an epoch, ends in time.

    Args:
        path: The file of results.
        said: What the run is, as JSON has it.
        end: Of `time.monotonic`; training stops at the next end of an epoch.

    Attributes:
        found: What the file holds: what was said, and "reports" with updates,
            seconds (of training, without compiling and tests) and logs.
        spent: These seconds.
    """

    def __init__(self, path, said, end=math.inf):
        super().__init__()
        self.path, self.end = path, end
        self.found = {"reports": [], **opened(path, said)}
        self.spent = self.began = self.kept = None

    @property
    def reports(self):
        return self.found["reports"]

    def on_epoch_begin(self, epoch, logs=None):
        if self.spent is None:
            # The state that goes on may be older than the last report.
            if self.kept is not None and self.kept.position.batch:
                # It comes when the batches behind it in its epoch have passed.
                del self.reports[epoch:]
            else:
                self.forget(int(self.model.optimizer.iterations))
            self.spent = self.reports[-1]["seconds"] if self.reports else 0.0

    def forget(self, updates):
        """Drops what was reported after so many updates."""
        while self.reports and self.reports[-1]["updates"] > updates:
            self.reports.pop()

    def on_train_batch_begin(self, batch, logs=None):
        began, self.began = self.began, time.process_time()
        self.compiles = began is None

    def on_train_batch_end(self, batch, logs=None):
        int(self.model.optimizer.iterations)  # waits for the step
        if not self.compiles:
            self.spent += time.process_time() - self.began

    def tell(self, updates, logs):
        """Adds what the file is told of an epoch."""
        report = {"updates": updates, "seconds": round(self.spent, 1)}
        report |= {name: round(value, 5) for name, value in logs.items()}
        self.reports.append(report)

    def on_epoch_end(self, epoch, logs):
        self.tell(int(self.model.optimizer.iterations), logs)
        write_json(self.path, self.found)
        if self.is_over():
            self.model.stop_training = True

    def is_over(self):
        return time.monotonic() >= self.end

    def states(self, folder, save_freq="epoch"):
        """The callback that keeps the state of the training."""
        self.kept = ksg.callbacks.BackupAndRestore(
            folder / self.path.stem, save_freq, delete_checkpoint=False
        )
        return self.kept
