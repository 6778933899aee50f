"""Target propagation on the temporal order task, beside BPTT at equal steps.

    python examples/temporal_order_target_propagation.py           # 7 minutes
    python examples/temporal_order_target_propagation.py --quick   # one minute

A sequence shows X or Y at two places; the answer is the order of both. Arms,
all with a tanh SimpleRNN of 100 units that starts orthogonal, plain SGD, one
target a sequence:

    BPTT               the exact gradient
    TP-RI local        targets through regularised inverses; each step's loss
                       reaches the weights through that step alone (the paper)
    TP-RI through time the same losses, differentiated through time (the
                       paper's released code)
    TPTT               targets through a learned inverse, local losses

Target propagation moves the recurrent weights by rate * target_rate times its
gradient and the readout by rate times the exact one. BPTT gets the same two
step sizes, so that it is the gradient that differs. "cosine" is that of the
recurrent weights' gradient to BPTT's, at the start. Every arm of a seed has
the same initial weights and the same batches; it ends at the first evaluation
above 99 %. `--out` gets a file of results a run, by which a call that was
stopped goes on, and accuracy.png.

Roulet and Harchaoui, 2021. Target propagation via regularized inversion.
arXiv:2112.01453. Manchev and Spratling, 2020. JMLR 21(7).
"""

import dataclasses
import math

import keras
import long_runs
import numpy as np
from common import Parser, Table, subplots

import keras_seqgrad as ksg

UNITS, BATCH, CLASSES = 100, 20, 4
RATE, TARGET_RATE = 0.1, 0.01
# Of the input weights, as the authors have it. With the larger ones of Keras
# states come nearer to ±1, and TP-RI with r = 1 diverges at length 20.
START = UNITS**-0.5
# Released settings for length 60; for length 20 a smaller r, so that targets
# reach the first symbol.
REGULARIZATION = {20: 1.0, 60: 10.0}
ITERATIONS = {20: 2000, 60: 8000}
SOLVED = 0.99
# What a run is, beside its arm, length and seed.
DECISIVE = ("rate", "target_rate", "every", "uniform", "jit")
QUICK = {"lengths": [20], "iterations": 1000, "seeds": 1}
COLUMNS = "{:>4} {:<20} {:>8} {:>22} {:>10} {:>8}"


@keras.saving.register_keras_serializable("examples")
class SlowerRecurrence(keras.optimizers.SGD):
    """SGD whose steps on recurrent layers are `factor` times as long."""

    def __init__(self, factor, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def apply(self, grads, trainable_variables=None):
        scaled = [
            gradient * self.factor if "rnn" in variable.path else gradient
            for gradient, variable in zip(
                grads, trainable_variables, strict=True
            )
        ]
        super().apply(scaled, trainable_variables)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Run(long_runs.Run):
    """Ends at the first evaluation that reaches `SOLVED`, or in time."""

    @property
    def accuracy(self):
        return self.found["accuracy"]

    def forget(self, updates):
        super().forget(updates)
        del self.accuracy[len(self.reports) :]

    def tell(self, updates, logs):
        self.accuracy.append(round(logs["val_accuracy"], 5))
        super().tell(updates, logs)

    @property
    def solved(self):
        return bool(self.accuracy) and self.accuracy[-1] >= SOLVED

    def is_over(self):
        return self.solved or super().is_over()


@dataclasses.dataclass
class Arm:
    name: str
    method: ksg.methods.Method
    optimizer: keras.optimizers.Optimizer


def arms(length, settings):
    inversion = ksg.methods.RegularizedInversion
    r = REGULARIZATION.get(length, 1.0)
    rate, target_rate = settings.rate, settings.target_rate

    def sgd():
        return keras.optimizers.SGD(rate)

    matched = SlowerRecurrence(target_rate, learning_rate=rate)
    yield Arm("BPTT", ksg.methods.BPTT(), matched)
    yield Arm("TP-RI local", inversion(target_rate, r), sgd())
    through_time = inversion(target_rate, r, local=False)
    yield Arm("TP-RI through time", through_time, sgd())
    learned = inversion(target_rate, propagation="learned", seed=0)
    yield Arm("TPTT", learned, sgd())


def make_model(arm, length, seed, settings):
    keras.utils.set_random_seed(seed)
    # One after another, each of another seed drawn from this one.
    draws = [
        keras.initializers.RandomUniform(-START, START, seed=seed + 1000 * n)
        for n in range(4)
    ]
    recurrent, readout = {"kernel_initializer": draws[0]}, {}
    if settings.uniform:
        recurrent["bias_initializer"] = draws[1]
        readout["kernel_initializer"] = draws[2]
        readout["bias_initializer"] = draws[3]
    network = keras.Sequential(
        [
            keras.Input((length, 6)),
            keras.layers.SimpleRNN(UNITS, name="rnn", **recurrent),
            keras.layers.Dense(CLASSES, **readout),
        ]
    )
    model = ksg.SequenceModel.from_model(network)
    compile_with(model, settings.jit, arm.method, arm.optimizer)
    return model


def compile_with(model, jit, method, optimizer="sgd"):
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        method=method,
        jit_compile=jit,
        steps_per_execution=10,
    )


def cosine(model, jit, arm, batch):
    """Of an arm's recurrent gradient to the exact one."""
    flat = []
    for method in (arm.method, ksg.methods.BPTT()):
        compile_with(model, jit, method)
        _, gradients = model.estimate_gradients(*batch)
        flat.append(
            np.concatenate(
                [
                    np.ravel(gradient)
                    for variable, gradient in zip(
                        model.trainable_variables, gradients, strict=True
                    )
                    if "rnn" in variable.path
                ]
            )
        )
    found, exact = flat
    return found @ exact / np.linalg.norm(found) / np.linalg.norm(exact)


