"""Forward propagation through time on the adding problem, beside its controls.

    python examples/adding_fptt.py                  # T = 200, one seed
    python examples/adding_fptt.py --length 500 --arms bptt parts fptt
    python examples/adding_fptt.py --quick          # a minute

An LSTM reads a long sequence of numbers and says the sum of the two marked
ones. Always answering 1 gives a mean squared error of 1/6, remembering one of
the two numbers 1/12. The arms:

    bptt      one update a batch, along the exact gradient
    equal     bptt with as many updates as the arms below: as many batches more
    parts     K parts, an update and the target at each, times (part + 1) / K;
              no regulariser
    fptt      the same with FPTT's regulariser, by the library's default
    code      with the authors' alpha, in the form of their code
    paper     with that alpha, in the form printed in the paper
    small     in the code's form with a fiftieth of alpha

so that each of these against parts shows what the regulariser does, and parts
against equal what asking early does. After each epoch FPTT goes on from its
average (--average none: from its last parameters). Every arm reads the same
batches.
`--out` gets results.json and curves.png.

Kag and Saligrama, 2021. Training recurrent neural networks via forward
propagation through time. ICML. The authors' code has no regulariser here.
"""

import dataclasses
import time

import keras
import numpy as np
from common import Parser, Table, subplots, write_json

import keras_seqgrad as ksg

QUICK = {"length": 20, "units": 16, "parts": 4, "batches": 60, "epochs": 3}
COLUMNS = "{:<8} {:>5} {:>9} {:>9} {:>12} {:>12} {:>9}"
HEAD = ["arm", "seed", "batches", "updates", "last error", "best error"]


@dataclasses.dataclass
class Arm:
    """A method, how many batches it takes for one of the others', a style."""

    method: ksg.methods.Method
    updates: int
    batches: int = 1
    style: str = "-"


def make_arms(settings):
    parts, alpha = settings.parts, settings.alpha
    average = None if settings.average == "none" else settings.average
    fptt = ksg.methods.FPTT

    def regularized(alpha, form):
        return fptt(parts, alpha, form=form, average=average)

    return {
        "bptt": Arm(ksg.methods.BPTT(), 1, style=":"),
        "equal": Arm(ksg.methods.BPTT(), 1, batches=parts, style=":"),
        "parts": Arm(fptt(parts, regularize=False), parts, style="--"),
        "fptt": Arm(fptt(parts, average=average), parts),
        "code": Arm(regularized(alpha, "code"), parts),
        "paper": Arm(regularized(alpha, "paper"), parts),
        "small": Arm(regularized(alpha / 50, "code"), parts),
    }


ARMS = ("bptt", "equal", "parts", "fptt", "code", "paper", "small")


def make_model(settings, method):
    network = keras.Sequential(
        [
            keras.Input((settings.length, 2)),
            keras.layers.LSTM(settings.units),
            keras.layers.Dense(1),
        ]
    )
    model = ksg.SequenceModel.from_model(network)
    optimizer = keras.optimizers.Adam(
        settings.learning_rate, global_clipnorm=1.0
    )
    model.compile(optimizer, "mse", method=method, jit_compile=settings.jit)
    return model


def train(arm, settings, seed):
    """Test error after every epoch, before the first one included."""
    keras.utils.set_random_seed(seed)
    task = ksg.data.tasks.Adding(settings.length)
    steps = settings.batches // settings.epochs * arm.batches
    test = task.draw(settings.test, np.random.default_rng(10_000))
    model = make_model(settings, arm.method)
    first = model.evaluate(*test, batch_size=settings.test, verbose=0)
    began = time.perf_counter()
    history = model.fit(
        task.dataset(settings.batch_size, seed=seed),
        epochs=settings.epochs,
        steps_per_epoch=steps,
        validation_data=test,
        validation_batch_size=settings.test,
        verbose=0,
    ).history
    return {
        "seed": seed,
        "batches": [steps * e for e in range(settings.epochs + 1)],
        "updates": int(model.optimizer.iterations),
        "error": [first, *history["val_loss"]],
        "seconds": time.perf_counter() - began,
    }


def plot(results, arms, settings, path):
    figure, both = subplots(1, 2, (11, 4.6), sharey=True)
    for color, (name, runs) in enumerate(results.items()):
        arm = arms[name]
        for place, run in enumerate(runs):
            batches = np.array(run["batches"])
            for axes, x in zip(
                both, (batches, batches * arm.updates), strict=True
            ):
                axes.semilogy(
                    x,
                    run["error"],
                    arm.style,
                    color=f"C{color}",
                    alpha=1.0 if place == 0 else 0.5,
                    label=name if place == 0 and axes is both[0] else None,
                )
    for axes, x in zip(both, ("batches", "updates"), strict=True):
        for error in (1 / 6, 1 / 12):
            axes.axhline(error, color="black", linewidth=0.8, linestyle=":")
        axes.set(xlabel=x, title=f"adding, T = {settings.length}, by {x}")
        axes.grid(alpha=0.3)
    both[0].set_xlim(0, settings.batches)
    both[0].set_ylabel("test error (dotted: answer 1, remember one number)")
    figure.legend(loc="outside lower center", ncols=len(results))
    figure.savefig(path, dpi=120)


def parse(argv):
    parser = Parser(
        __doc__,
        "runs/adding_fptt",
        quick=("short sequences, few batches", QUICK),
    )
    add, count = parser.add_argument, parser.count
    count("--length", 200, "T, steps of a sequence")
    count("--units", 64)
    count("--parts", 10, "K, parts of a sequence")
    add("--alpha", type=float, default=0.5)
    count("--batches", 2000, "but K times for equal")
    count("--batch-size", 64)
    count("--epochs", 20, "tests, and averages taken")
    add("--learning-rate", type=float, default=1e-3)
    add("--average", choices=("swap", "evaluate", "none"), default="swap")
    add("--arms", nargs="+", choices=ARMS, default=ARMS)
    count("--test", 1000, "sequences to test on")
    add("--seed", type=int, default=0)
    count("--repeats", 1, "this seed and the next ones")
    settings = parser.parse(argv)
    if settings.epochs > settings.batches:
        parser.error(
            "--epochs must be at most --batches. Received: "
            f"{settings.epochs} and {settings.batches}"
        )
    return settings


def main(argv=None):
    """Prints the table, draws the picture; the runs of each arm."""
    settings = parse(argv)
    arms, results = make_arms(settings), {}
    print(
        f"T = {settings.length}, {settings.parts} parts, alpha "
        f"{settings.alpha:g}, LSTM {settings.units}, batch "
        f"{settings.batch_size}, average {settings.average}"
    )
    table = Table(COLUMNS, *HEAD, "seconds")
    for name in settings.arms:
        for seed in range(settings.seed, settings.seed + settings.repeats):
            run = train(arms[name], settings, seed)
            results.setdefault(name, []).append(run)
            table.add(
                name,
                seed,
                run["batches"][-1],
                run["updates"],
                f"{run['error'][-1]:.5f}",
                f"{min(run['error']):.5f}",
                f"{run['seconds']:.0f}",
            )
            write_json(settings.out / "results.json", results)
    plot(results, arms, settings, settings.out / "curves.png")
    print(f"picture: {settings.out / 'curves.png'}")
    return results


if __name__ == "__main__":
    main()
