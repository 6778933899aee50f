"""Truncation that points the wrong way, and random truncation that does not.

    python examples/influence_balancing.py            # about a minute
    python examples/influence_balancing.py --quick    # shorter

One number, theta, has to move from 1/2 to -1/6. Its influence on the next steps
is opposite to its influence in the long run, so truncated back-propagation
moves it the wrong way until it reaches far beyond 100 steps. ARTBP cuts every
16 steps in the mean and goes the right way: its weights make the expected
gradient the full one. The same cuts without the weights are the control.

All methods start from the same theta and make the same number of updates, by
plain SGD with one learning rate, on the mean loss of a piece of the stream (so
TBPTT 200 reads twenty times the steps of TBPTT 10). The table gives the
gradient at the start, with the state at rest (the mean over many pieces where
cuts are random), and where theta ended. A run ends early when theta is a
thousand times further from -1/6 than at first. `--out` gets theta.png.

A second table is of methods that update at every step of the stream, with no
steps to look back on. RTRL carries the whole influence of theta forward, UORO
an unbiased guess at it. SnAp follows each unit by itself, and here what
matters goes from unit to unit. `--out` gets every_step.png.

Tallec and Ollivier, 2017. Unbiasing truncated backpropagation through time.
arXiv:1705.08209. 2018. Unbiased online recurrent optimization.
arXiv:1702.05043.
"""

import dataclasses

import keras
import numpy as np
from common import Parser, Table, subplots

import keras_seqgrad as ksg

TASK = ksg.data.tasks.InfluenceBalancing(length=1)
MEAN_LENGTH = 16
CONVERGED, DIVERGED, STOPPED = 1e-3, 10.0, 1000.0
QUICK = {"updates": 4000, "learning_rate": 5e-4, "repeats": 200}
QUICK |= {"steps": 20_000}
COLUMNS = "{:<22} {:>16} {:>8} {:>10} {:>10}  {}"
ONLINE_COLUMNS = "{:<14} {:>8} {:>8} {:>10} {:>12}  {}"
DASHED = "cuts 16, no weights", "SnAp, 1e-05", "SnAp, 0.0001"
ONLINE_RATES = 1e-5, 1e-4
WINDOW = 100  # updates of a window, where each is of one step


@dataclasses.dataclass
class Run:
    """A method, and the pieces of the stream it learns from."""

    name: str
    method: ksg.methods.Method
    cuts: int | ksg.truncation.Random


def runs():
    for length in (10, 100, 200):
        method = ksg.methods.TruncatedBPTT(length)
        yield Run(f"TBPTT {length}", method, length)
    law = ksg.truncation.Random(MEAN_LENGTH)
    yield Run(f"cuts {MEAN_LENGTH}, no weights", ksg.methods.BPTT(), law)
    method = ksg.methods.ARTBP(MEAN_LENGTH, cuts="window")
    yield Run(f"ARTBP {MEAN_LENGTH}", method, law)


def online_methods(seed):
    yield "RTRL", ksg.methods.RTRL(1)
    yield "UORO", ksg.methods.UORO(1, seed)
    yield "SnAp", ksg.methods.SnAp(1)
    yield "TBPTT", ksg.methods.TruncatedBPTT(1)


def half_squared_error(y, prediction):
    return 0.5 * keras.ops.mean(keras.ops.square(y - prediction), axis=-1)


def make_model(method, jit):
    cell = ksg.data.tasks.InfluenceBalancingCell()
    network = keras.Sequential(
        [
            keras.Input((None, 1)),
            keras.layers.RNN(cell, return_sequences=True),
        ]
    )
    model = ksg.SequenceModel.from_model(network, stateful=True)
    model.compile(
        keras.optimizers.SGD(0.0),
        half_squared_error,
        method=method,
        jit_compile=jit,
    )
    return model


def make_windows(cuts, pieces, pieces_per_window=1, seed=0):
    """A stream of about `pieces` pieces, and its number of windows.

    Drawn pieces are windows of their own; of constant ones, several make a
    window, which a training step cuts again.
    """
    if isinstance(cuts, int):
        steps, window = cuts * pieces, cuts * pieces_per_window
        count, options = pieces // pieces_per_window, {}
    else:
        steps, window, count = int(cuts.mean_length) * pieces, cuts, pieces
        # Few programs for XLA to compile: 128, 1024, ... and all steps.
        lengths = int(cuts.mean_length) * 8 ** np.arange(1, 8)
        lengths = [*lengths[lengths < steps], steps]
        options = {"bucket_lengths": lengths, "seed": seed}
    ones = np.ones((steps, 1), "float32")
    windows = ksg.data.stream(0 * ones, 1, window, targets=ones, **options)
    return windows.repeat().take(count), count


def measure(model, run, settings):
    """Mean gradient at the start and its standard error."""
    # At a learning rate of 0, some 400 steps or more bring the state to rest.
    windows, count = make_windows(run.cuts, 40, 20, settings.seed)
    model.fit(windows, steps_per_epoch=count, shuffle=False, verbose=0)
    repeats = 10 if isinstance(run.cuts, int) else settings.repeats
    windows, _ = make_windows(run.cuts, repeats, seed=settings.seed)
    gradients = [
        float(model.estimate_gradients(*window)[1][0]) for window in windows
    ]
    return np.mean(gradients), np.std(gradients) / np.sqrt(repeats)


class Trajectory(keras.callbacks.Callback):
    """Records theta after every window; ends a run that is lost."""

    def __init__(self):
        super().__init__()
        self.updates, self.theta = [], []

    def on_train_begin(self, logs=None):
        self.before = int(self.model.optimizer.iterations)
        self._record()

    def on_train_batch_end(self, batch, logs=None):
        self._record()
        if not distance(self.theta[-1]) < STOPPED * distance(self.theta[0]):
            self.model.stop_training = True

    def _record(self):
        iterations = int(self.model.optimizer.iterations)
        self.updates.append(iterations - self.before)
        self.theta.append(float(self.model.trainable_variables[0]))