def iterations(length, settings):
    return settings.iterations or ITERATIONS.get(length, 8000)


def train(arm, length, seed, settings, end=math.inf):
    """A run from its file: what it came to."""
    name = f"{length}_{arm.name}_{seed}".replace(" ", "_").lower()
    said = {"arm": arm.name, "length": length, "seed": seed}
    said |= {key: getattr(settings, key) for key in DECISIVE}
    run = Run(settings.out / f"{name}.json", said, end)
    run.found.setdefault("accuracy", [])
    epochs = iterations(length, settings) // settings.every
    if len(run.accuracy) < epochs and not run.is_over():
        fit(run, arm, epochs, settings)
    return run.found


def fit(run, arm, epochs, settings):
    length, seed = run.found["length"], run.found["seed"]
    task = ksg.data.tasks.TemporalOrder(length)
    model = make_model(arm, length, seed, settings)
    if "cosine" not in run.found:
        batch = next(iter(task.dataset(BATCH, 1, seed=seed)))
        run.found["cosine"] = float(cosine(model, settings.jit, arm, batch))
        model = make_model(arm, length, seed, settings)
    model.fit(
        task.dataset(BATCH, seed=20_000 + seed),
        steps_per_epoch=settings.every,
        epochs=epochs,
        validation_data=next(iter(task.dataset(2000, 1, seed=10_000 + seed))),
        validation_batch_size=500,
        callbacks=[run, run.states(settings.out / "states")],
        shuffle=False,
        verbose=0,
    )


def solved_after(run, every):
    """Iterations before the first evaluation at `SOLVED`, or None."""
    for place, accuracy in enumerate(run["accuracy"]):
        if accuracy >= SOLVED:
            return (place + 1) * every
    return None


def summary(length, name, found, every):
    last = [run["accuracy"][-1] for run in found]
    after = [solved_after(run, every) for run in found]
    said = ", ".join("never" if a is None else str(a) for a in after)
    return (
        length,
        name,
        f"{np.mean([run['cosine'] for run in found]):.4f}",
        " ".join(f"{100 * a:.1f}" for a in last),
        f"{np.mean([run['reports'][-1]['seconds'] for run in found]):.0f} s",
        said,
    )


def plot(found, settings, path):
    lengths = settings.lengths
    size = (5.5 * len(lengths), 4.2)
    figure, axes = subplots(1, len(lengths), size, squeeze=False)
    names = list(dict.fromkeys(run["arm"] for run in found))
    for place, length in enumerate(lengths):
        for color, name in enumerate(names):
            label = name
            for run in found:
                if (run["arm"], run["length"]) != (name, length):
                    continue
                updates = settings.every * np.arange(
                    1, len(run["accuracy"]) + 1
                )
                axes[0][place].plot(
                    updates,
                    run["accuracy"],
                    color=f"C{color}",
                    alpha=0.8,
                    label=label,
                )
                label = None
        axes[0][place].set(
            title=f"temporal order, length {length}",
            xlabel="updates",
            ylabel="accuracy on 2000 new sequences",
            ylim=(0.2, 1.02),
        )
        axes[0][place].grid(alpha=0.3)
    axes[0][0].legend(loc="lower right")
    figure.savefig(path, dpi=120)


def parse(argv):
    parser = Parser(
        __doc__,
        "runs/temporal_order",
        quick=("length 20, one seed, 1000", QUICK),
    )
    add, count = parser.add_argument, parser.count
    count("--lengths", [20, 60], nargs="+")
    count("--iterations", None, "default: 2000 at 20, 8000 at 60")
    count("--seeds", 3, "seeds 0, 1, ...")
    add("--rate", type=float, default=RATE, help="of the readout")
    add("--target-rate", type=float, default=TARGET_RATE)
    count("--every", 250, "updates between evaluations")
    words = "biases and readout begin within ±1/10, as the released code's do"
    add("--uniform", action="store_true", help=words)
    long_runs.add_arguments(parser)
    settings = parser.parse(argv)
    least = min(iterations(length, settings) for length in settings.lengths)
    if settings.every > least:
        parser.error(
            "--every must be at most --iterations. Received: "
            f"{settings.every} and {least}"
        )
    return settings


def main(argv=None):
    """Prints the table, draws the picture; the runs."""
    settings = parse(argv)
    end = long_runs.begin(settings)
    print(
        f"Batch {BATCH}; step size of the "
        f"readout {settings.rate:g}, of the recurrent layer "
        f"{settings.rate * settings.target_rate:g}; last accuracy in percent "
        f"and updates until {SOLVED:.0%}, seed by seed"
    )
    head = ["T", "method", "cosine", "accuracy", "time", "solved after"]
    table = Table(COLUMNS, *head)
    results = []
    for length in settings.lengths:
        for place in range(4):
            found = []
            for seed in range(settings.seeds):
                arm = list(arms(length, settings))[place]
                found.append(train(arm, length, seed, settings, end))
            found = [run for run in found if run["accuracy"]]
            if not found:
                continue
            name = found[0]["arm"]
            table.add(*summary(length, name, found, settings.every))
            results += found
    plot(results, settings, settings.out / "accuracy.png")
    print(f"picture: {settings.out / 'accuracy.png'}")
    return results


if __name__ == "__main__":
    main()
