"""How long a sequence can be copied: what helps truncation over its borders.

    python examples/copy_synthetic_gradients.py --jobs 2    # on two cores
    python examples/copy_synthetic_gradients.py --quick     # seconds
    python examples/copy_synthetic_gradients.py --seconds 600    # and go on

Copy: read a pattern of bits, then write it out. Repeat copy: write it several
times. A curriculum makes the sequences longer whenever the mean error falls
below 0.15 bits per target bit: copy by a step of the pattern, repeat copy by a
repeat and a step of the pattern in turn. Five ways to train one LSTM, all with
segments of T steps and one update a segment:

    TBPTT        TruncatedBPTT(T)
    DNI          SyntheticGradients(T)
    DNI+aux      SyntheticGradients(T, auxiliary=...)
    Alternating  AlternatingGradients(T), its first phase of 5,000 updates, each
                 boundary of phases twice as far as the one before
    SnAp         SnAp(T), whose traces take more memory here than BPTT would

The claim to check: DNI models sequences at least twice as long as truncated
BPTT of the same T does. `--out` gets a file of results an arm, which is written
as it goes, and length.png; a call goes on with all that is there, also with
more `--updates`, and `python -m benchmarks.learned --only copy --results OUT`
makes the table: the longest sequence solved, in steps: pattern, marker and
copies together.

All arms make the same number of updates, by Adam with one learning rate, on
rows that hold one fresh sequence of the current level after another, each row
from a random phase. A level is measured over a hundred updates, all on
sequences of that level, from the losses before each update.

Patterns of one bit a step let the small budget reach lengths beyond T. The
settings were looked for on copy with T=3 and seed 0 alone: learning rate 1e-3
served TBPTT and DNI better than 3e-3, and scale 0.1 served DNI better than 1.
The weight of the auxiliary task was not looked for.

What came out: docs/methods/synthetic_gradients.md.

Jaderberg et al., 2017. Decoupled neural interfaces using synthetic gradients.
arXiv:1608.05343.
"""

import collections
import concurrent.futures
import itertools
import math
import multiprocessing
import operator

import keras
import long_runs
import numpy as np
import tensorflow as tf
from common import Parser, subplots
from copy_synthetic_gradients_tasks import draw_stream, make_task

import keras_seqgrad as ksg

TASKS = ("copy", "repeat_copy")
METHODS = ("TBPTT", "DNI", "DNI+aux", "Alternating", "SnAp")
Arm = collections.namedtuple("Arm", "task length method seed")
# What a result depends on beside its arm.
DECISIVE = "bits units batch_size learning_rate scale lambda_".split()
DECISIVE += ["synthesizer_rate", "auxiliary", "jit"]
MEASURE = 100  # updates of a measurement
WINDOW = 50  # segments of a window
FLIP = 50  # passes of the first phase of alternating gradients
THRESHOLD = 0.15  # bits per target bit
QUICK = {"tasks": ["copy"], "lengths": [3], "seeds": [0], "updates": 200}
QUICK |= {"units": 32, "jit": False}


def make_windows(climb, settings):
    """Windows of fresh sequences; a pass over them is one measurement.

    A pass draws from the level at its beginning. The shape of a window is the
    same at every level, so XLA compiles one program.
    """
    rows, count = settings.batch_size, MEASURE // WINDOW

    def windows():
        # A training that goes on draws what it would have drawn.
        generator = np.random.default_rng([climb.arm.seed, len(climb.errors)])
        steps = WINDOW * climb.arm.length
        stream = draw_stream(climb.task, rows, count * steps, generator)
        for start in range(0, count * steps, steps):
            window = np.s_[:, start : start + steps]
            yield keras.tree.map_structure(operator.itemgetter(window), stream)

    example = next(windows())
    dataset = tf.data.Dataset.from_generator(
        windows,
        output_signature=keras.tree.map_structure(
            lambda part: tf.TensorSpec(part.shape, part.dtype), example
        ),
    )
    return dataset.apply(tf.data.experimental.assert_cardinality(count))


def make_method(arm, settings):
    if arm.method == "TBPTT":
        return ksg.methods.TruncatedBPTT(arm.length)
    if arm.method == "SnAp":
        return ksg.methods.SnAp(arm.length)
    options = {"scale": settings.scale, "lambda_": settings.lambda_}
    options["synthesizer_rate"] = settings.synthesizer_rate
    if arm.method == "DNI+aux":
        options["auxiliary"] = settings.auxiliary
    if arm.method == "Alternating":
        options["switch_epochs"] = [FLIP * 2**n for n in range(20)]
        return ksg.methods.AlternatingGradients(arm.length, **options)
    return ksg.methods.SyntheticGradients(arm.length, **options)


def make_model(method, settings):
    network = keras.Sequential(
        [
            keras.Input((None, settings.bits + 2)),
            ksg.layers.LSTM(settings.units, return_sequences=True),
            keras.layers.Dense(settings.bits),
        ]
    )
    model = ksg.SequenceModel.from_model(network, stateful=True)
    model.compile(
        keras.optimizers.Adam(settings.learning_rate, clipnorm=1.0),
        keras.losses.BinaryCrossentropy(from_logits=True),
        # The mean over the targets alone, in nats.
        weighted_metrics=[
            keras.metrics.BinaryCrossentropy(from_logits=True, name="error")
        ],
        method=method,
        jit_compile=settings.jit,
    )
    return model


