"""One pass over a stream of the world, an update every few steps.

    python examples/online_stream.py                       # text, some minutes
    python examples/online_stream.py --data ETTh1.csv.gz   # a time series
    python examples/online_stream.py --quick               # seconds
    python examples/online_stream.py --table docs/results/online_ett.json

The stream has one row and no epochs: what is counted is the loss of every step
before the model has learnt from it. All arms update every `--stride` steps and
see the same steps in the same order:

    SnAp(k)      pulls back k steps; traces bring the rest
    TBPTT(n/k)   runs the last n steps again before each update
    readout      trains no recurrent weight

TBPTT of about the numbers that SnAp keeps is of equal memory; of the shorter
ones, the one that takes as much processor time is of equal time. Each arm may
choose its learning rate in a small grid, by its mean loss over seeds.

`--data` is a text file of one step a line, packed or not, with numbers between
commas: the model predicts the next change of each. Columns that are no numbers
are left out, and each is scaled by the mean and deviation of its first tenth.
The loss is the squared error over that of predicting no change, both behind
that tenth. Without `--data` it reads the standard library's source text and
predicts the next character; the loss is in bits.

`--out` gets results.json and loss.png. Tables of the files in docs/results are
in docs/tutorials/endless_streams.md.
"""

import collections
import gzip
import json
import math
import pathlib
import time

import keras
import numpy as np
from common import Parser, markdown, subplots, write_json

import keras_seqgrad as ksg

# Numbers that a step saves for its way back, in units.
SAVED = {"gru": 5, "min_gru": 3}
QUICK = {"steps": 600, "seeds": [0], "rates": [0.003], "window": 100}
QUICK |= {"cells": ["min_gru"], "units": 8}
Stream = collections.namedtuple("Stream", "inputs targets loss outputs scale")


def read_numbers(path):
    """The columns of a text file that are numbers, (steps, columns)."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as file:
        lines = [line.strip().split(",") for line in file if line.strip()]
    places = [k for k, text in enumerate(lines[1]) if is_number(text)]
    begin = 0 if all(is_number(lines[0][k]) for k in places) else 1
    rows = [[float(line[k]) for k in places] for line in lines[begin:]]
    return np.array(rows)


def is_number(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def of_series(values):
    """The stream that predicts the next change of each column."""
    first = len(values) // 10
    change = np.diff(values, axis=0)
    deviation = change[:first].std(axis=0) + 1e-8
    level = values - values[:first].mean(axis=0)
    level /= values[:first].std(axis=0) + 1e-8
    change /= deviation
    inputs = np.concatenate([level[1:-1], change[:-1]], axis=1)
    targets = change[1:].astype("float32")
    none = float(np.mean(targets[first:] ** 2))
    return Stream(
        inputs.astype("float32"), targets, "mse", targets.shape[1], 1 / none
    )


def of_text(steps):
    """The stream that predicts the next character."""
    corpus = ksg.data.text.stdlib(limit=max(10_000, 2 * steps))
    tokens = np.asarray(corpus.train)[: steps + 1]
    size = len(corpus.vocabulary)
    loss = "sparse_categorical_crossentropy"
    inputs = np.eye(size, dtype="float32")[tokens[:-1]]
    return Stream(inputs, tokens[1:], loss, size, 1 / math.log(2))


def read_stream(settings):
    if settings.data is None:
        return of_text(settings.steps or 30_000)
    values = read_numbers(settings.data)
    if settings.steps:
        values = values[: settings.steps + 2]
    return of_series(values)


def numbers_kept(cell, units, features, reach, traces):
    """Numbers beside weights and state: activations, traces."""
    weights = {
        "gru": 3 * units * (features + units + 2),
        "min_gru": 2 * units * (features + 1),
    }
    return SAVED[cell] * units * reach + traces * weights[cell]


def arms_of(cell, features, settings):
    """(method, steps it keeps, whether it has traces) by name."""
    stride, units = settings.stride, settings.units
    wanted = numbers_kept(cell, units, features, stride, True)
    equal = math.ceil(wanted / (SAVED[cell] * units) / stride) * stride
    lengths = {stride, 2 * stride, equal}
    arms = {f"SnAp({stride})": (ksg.methods.SnAp(stride), stride, True)}
    for length in sorted(lengths):
        method = ksg.methods.TruncatedBPTT(length, stride)
        arms[f"TBPTT({length}/{stride})"] = method, length, False
    method = ksg.methods.TruncatedBPTT(stride)
    return arms | {"readout": (method, stride, False)}


def make_network(cell, stream, settings, frozen):
    kind = {"gru": keras.layers.GRU, "min_gru": ksg.layers.MinGRU}[cell]
    layer = kind(settings.units, return_sequences=True)
    layer.trainable = not frozen
    last = "softmax" if stream.targets.ndim == 1 else None
    return keras.Sequential(
        [
            keras.Input((None, stream.inputs.shape[-1])),
            layer,
            keras.layers.Dense(stream.outputs, activation=last),
        ]
    )


class Losses(keras.callbacks.Callback):
    """The mean loss of each window."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(float(logs["loss"]))
        self.model.reset_metrics()


