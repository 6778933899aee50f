"""How long a sequence can be copied: what helps truncation over its borders.

    python examples/copy_synthetic_gradients.py --jobs 2    # on two cores
    python examples/copy_synthetic_gradients.py --quick     # seconds
    python examples/copy_synthetic_gradients.py --resume    # what is missing

Copy: read a pattern of bits, then write it out. Repeat copy: write it several
times. A curriculum makes the sequences longer whenever the mean error falls
below 0.15 bits per target bit: copy by a step of the pattern, repeat copy by a
repeat and a step of the pattern in turn. Four ways to train one LSTM, all with
segments of T steps and one update a segment:

    TBPTT    TruncatedBPTT(T)
    DNI      SyntheticGradients(T)
    DNI+aux  SyntheticGradients(T, auxiliary=...)
    SnAp     SnAp(T), whose traces take more memory here than BPTT would

The claim to check: DNI models sequences at least twice as long as truncated
BPTT of the same T does. The table gives the longest sequence solved, in steps:
pattern, marker and copies together, and processor time. `--out` gets
results.json, after every arm, and length.png; `--resume` goes on from there.

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
import json
import math
import multiprocessing
import operator
import statistics
import time

import keras
import numpy as np
import tensorflow as tf
from common import Parser, markdown, subplots, write_json
from copy_synthetic_gradients_tasks import draw_stream, make_task

import keras_seqgrad as ksg

TASKS = ("copy", "repeat_copy")
METHODS = ("TBPTT", "DNI", "DNI+aux", "SnAp")
Arm = collections.namedtuple("Arm", "task length seed method")
# What a result depends on beside its arm.
DECISIVE = "updates bits units batch_size learning_rate scale lambda_".split()
DECISIVE += ["auxiliary", "jit"]
MEASURE = 100  # updates of a measurement
WINDOW = 50  # segments of a window
THRESHOLD = 0.15  # bits per target bit
QUICK = {"tasks": ["copy"], "lengths": [3], "seeds": [0], "updates": 200}
QUICK |= {"units": 32, "jit": False}


def make_windows(climb, settings):
    """Windows of fresh sequences; a pass over them is one measurement.

    A pass draws from the level at its beginning. The shape of a window is the
    same at every level, so XLA compiles one program.
    """
    rows, count = settings.batch_size, MEASURE // WINDOW
    generator = np.random.default_rng(climb.arm.seed)

    def windows(generator=generator):
        steps = WINDOW * climb.arm.length
        stream = draw_stream(climb.task, rows, count * steps, generator)
        for start in range(0, count * steps, steps):
            window = np.s_[:, start : start + steps]
            yield keras.tree.map_structure(operator.itemgetter(window), stream)

    # Of no pass, so that those are the same with and without looking.
    example = next(windows(np.random.default_rng(0)))
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
    return ksg.methods.SyntheticGradients(
        arm.length,
        scale=settings.scale,
        lambda_=settings.lambda_,
        auxiliary=settings.auxiliary if arm.method == "DNI+aux" else 0.0,
    )


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


class Climb(keras.callbacks.Callback):
    """Advances the curriculum after every pass below the threshold.

    Attributes:
        solved: (updates, steps, pattern and repeats) of each level passed.
        errors: Bits per target bit in every pass.
        seconds: Processor time until the end of the last pass.
    """

    def __init__(self, arm, bits):
        super().__init__()
        self.arm, self.bits = arm, bits
        self.solved, self.errors, self.seconds = [(0, 0, "none")], [], 0.0
        self._start = time.process_time()

    @property
    def task(self):
        """That of the current level."""
        return make_task(self.arm.task, len(self.solved) - 1, self.bits)

    def on_epoch_end(self, epoch, logs):
        updates, task = (epoch + 1) * MEASURE, self.task
        self.errors.append(logs["error"] / math.log(2))
        self.seconds = round(time.process_time() - self._start, 1)
        if self.errors[-1] < THRESHOLD:
            level = f"{task.length} x {task.repeats}"
            self.solved.append((updates, task.time, level))
        if (epoch + 1) % max(1, self.params["epochs"] // 4) == 0:
            _, steps, level = self.solved[-1]
            print(
                "{} T={} seed {} {}:".format(*self.arm),
                f"{updates} updates, {self.seconds:.0f} s, solved",
                f"{steps} steps ({level}), error {self.errors[-1]:.2f} bits",
                flush=True,
            )


def train(arm, settings):
    """Trains one arm: the levels it solved, its errors and its seconds."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(arm.seed)
    climb = Climb(arm, settings.bits)
    make_model(make_method(arm, settings), settings).fit(
        make_windows(climb, settings),
        epochs=settings.updates // MEASURE,
        shuffle=False,
        verbose=0,
        callbacks=[climb],
    )
    names = "solved", "errors", "seconds"
    return {name: getattr(climb, name) for name in names}