class Climb(long_runs.Run):
    """Advances the curriculum after every pass below the threshold.

    Attributes:
        solved: (updates, steps, pattern and repeats) of each level passed.
        errors: Bits per target bit in every pass.
    """

    def __init__(self, arm, settings, end=math.inf):
        said = {name: getattr(settings, name) for name in DECISIVE}
        said = arm._asdict() | said
        super().__init__(settings.out / f"{name_of(arm)}.json", said, end)
        self.arm, self.bits = arm, settings.bits
        self.found.setdefault("errors", [])
        self.found.setdefault("solved", [[0, 0, "none"]])

    @property
    def errors(self):
        return self.found["errors"]

    @property
    def solved(self):
        return self.found["solved"]

    @property
    def task(self):
        """That of the current level."""
        return make_task(self.arm.task, len(self.solved) - 1, self.bits)

    def forget(self, updates):
        super().forget(updates)
        del self.errors[updates // MEASURE :]
        while self.solved[-1][0] > updates:
            self.solved.pop()

    def tell(self, updates, logs):
        """Of all passes, the last one."""
        task = self.task
        self.errors.append(round(logs["error"] / math.log(2), 4))
        if self.errors[-1] < THRESHOLD:
            level = f"{task.length} x {task.repeats}"
            self.solved.append([updates, task.time, level])
        self.reports[:] = [{"updates": updates, "seconds": self.spent}]

    def on_train_end(self, logs=None):
        _, steps, level = self.solved[-1]
        print(
            "{} T={} {} seed {}:".format(*self.arm),
            f"{len(self.errors) * MEASURE} updates, {self.spent:.0f} s, solved",
            f"{steps} steps ({level}), error {self.errors[-1]:.2f} bits",
            flush=True,
        )


def name_of(arm):
    return "_".join(map(str, arm)).replace("+", "_").lower()


def train(arm, settings, end=math.inf):
    """Trains one arm: what its file holds."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(arm.seed)
    climb = Climb(arm, settings, end)
    passes = settings.updates // MEASURE
    if len(climb.errors) < passes and not climb.is_over():
        make_model(make_method(arm, settings), settings).fit(
            make_windows(climb, settings),
            epochs=passes,
            shuffle=False,
            verbose=0,
            callbacks=[climb, climb.states(settings.out / "states")],
        )
    return climb.found


def train_all(arms, settings, end):
    """What the files of the arms hold, one by one as they come."""
    if settings.jobs == 1:
        yield from (train(arm, settings, end) for arm in arms)
        return
    with concurrent.futures.ProcessPoolExecutor(
        settings.jobs,
        multiprocessing.get_context("spawn"),
        tf.config.threading.set_intra_op_parallelism_threads,
        (1,),
    ) as pool:
        both = itertools.repeat(settings), itertools.repeat(end)
        yield from pool.map(train, arms, *both)


def plot(results, settings, path):
    rows, columns = len(settings.tasks), len(settings.lengths)
    size = (5 * columns, 3.6 * rows)
    figure, grid = subplots(rows, columns, size, layout="tight", squeeze=False)
    updates = np.arange(0, settings.updates + 1, MEASURE)
    panels = itertools.product(settings.tasks, settings.lengths)
    for axes, panel in zip(grid.flat, panels, strict=True):
        for method in settings.methods:
            curves = []
            for seed in settings.seeds:
                found = results[Arm(*panel, method, seed)]
                at, steps, _ = zip(*found["solved"], strict=True)
                place = np.searchsorted(at, updates, side="right") - 1
                curves.append(np.array(steps)[place])
            axes.plot(updates, np.median(curves, axis=0), label=method)
            low, high = np.min(curves, axis=0), np.max(curves, axis=0)
            axes.fill_between(updates, low, high, alpha=0.15)
        axes.set(title="{}, T={}".format(*panel), xlabel="updates")
        axes.set(ylabel="longest sequence solved (steps)", ylim=0)
    grid[0, 0].legend(title="median and range of seeds")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def parse(argv):
    parser = Parser(
        __doc__,
        "runs/copy_synthetic_gradients",
        quick=("few updates of a small model", QUICK),
    )
    add, count = parser.add_argument, parser.count
    add("--tasks", nargs="+", choices=TASKS, default=TASKS)
    count("--lengths", [3, 5], "T, in steps", nargs="+")
    add("--methods", nargs="+", choices=METHODS, default=METHODS)
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    count("--updates", 6_000, "of every arm")
    count("--bits", 1, "of a step of the pattern")
    count("--units", 128)
    count("--batch-size", 32)
    add("--learning-rate", type=float, default=1e-3)
    add("--scale", type=float, default=0.1, help="of the injected gradient")
    add("--lambda", dest="lambda_", type=float, default=0.0, help="of both DNI")
    add("--synthesizer-rate", type=float, default=0.1, help="of the model's")
    add("--auxiliary", type=float, default=1.0, help="weight of that loss")
    count("--jobs", 1, "processes, of one core each")
    long_runs.add_arguments(parser)
    settings = parser.parse(argv)
    if settings.updates < MEASURE:
        parser.error(
            f"--updates must be {MEASURE} or more. Received: {settings.updates}"
        )
    return settings


def main(argv=None):
    """Trains all arms, draws the picture; what their files hold."""
    settings = parse(argv)
    end = long_runs.begin(settings)
    order = settings.tasks, settings.lengths, settings.seeds, settings.methods
    arms = [
        Arm(task, length, method, seed)
        for task, length, seed, method in itertools.product(*order)
    ]
    found = train_all(arms, settings, end)
    results = dict(zip(arms, found, strict=True))
    plot(results, settings, settings.out / "length.png")
    print(f"{len(arms)} files and length.png are in {settings.out}")
    return results


if __name__ == "__main__":
    main()
