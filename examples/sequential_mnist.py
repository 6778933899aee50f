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

import argparse
import dataclasses
import json
import pathlib
import time

import keras
import tensorflow as tf

import keras_seqgrad as ksg

PIXELS = 28 * 28
QUICK = {"pixels": 28, "units": 16, "parts": 4, "images": 512, "epochs": 2}
COLUMNS = "{:<7} {:>5} {:>7} {:>9} {:>10} {:>10} {:>9}"
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
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.5, 4.4), layout="constrained")
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
    pyplot.close(figure)


def parse(argv):
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=pathlib.Path, help="folder of the four idx files")
    add("--download", action="store_true", help="by tensorflow-datasets")
    add("--permuted", action="store_true")
    add("--pixels", type=int, default=4, help="pixels of a step")
    add("--images", type=int, default=20_000, help="training images")
    add("--units", type=int, default=128)
    add("--parts", type=int, default=10, help="K, parts of a sequence")
    add("--alpha", type=float, default=0.1)
    add("--form", choices=("code", "paper"), default="code")
    add("--average", choices=("swap", "evaluate"), default="swap")
    add("--epochs", type=int, default=3)
    add("--batch-size", type=int, default=128)
    add("--learning-rate", type=float, default=1e-3)
    add("--arms", nargs="+", choices=ARMS, default=ARMS)
    add("--seed", type=int, default=0)
    add("--repeats", type=int, default=1, help="this seed and the next ones")
    add("--jit", action=argparse.BooleanOptionalAction, default=True)
    add("--out", type=pathlib.Path, default="runs/sequential_mnist")
    add("--quick", action="store_true", help="rows, few images")
    if parser.parse_args(argv).quick:
        parser.set_defaults(**QUICK)
    settings = parser.parse_args(argv)
    if settings.pixels < 1 or PIXELS % settings.pixels:
        parser.error(
            f"--pixels must divide {PIXELS}. Received: {settings.pixels}"
        )
    return settings


def main(argv=None):
    """Prints the table, draws the picture; the runs of each arm."""
    settings = parse(argv)
    task = load(settings)
    settings.out.mkdir(parents=True, exist_ok=True)
    print(
        f"{PIXELS // settings.pixels} steps of {settings.pixels} pixels, "
        f"{'permuted' if settings.permuted else 'in order'}, "
        f"{settings.images} images, {settings.parts} parts, alpha "
        f"{settings.alpha:g}, form {settings.form}, LSTM {settings.units}"
    )
    head = ["arm", "seed", "epochs", "updates", "accuracy", "loss", "seconds"]
    print(COLUMNS.format(*head))
    arms, results = make_arms(settings), {}
    for name in settings.arms:
        for seed in range(settings.seed, settings.seed + settings.repeats):
            run = train(arms[name], task, settings, seed)
            results.setdefault(name, []).append(run)
            print(
                COLUMNS.format(
                    name,
                    seed,
                    settings.epochs,
                    run["updates"],
                    f"{100 * run['accuracy'][-1]:.2f}%",
                    f"{run['loss'][-1]:.4f}",
                    f"{run['seconds']:.0f}",
                ),
                flush=True,
            )
            text = json.dumps(results, indent=1)
            (settings.out / "results.json").write_text(text)
    plot(results, settings, settings.out / "curves.png")
    print(f"picture: {settings.out / 'curves.png'}")
    return results


if __name__ == "__main__":
    main()
