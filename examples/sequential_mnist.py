"""Forward propagation through time on digits read a few pixels at a time.

    python examples/sequential_mnist.py --data FOLDER    # four idx files
    python examples/sequential_mnist.py --download       # tensorflow-datasets
    python examples/sequential_mnist.py --data FOLDER --permuted
    python examples/sequential_mnist.py --data FOLDER --quick

An LSTM reads an image of MNIST in `784 / pixels` steps and names the digit;
with --permuted the pixels come in one random order. The arms:

    bptt      one update a batch, along the exact gradient
    equal     bptt on batches of `batch-size / parts` images: about as many
              updates on the same images as the arms below
    parts     K parts, an update at each, with the terminal loss: between the
              label and what the model said there an epoch ago
    fptt      the same with the regulariser, by this library's default
    authors   the same with the regulariser as in the authors' code, --alpha

so that fptt and authors against parts show what the regulariser does. The
defaults here are 4 pixels a step, a third of the images and three epochs, for
two cores. The task of the paper, as far as ten minutes an arm reach, is

    python examples/sequential_mnist.py --data FOLDER --pixels 1 \\
        --images 60000 --epochs 200 --seconds 600 --decay

A run stops after its epochs, or when its --seconds have passed, compiling and
tests included. Started again it goes on where it was, with more of either if
that is said. `--out` gets a JSON file a run, written after every test, of
which `python -m benchmarks.learned` makes tables, and pictures. A test stands
at the end of an epoch, unless `--every` makes rounds of fewer images; FPTT
renews what it remembers of the last epoch, and takes its average, in each.

Kag and Saligrama, 2021. Training recurrent neural networks via forward
propagation through time. ICML.
"""

import dataclasses
import json
import math
import pathlib
import time
import warnings

import keras
import tensorflow as tf
from common import Parser, Table, positive_float, subplots, write_json

import keras_seqgrad as ksg

PIXELS = 28 * 28
QUICK = {"pixels": 28, "units": 16, "parts": 4, "images": 512, "epochs": 2}
COLUMNS = "{:<9} {:>5} {:>7} {:>8} {:>9} {:>10} {:>8}"
HEAD = ["arm", "seed", "epochs", "updates", "accuracy", "loss", "seconds"]
ARMS = ("bptt", "equal", "parts", "fptt", "authors")
# Shares of the run after which the rate is a tenth of what it was.
FALLS = (0.5, 0.75, 0.9)
SAID = ["permuted", "pixels", "images", "units", "parts", "alpha", "average"]
SAID += ["learning_rate", "decay"]


@dataclasses.dataclass
class Arm:
    """A method, and the images of a batch."""

    method: ksg.methods.Method
    batch_size: int