def train_all(arms, settings):
    """Results of the arms, one by one as they come."""
    if settings.jobs == 1:
        yield from (train(arm, settings) for arm in arms)
        return
    with concurrent.futures.ProcessPoolExecutor(
        settings.jobs,
        multiprocessing.get_context("spawn"),
        tf.config.threading.set_intra_op_parallelism_threads,
        (1,),
    ) as pool:
        yield from pool.map(train, arms, itertools.repeat(settings))


def summarise(results, settings):
    """A table in Markdown, and a verdict for each task and T."""
    lines = [
        "| task | T | method | median steps | each seed | pattern x repeats | "
        "seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    verdicts = []
    for task, length in itertools.product(settings.tasks, settings.lengths):
        medians = {}
        for method in settings.methods:
            found = select(results, settings, task, length, method)
            _, steps, levels = zip(
                *(r["solved"][-1] for r in found), strict=True
            )
            medians[method] = statistics.median(steps)
            seconds = statistics.mean(result["seconds"] for result in found)
            cells = [task, str(length), method, f"{medians[method]:g}"]
            cells += [", ".join(map(str, steps)), ", ".join(levels)]
            lines.append(markdown([*cells, f"{seconds:.0f}"]))
        verdicts.append(f"{task}, T={length}: {judge(medians)}")
    return "\n".join([*lines, "", *verdicts])


def select(results, settings, task, length, method):
    """The results of a method, one for each seed."""
    return [results[Arm(task, length, seed, method)] for seed in settings.seeds]


def judge(medians):
    """Whether the claim holds, from the median length by method."""
    base = medians.get("TBPTT")
    if not base:
        return "TBPTT solved nothing to compare with."
    ratios = {name: median / base for name, median in medians.items()}
    del ratios["TBPTT"]
    words = [f"{name} {ratio:.2f}" for name, ratio in ratios.items()]
    text = f"times the steps of TBPTT: {', '.join(words) or 'none'}"
    if "DNI" not in ratios:
        return text
    holds = "holds" if ratios["DNI"] >= 2 else "does not hold"
    return f"{text}; 'at least double' {holds} for DNI"


def plot(results, settings, path):
    rows, columns = len(settings.tasks), len(settings.lengths)
    size = (5 * columns, 3.6 * rows)
    figure, grid = subplots(rows, columns, size, layout="tight", squeeze=False)
    updates = np.arange(0, settings.updates + 1, MEASURE)
    panels = itertools.product(settings.tasks, settings.lengths)
    for axes, (task, length) in zip(grid.flat, panels, strict=True):
        for method in settings.methods:
            curves = []
            for result in select(results, settings, task, length, method):
                at, steps, _ = zip(*result["solved"], strict=True)
                place = np.searchsorted(at, updates, side="right") - 1
                curves.append(np.array(steps)[place])
            axes.plot(updates, np.median(curves, axis=0), label=method)
            low, high = np.min(curves, axis=0), np.max(curves, axis=0)
            axes.fill_between(updates, low, high, alpha=0.15)
        axes.set(title=f"{task}, T={length}", xlabel="updates")
        axes.set(ylabel="longest sequence solved (steps)", ylim=0)
    grid[0, 0].legend(title="median and range of seeds")
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
    add("--auxiliary", type=float, default=1.0, help="weight of that loss")
    count("--jobs", 1, "processes, of one core each")
    add("--resume", action="store_true", help="keep the arms that --out has")
    settings = parser.parse(argv)
    if settings.updates < MEASURE:
        parser.error(
            f"--updates must be {MEASURE} or more. Received: {settings.updates}"
        )
    return settings


def finished(settings, chosen):
    """The arms that `--out` has; all of them ran as these are to run."""
    path = settings.out / "results.json"
    if not (settings.resume and path.exists()):
        return {}
    written = json.loads(path.read_text())
    if written["settings"] != chosen:
        raise SystemExit(
            f"{path} is of other settings. Expected {chosen}, received "
            f"{written['settings']}. Name another folder by --out."
        )
    rows = [dict(row) for row in written["arms"]]
    return {Arm(*map(row.pop, Arm._fields)): row for row in rows}


def main(argv=None):
    """Trains all arms, prints the table, draws the picture."""
    settings = parse(argv)
    chosen = {name: getattr(settings, name) for name in DECISIVE}
    results = finished(settings, chosen)
    order = settings.tasks, settings.lengths, settings.seeds, settings.methods
    arms = itertools.starmap(Arm, itertools.product(*order))
    arms = [arm for arm in arms if arm not in results]
    for arm, result in zip(arms, train_all(arms, settings), strict=True):
        results[arm] = result
        rows = [arm._asdict() | result for arm, result in results.items()]
        write_json(
            settings.out / "results.json", {"settings": chosen, "arms": rows}
        )
    plot(results, settings, settings.out / "length.png")
    print(f"\n{summarise(results, settings)}\n")
    print(f"results.json and length.png are in {settings.out}")
    return results


if __name__ == "__main__":
    main()