def run_arm(cell, name, arm, stream, settings):
    """Results of an arm, one for each seed and rate; compiled once."""
    method, reach, traces = arm
    frozen = name == "readout"
    network = make_network(cell, stream, settings, frozen)
    model = ksg.SequenceModel.from_model(network, stateful=True)
    optimizer = keras.optimizers.Adam(clipnorm=1.0)
    model.compile(
        optimizer, stream.loss, method=method, jit_compile=settings.jit
    )
    windows = ksg.data.stream(
        stream.inputs, 1, settings.window, targets=stream.targets
    )
    model.fit(windows.take(1), verbose=0)
    begin = [variable.numpy() for variable in optimizer.variables]
    begin = [0 * value for value in begin]
    results = []
    for seed in settings.seeds:
        keras.utils.set_random_seed(seed)
        fresh = make_network(cell, stream, settings, frozen).get_weights()
        for rate in settings.rates:
            model.set_weights(fresh)
            for variable, value in zip(optimizer.variables, begin, strict=True):
                variable.assign(value)
            optimizer.learning_rate = rate
            losses, start = Losses(), time.process_time()
            model.fit(windows, callbacks=[losses], verbose=0, shuffle=False)
            seconds = time.process_time() - start
            units, features = settings.units, stream.inputs.shape[-1]
            results.append(
                {
                    "cell": cell,
                    "arm": name,
                    "kept": numbers_kept(cell, units, features, reach, traces),
                    "seed": seed,
                    "rate": rate,
                    "seconds": round(seconds, 2),
                    "losses": [
                        round(value * stream.scale, 4)
                        for value in losses.values
                    ],
                }
            )
    return results


def counted(result):
    """The mean loss behind the first tenth, and that of the last half."""
    losses = np.array(result["losses"])
    count = len(losses)
    return losses[count // 10 :].mean(), losses[count // 2 :].mean()


def best(results, cell, arm):
    """The results of an arm with the rate of least mean loss, by seed."""
    by_rate = collections.defaultdict(list)
    for result in results:
        if (result["cell"], result["arm"]) == (cell, arm):
            by_rate[result["rate"]].append(result)
    scores = {
        rate: np.nan_to_num(np.mean([counted(r)[0] for r in found]), nan=1e9)
        for rate, found in by_rate.items()
    }
    return by_rate[min(scores, key=scores.get)]


def summarise(results):
    """The table in Markdown."""
    lines = [
        "| cell | arm | kept | time | rate | loss | of seeds | last half |",
        "|---|---|---|---|---|---|---|---|",
    ]
    keys = dict.fromkeys((r["cell"], r["arm"]) for r in results)
    ours = {}
    for cell, arm in keys:
        found = best(results, cell, arm)
        every = [r for r in results if (r["cell"], r["arm"]) == (cell, arm)]
        seconds = np.median([result["seconds"] for result in every])
        ours.setdefault(cell, seconds)
        whole, half = np.transpose([counted(result) for result in found])
        lines.append(
            markdown(
                [
                    cell,
                    arm,
                    f"{found[0]['kept']:,}",
                    f"{seconds / ours[cell]:.2f}",
                    f"{found[0]['rate']:g}",
                    f"{whole.mean():.4f}",
                    f"{whole.min():.4f} to {whole.max():.4f}",
                    f"{half.mean():.4f}",
                ]
            )
        )
    return "\n".join(lines)


def plot(written, path):
    cells = list(dict.fromkeys(r["cell"] for r in written["runs"]))
    figure, grid = subplots(1, len(cells), (6 * len(cells), 4), squeeze=False)
    for axes, cell in zip(grid.flat, cells, strict=True):
        runs = [r for r in written["runs"] if r["cell"] == cell]
        for arm in dict.fromkeys(r["arm"] for r in runs):
            found = best(runs, cell, arm)
            losses = np.mean([r["losses"] for r in found], axis=0)
            mean = np.cumsum(losses) / np.arange(1, len(losses) + 1)
            steps = written["settings"]["window"] * np.arange(1, len(mean) + 1)
            style = "-" if "SnAp" in arm else "--"
            axes.plot(steps, mean, style, label=arm)
        axes.set(title=cell, xlabel="steps", ylabel="mean loss so far")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def parse(argv):
    parser = Parser(
        __doc__,
        "runs/online_stream",
        quick=("a short pass of a small model", QUICK),
    )
    add, count = parser.add_argument, parser.count
    add("--data", type=pathlib.Path, help="a time series; else text")
    add("--table", type=pathlib.Path, help="print the table of these results")
    add("--cells", nargs="+", choices=list(SAVED), default=list(SAVED))
    count("--units", 32)
    count("--stride", 4, "steps from one update to the next")
    count("--window", 400, "steps of a window")
    count("--steps", None, "of the stream; else all, or 30,000 characters")
    add("--seeds", nargs="+", type=int, default=[0, 1, 2])
    add("--rates", nargs="+", type=float, default=[0.001, 0.003, 0.01])
    return parser.parse(argv)


def main(argv=None):
    """Prints the table, draws the picture; what results.json has."""
    settings = parse(argv)
    if settings.table:
        written = json.loads(settings.table.read_text())
        print(summarise(written["runs"]))
        return written
    stream, runs = read_stream(settings), []
    chosen = {
        "data": settings.data.name if settings.data else "stdlib",
        "steps": len(stream.inputs),
        "units": settings.units,
        "stride": settings.stride,
        "window": settings.window,
    }
    for cell in settings.cells:
        arms = arms_of(cell, stream.inputs.shape[-1], settings)
        for name, arm in arms.items():
            runs += run_arm(cell, name, arm, stream, settings)
            print(summarise(runs).splitlines()[-1], flush=True)
            written = {"settings": chosen, "runs": runs}
            write_json(settings.out / "results.json", written)
    plot(written, settings.out / "loss.png")
    print(f"\n{summarise(runs)}\n")
    print(f"results.json and loss.png are in {settings.out}")
    return written


if __name__ == "__main__":
    main()
