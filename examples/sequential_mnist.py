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
    fptt      the same with the regulariser, in the form of the authors' code

so that fptt against parts shows what the regulariser does. The paper trains
200 epochs on single pixels; the defaults here are 4 pixels a step, a third of
the images and three epochs, for two cores. `--pixels 1 --images 60000` is the
task of the paper. `--out` gets results.json and curves.png.

Kag and Saligrama, 2021. Training recurrent neural networks via forward
propagation through time. ICML.
"""

import dataclasses
import pathlib
import time

import keras
import tensorflow as tf
from common import Parser, Table, subplots, write_json

import keras_seqgrad as ksg

PIXELS = 28 * 28
QUICK = {"pixels": 28, "units": 16, "parts": 4, "images": 512, "epochs": 2}
COLUMNS = "{:<7} {:>5} {:>7} {:>9} {:>10} {:>10} {:>9}"
HEAD = ["arm", "seed", "epochs", "updates", "accuracy", "loss", "seconds"]
ARMS = ("bptt", "equal", "parts", "fptt")


@dataclasses.dataclass
class Arm:
    """A method, and the images of a batch."""

    method: ksg.methods.Method
    batch_size: int


def make_arms(settings):
    batch_size, parts = settings.batch_size, settings.parts
    regularized = ksg.methods.FPTT(
        parts, settings.alpha, form=settings.form, average=settings.average
    )
    plain = ksg.methods.FPTT(parts, regularize=False)
    return {
        "bptt": Arm(ksg.methods.BPTT(), batch_size),
        "equal": Arm(ksg.methods.BPTT(), max(1, batch_size // parts)),
        "parts": Arm(plain, batch_size),
        "fptt": Arm(regularized, batch_size),
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
    """The task, only as many training images as asked for."""
    task = ksg.data.tasks.SequentialMNIST(
        settings.permuted, path=settings.data, download=settings.download
    )
    images, labels = task.splits["train"]
    task.splits["train"] = images[: settings.images], labels[: settings.images]
    return task


def batches(task, settings, batch_size, split="train", seed=0):
    shape = [batch_size, PIXELS // settings.pixels, settings.pixels]
    return task.dataset(batch_size, seed=seed, split=split).map(
        lambda x, y: (tf.reshape(x, shape), y)
    )


def train(arm, task, settings, seed):
    """Test accuracy after every epoch, and what it took."""
    keras.utils.set_random_seed(seed)
    model = make_model(settings, arm.method)
    began = time.perf_counter()
    history = model.fit(
        batches(task, settings, arm.batch_size, seed=seed),
        epochs=settings.epochs,
        validation_data=batches(task, settings, 100, "test"),
        verbose=0,
    ).history
    return {
        "seed": seed,
        "updates": int(model.optimizer.iterations),
        "accuracy": history["val_accuracy"],
        "loss": history["val_loss"],
        "seconds": time.perf_counter() - began,
    }


def plot(results, settings, path):
    figure, axes = subplots(1, 1, (6.5, 4.4))
    for color, (name, runs) in enumerate(results.items()):
        for place, run in enumerate(runs):
            axes.plot(
                range(1, settings.epochs + 1),
                [100 * a for a in run["accuracy"]],
                "--" if name == "parts" else "-",
                marker="o",
                color=f"C{color}",
                alpha=1.0 if place == 0 else 0.5,
                label=name if place == 0 else None,
            )
    order = "permuted" if settings.permuted else "in order"
    steps = PIXELS // settings.pixels
    axes.set(
        xlabel="epochs",
        ylabel="test accuracy (%)",
        title=f"MNIST in {steps} steps, {order}",
        xticks=range(1, settings.epochs + 1),
    )
    axes.grid(alpha=0.3)
    axes.legend()
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
    count("--units", 128)
    count("--parts", 10, "K, parts of a sequence")
    add("--alpha", type=float, default=0.1)
    add("--form", choices=("code", "paper"), default="code")
    add("--average", choices=("swap", "evaluate"), default="swap")
    count("--epochs", 3)
    count("--batch-size", 128)
    add("--learning-rate", type=float, default=1e-3)
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
        f"{settings.images} images, {settings.parts} parts, alpha "
        f"{settings.alpha:g}, form {settings.form}, LSTM {settings.units}"
    )
    table = Table(COLUMNS, *HEAD)
    arms, results = make_arms(settings), {}
    for name in settings.arms:
        for seed in range(settings.seed, settings.seed + settings.repeats):
            run = train(arms[name], task, settings, seed)
            results.setdefault(name, []).append(run)
            table.add(
                name,
                seed,
                settings.epochs,
                run["updates"],
                f"{100 * run['accuracy'][-1]:.2f}%",
                f"{run['loss'][-1]:.4f}",
                f"{run['seconds']:.0f}",
            )
            write_json(settings.out / "results.json", results)
    plot(results, settings, settings.out / "curves.png")
    print(f"picture: {settings.out / 'curves.png'}")
    return results


if __name__ == "__main__":
    main()