def make_arms(settings):
    batch_size, parts = settings.batch_size, settings.parts
    fptt, options = ksg.methods.FPTT, {"average": settings.average}
    authors = fptt.authors(parts, settings.alpha, **options)
    plain = fptt(parts, regularize=False)
    return {
        "bptt": Arm(ksg.methods.BPTT(), batch_size),
        "equal": Arm(ksg.methods.BPTT(), max(1, batch_size // parts)),
        "parts": Arm(plain, batch_size),
        "fptt": Arm(fptt(parts, **options), batch_size),
        "authors": Arm(authors, batch_size),
    }


def make_model(settings, method):
    network = keras.Sequential(
        [
            keras.Input((PIXELS // settings.pixels, settings.pixels)),
            keras.layers.LSTM(settings.units),
            keras.layers.Dense(10),
        ]
    )
    model = ksg.SequenceModel.from_model(network)
    model.compile(
        keras.optimizers.Adam(settings.learning_rate, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        method=method,
        jit_compile=settings.jit,
    )
    return model


def load(settings):
    """The task, only as many images as asked for."""
    task = ksg.data.tasks.SequentialMNIST(
        settings.permuted, path=settings.data, download=settings.download
    )
    for split, count in ("train", settings.images), ("test", settings.test):
        images, labels = task.splits[split]
        task.splits[split] = images[:count], labels[:count]
    settings.images, settings.test = (
        len(task.splits[split][1]) for split in ("train", "test")
    )
    return task


def batches(task, settings, batch_size, split="train", seed=0):
    shape = [batch_size, PIXELS // settings.pixels, settings.pixels]
    return task.dataset(batch_size, seed=seed, split=split).map(
        lambda x, y: (tf.reshape(x, shape), y)
    )


class Watch(keras.callbacks.Callback):
    """Writes what every test finds, sets the rate, ends when time is over.

    Args:
        found: What is written, with the list "reports" of what was before.
        settings: Those of the run.
        path: The file.
    """

    def __init__(self, found, settings, path):
        super().__init__()
        self.found, self.settings, self.path = found, settings, path
        self.started, self.seconds, self.tests = time.perf_counter(), 0.0, 0.0
        self.before = self.reports[-1]["wall"] if self.reports else 0.0
        self.compiles = True

    @property
    def reports(self):
        return self.found["reports"]

    @property
    def wall(self):
        """Seconds of this run, all its starts together."""
        return self.before + time.perf_counter() - self.started

    @property
    def epochs(self):
        """Images seen over those there are."""
        method, updates = self.model.method, self.model.optimizer.iterations
        parts, steps = 1, PIXELS // self.settings.pixels
        if isinstance(method, ksg.methods.FPTT):
            parts = -(-steps // method.part_length(steps))
        images = int(updates) / parts * self.found["batch_size"]
        return images / self.settings.images

    def share(self):
        """What is behind of all that the run may take."""
        share = self.epochs / self.settings.epochs
        if self.settings.seconds is not None:
            share = max(share, self.wall / self.settings.seconds)
        return share

    def on_epoch_begin(self, epoch, logs=None):
        # The state that goes on may be older than the last report.
        updates = int(self.model.optimizer.iterations)
        while self.reports and self.reports[-1]["updates"] > updates:
            self.reports.pop()
        self.seconds = self.reports[-1]["seconds"] if self.reports else 0.0

    def on_train_batch_begin(self, batch, logs=None):
        if self.settings.decay:
            falls = sum(self.share() >= fall for fall in FALLS)
            rate = self.settings.learning_rate / 10**falls
            self.model.optimizer.learning_rate = rate
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        int(self.model.optimizer.iterations)  # waits for the step
        if not self.compiles:
            self.seconds += time.perf_counter() - self.began
        self.compiles = False
        limit = self.settings.seconds
        if limit is not None and self.wall + self.tests >= limit:
            self.model.stop_training = True

    def on_test_begin(self, logs=None):
        self.tested = time.perf_counter()

    def on_test_end(self, logs=None):
        self.tests = time.perf_counter() - self.tested

    def on_epoch_end(self, epoch, logs):
        report = {
            "updates": int(self.model.optimizer.iterations),
            "epochs": round(self.epochs, 3),
            "seconds": round(self.seconds, 2),
            "wall": round(self.wall, 2),
            "rate": float(self.model.optimizer.learning_rate),
            "loss": round(float(logs["val_loss"]), 5),
            "accuracy": round(float(logs["val_accuracy"]), 5),
        }
        self.reports.append(report)
        write_json(self.path, self.found)


def begun(name, arm, seed, settings, path):
    """What the file of a run holds before it goes on."""
    found = {"arm": name, "seed": seed}
    found |= {key: getattr(settings, key) for key in SAID}
    found |= {"batch_size": arm.batch_size, "test": settings.test}
    before = json.loads(path.read_text()) if path.exists() else found
    differ = [key for key in found if found[key] != before.get(key)]
    if differ:
        raise SystemExit(
            f"{path} is of another run: {', '.join(differ)}. Delete it and "
            "its states, or give another --out."
        )
    found["reports"] = before.get("reports", [])
    return found | {"ended": before.get("ended")}


def train(name, arm, task, settings, seed):
    """What a run has found, as in its file."""
    order = "permuted" if settings.permuted else "in_order"
    path = settings.out / f"{order}_{name}_{seed}.json"
    found = begun(name, arm, seed, settings, path)
    limits = {"epochs": settings.epochs, "seconds": settings.seconds}
    if found["ended"] == limits:
        return found
    keras.utils.set_random_seed(seed)
    model = make_model(settings, arm.method)
    images = min(settings.every or settings.images, settings.images)
    rounds = settings.images / images
    states = ksg.callbacks.BackupAndRestore(
        settings.out / path.stem, delete_checkpoint=False
    )
    # The round in which time is over is shorter, and the last.
    warnings.filterwarnings("ignore", "The number of batches differs")
    model.fit(
        batches(task, settings, arm.batch_size, seed=seed).repeat(),
        epochs=math.ceil(settings.epochs * rounds),
        steps_per_epoch=max(1, images // arm.batch_size),
        validation_data=batches(
            task, settings, min(settings.test, 1000), "test"
        ),
        callbacks=[Watch(found, settings, path), states],
        verbose=0,
    )
    found["ended"] = limits
    write_json(path, found)
    return found


def plot(results, settings, path):
    figure, both = subplots(1, 2, (11, 4.4), sharey=True)
    for color, (name, runs) in enumerate(results.items()):
        for place, run in enumerate(runs):
            for axes, x in zip(both, ("epochs", "updates"), strict=True):
                axes.plot(
                    [report[x] for report in run["reports"]],
                    [100 * report["accuracy"] for report in run["reports"]],
                    "--" if name == "parts" else "-",
                    marker="." if name == "equal" else "o",
                    markersize=4,
                    color=f"C{color}",
                    alpha=0.5 if place else 1.0,
                    label=None if place else name,
                )
    order = "permuted" if settings.permuted else "in order"
    steps = PIXELS // settings.pixels
    for axes, x in zip(both, ("epochs", "updates"), strict=True):
        axes.set(xlabel=x, title=f"MNIST in {steps} steps, {order}, by {x}")
        axes.grid(alpha=0.3)
    both[0].set_ylabel("test accuracy (%)")
    both[0].legend()
    figure.savefig(path, dpi=120)


def parse(argv):
    parser = Parser(
        __doc__, "runs/sequential_mnist", quick=("rows, few images", QUICK)
    )
    add, count = parser.add_argument, parser.count
    add("--data", type=pathlib.Path, help="folder of the four idx files")
    add("--download", action="store_true", help="by tensorflow-datasets")
    add("--permuted", action="store_true")
    count("--pixels", 4, "pixels of a step")
    count("--images", 20_000, "training images")
    count("--test", 10_000, "images to test on")
    count("--units", 128)
    count("--parts", 10, "K, parts of a sequence")
    add("--alpha", type=positive_float, default=0.1, help="of the authors' arm")
    add("--average", choices=("swap", "evaluate"), default="swap")
    count("--epochs", 3)
    add("--seconds", type=positive_float, help="of each run; default: no limit")
    count("--every", None, "images from test to test; default: all")
    count("--batch-size", 128)
    add("--learning-rate", type=positive_float, default=1e-3)
    words = "divide the rate by ten after 50, 75 and 90 per cent of the run"
    add("--decay", action="store_true", help=words)
    add("--arms", nargs="+", choices=ARMS, default=ARMS)
    add("--seed", type=int, default=0)
    count("--repeats", 1, "this seed and the next ones")
    settings = parser.parse(argv)
    if PIXELS % settings.pixels:
        parser.error(
            f"--pixels must divide {PIXELS}. Received: {settings.pixels}"
        )
    return settings


def main(argv=None):
    """Prints the table, draws the picture; the runs of each arm."""
    settings = parse(argv)
    task = load(settings)
    print(
        f"{PIXELS // settings.pixels} steps of {settings.pixels} pixels, "
        f"{'permuted' if settings.permuted else 'in order'}, "
        f"{settings.images} images, {settings.parts} parts, LSTM "
        f"{settings.units}"
    )
    table = Table(COLUMNS, *HEAD)
    arms, results = make_arms(settings), {}
    for name in settings.arms:
        for seed in range(settings.seed, settings.seed + settings.repeats):
            run = train(name, arms[name], task, settings, seed)
            results.setdefault(name, []).append(run)
            last = run["reports"][-1]
            table.add(
                name,
                seed,
                f"{last['epochs']:.1f}",
                last["updates"],
                f"{100 * last['accuracy']:.2f}%",
                f"{last['loss']:.4f}",
                f"{last['seconds']:.0f}",
            )
    order = "permuted" if settings.permuted else "in_order"
    picture = settings.out / f"{order}_{'_'.join(settings.arms)}.png"
    plot(results, settings, picture)
    print(f"picture: {picture}")
    return results


if __name__ == "__main__":
    main()