def distance(theta):
    return np.abs(np.asarray(theta) - TASK.optimum)


def train(model, windows, count, learning_rate):
    """The trajectory over `count` windows."""
    trajectory = Trajectory()
    model.optimizer.learning_rate = learning_rate
    model.reset_state()
    model.fit(
        windows,
        steps_per_epoch=count,
        callbacks=[trajectory],
        shuffle=False,
        verbose=0,
    )
    return trajectory


def settled(trajectory):
    """Updates after which theta stayed near -1/6; None if it did not."""
    far = np.flatnonzero(~(distance(trajectory.theta) < CONVERGED))
    after = far[-1] + 1 if len(far) else 0
    return (
        trajectory.updates[after] if after < len(trajectory.updates) else None
    )


def outcome(trajectory):
    start, end = distance(trajectory.theta[0]), distance(trajectory.theta[-1])
    if end < CONVERGED:
        return "converged"
    # Not a number is no convergence either.
    return "undecided" if end < DIVERGED * start else "diverged"


def plot(trajectories, path):
    figure, (left, right) = subplots(1, 2, (11, 4.4))
    for name, trajectory in trajectories.items():
        style = {"linestyle": "--"} if name in DASHED else {}
        updates, theta = trajectory.updates, np.array(trajectory.theta)
        left.plot(updates, theta, label=name, **style)
        right.semilogy(updates, np.maximum(distance(theta), 1e-8), **style)
    left.axhline(TASK.optimum, color="black", linewidth=1, linestyle=":")
    longest = max(
        trajectory.updates[-1] for trajectory in trajectories.values()
    )
    left.set(title="θ at first (dotted: the optimum, −1/6)", ylabel="θ")
    left.set(xlim=(0, longest / 5), ylim=(-1, 2))
    right.set(title="distance from the optimum", ylabel="|θ + 1/6|")
    right.set(xlim=(0, longest))
    for axes in (left, right):
        axes.set_xlabel("updates")
        axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=120)


def parse(argv):
    parser = Parser(
        __doc__,
        "runs/influence_balancing",
        quick=("fewer and larger updates", QUICK),
    )
    add, count = parser.add_argument, parser.count
    count("--updates", 10_000)
    add("--learning-rate", type=float, default=2e-4)
    count("--repeats", 1000, "pieces for a mean gradient")
    count("--steps", 100_000, "updates of each arm of the second table")
    add("--seed", type=int, default=0, help="of what is drawn")
    settings = parser.parse(argv)
    if settings.updates < 100 or settings.repeats < 2:
        parser.error(
            "--updates must be 100 or more and --repeats 2 or more. Received: "
            f"{settings.updates} and {settings.repeats}"
        )
    if settings.steps % WINDOW:
        parser.error(
            f"--steps must be a multiple of {WINDOW}. Received: "
            f"{settings.steps}"
        )
    return settings


def compare_pieces(settings):
    """The first table: (gradient, theta, outcome) of each run."""
    start = TASK.sensitivity * 0.5 - 1
    print(
        f"{settings.updates} updates, learning rate "
        f"{settings.learning_rate:g}, seed {settings.seed}; exact gradient at "
        f"the start {start * TASK.sensitivity:+.2f}"
    )
    head = ["method", "gradient", "updates", "theta", "loss", "theta has"]
    table = Table(COLUMNS, *head)
    trajectories, results = {}, {}
    for run in runs():
        model = make_model(run.method, settings.jit)
        mean, error = measure(model, run, settings)
        pieces = make_windows(run.cuts, settings.updates, 20, settings.seed)
        trajectory = train(model, *pieces, settings.learning_rate)
        trajectories[run.name], theta = trajectory, trajectory.theta[-1]
        results[run.name] = mean, theta, outcome(trajectory)
        table.add(
            run.name,
            f"{mean:+.2f} ± {error:.2f}",
            trajectory.updates[-1],
            f"{theta:+.5g}",
            f"{0.5 * (TASK.sensitivity * theta - 1) ** 2:.2g}",
            outcome(trajectory),
        )
    plot(trajectories, settings.out / "theta.png")
    return results


def compare_online(settings):
    """The second table: (theta, settled, outcome) by method and rate."""
    print(f"\nan update every step, {settings.steps} steps")
    head = ["method", "rate", "updates", "theta", "settled at", "theta has"]
    table = Table(ONLINE_COLUMNS, *head)
    trajectories, results = {}, {}
    for rate in ONLINE_RATES:
        for name, method in online_methods(settings.seed):
            model = make_model(method, settings.jit)
            windows = make_windows(1, settings.steps, WINDOW)
            trajectory = train(model, *windows, rate)
            trajectories[f"{name}, {rate:g}"] = trajectory
            theta, at = trajectory.theta[-1], settled(trajectory)
            results[name, rate] = theta, at, outcome(trajectory)
            table.add(
                name,
                f"{rate:g}",
                trajectory.updates[-1],
                f"{theta:+.5g}",
                at or "never",
                outcome(trajectory),
            )
    plot(trajectories, settings.out / "every_step.png")
    return results


def main(argv=None):
    """Prints the tables, draws the pictures; the results of all runs."""
    settings = parse(argv)
    settings.out.mkdir(parents=True, exist_ok=True)
    results = compare_pieces(settings) | compare_online(settings)
    print(f"pictures: theta.png and every_step.png in {settings.out}")
    return results


if __name__ == "__main__":
    main()
