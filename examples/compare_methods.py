"""Every method on one task: gradient, loss, time and memory side by side.

    python examples/compare_methods.py                       # all four tasks
    python examples/compare_methods.py --tasks text --methods bptt tbptt artbp
    python examples/compare_methods.py --quick               # a minute
    tensorboard --logdir runs/compare_methods/logs

Tasks: "influence" (one number, misleading in the short run), "adding" and
"copy" (memory over many steps) and "text" (characters of Python's standard
library). All methods start from the same weights and read the same windows, so
the number of steps read is the same; the number of updates is not, and is in
the table. Each method gets the learning rate that ends best with the first
seed, looked for from the task's grid on until a worse one lies on either side;
"<" and ">" mark one at an end after eight. Nothing else is tuned: all settings
but the length of a segment are the library's defaults. "tbptt_once" is tbptt
with the mean of a window's gradients for one update, as bptt and artbp have.

The gradient of the compiled method on one window that is not learnt from is
compared with the exact one after every epoch; the table has the last, and of a
bias the range of a standard error; it is 0 where none was found. Time is
that of the quickest epoch, without compiling, validation and diagnostics.
Memory is the peak of a training step on a window of `--memory-steps` steps, in
a process of its own, once all is compiled; "–" where the system is not Linux.
`--out` gets a file of results a task and method, TensorBoard's logs, and, once
all methods of a call are done, TASK.md and TASK.png. So calls of one task and
method each can share the work; what their files have is not run again. Of the
same runs `python -m benchmarks.learned --only comparison` makes a table at
equal steps, equal updates and equal time.
"""

import argparse
import ctypes
import math
import re
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
from common import Parser, write_json
from compare_methods_results import ENDS, QUALITY, last, plot, table
from compare_methods_tasks import LAYERS, TASKS
from long_runs import add_arguments, begin, opened, search

import keras_seqgrad as ksg

METHODS = {
    "bptt": lambda k, epochs: ksg.methods.BPTT(),
    "checkpoints": lambda k, epochs: ksg.methods.BPTT("auto"),
    "tbptt": lambda k, epochs: ksg.methods.TruncatedBPTT(k),
    "tbptt_once": lambda k, epochs: ksg.methods.TruncatedBPTT(k),
    "artbp": lambda k, epochs: ksg.methods.ARTBP(k),
    "dni": lambda k, epochs: ksg.methods.SyntheticGradients(k),
    "alternating": lambda k, epochs: ksg.methods.AlternatingGradients(
        k, switch_epochs=[max(1, epochs // 2)]
    ),
    "fptt": lambda k, epochs: ksg.methods.FPTT(length=k),
    "tprop": lambda k, epochs: ksg.methods.TargetPropagation(k),
    "inversion": lambda k, epochs: ksg.methods.RegularizedInversion(0.1, 1.0),
    "snap": lambda k, epochs: ksg.methods.SnAp(k),
    "rtrl": lambda k, epochs: ksg.methods.RTRL(k),
}
QUICK = {"windows": 4, "epochs": 2, "units": 8, "rows": 4, "memory_steps": 500}
QUICK |= {"tasks": ["adding"], "methods": ["bptt", "tbptt", "artbp"]}
QUICK |= {"rates": [1e-2], "jit": False}
# What a result depends on beside its task, method, rate and seed.
DECISIVE = ("layer", "windows", "epochs", "rows", "units", "seed", "jit")
PROCESS = Path("/proc/self")  # of Linux
FACTOR = 10**0.5  # from a rate to the next one beyond the grid


class Watch(keras.callbacks.Callback):
    """Score and training time of every epoch."""

    def __init__(self, task):
        super().__init__()
        self.task, self.scores, self.seconds = task, [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.ended = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(self.ended - self.began)
        loss = logs.get("val_loss", math.nan)
        self.scores.append(float(self.task.score(self.model, loss)))


def segments(task, name):
    """Gradients that become one update: of "tbptt_once" those of a window."""
    if name != "tbptt_once" or task.one_target:
        return None
    return -(-np.shape(task.probe[0])[1] // task.length)


def build(task, name, rate, settings):
    optimizer = task.optimizer(
        rate, clipnorm=1.0, gradient_accumulation_steps=segments(task, name)
    )
    model = ksg.SequenceModel.from_model(task.network, stateful=task.stateful)
    model.compile(
        optimizer,
        task.loss,
        method=METHODS[name](task.length, settings.epochs),
        jit_compile=settings.jit,
    )
    return model


def train(place, name, rate, seed, settings, log_dir=None):
    """One run; with `log_dir`, its gradients are watched as well."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    task = TASKS[place](settings, seed)
    model = build(task, name, rate, settings)
    watch, watched = Watch(task), []
    if log_dir is not None:
        card = {"task": place, "seed": seed, "learning rate": f"{rate:g}"}
        watched = [
            ksg.callbacks.GradientDiagnostics(
                log_dir,
                task.probe,
                every=settings.windows,
                repeats=settings.repeats,
                max_share=None,
                card=card,
            )
        ]
    history = model.fit(
        task.windows,
        epochs=settings.epochs,
        validation_data=task.validation,
        validation_batch_size=1000 if place in ("adding", "copy") else None,
        callbacks=[*watched, keras.callbacks.TerminateOnNaN(), watch],
        shuffle=False,
        verbose=0,
    ).history
    steps = settings.windows * math.prod(np.shape(task.probe[0])[:2])
    found = {
        "seed": seed,
        "updates": int(model.optimizer.iterations),
        "steps": [steps * (e + 1) for e in range(settings.epochs)],
        "scores": watch.scores,
        "seconds": min(watch.seconds) / steps * 1e6,
    }
    for measure in (*QUALITY, *ENDS) if watched else ():
        found[measure] = history[f"gradient_{measure}"]
    return found


def compare(place, name, settings, end=math.inf):
    """A method on a task, from its file: what has been run is not run again.

    Trains every rate of the search with the first seed, the best one once more
    with its gradients watched, then the other seeds.

    Returns:
        What the file holds; with "rate" and "memory" when all is done.
    """
    path = settings.out / f"{place}_{settings.layer.lower()}_{name}.json"
    said = {"task": place, "method": name}
    said |= {key: getattr(settings, key) for key in DECISIVE}
    result = opened(path, said)
    folder = settings.out / "logs" / place / name
    if "rate" in result or "refused" in result:
        return result

    def run(rate, seed, log_dir=None):
        watched = log_dir is not None
        wanted = {"rate": rate, "seed": seed, "watched": watched}
        for known in result["runs"]:
            if wanted.items() <= known.items():
                return last(known)
        if time.monotonic() >= end:
            return None
        known = wanted | train(place, name, rate, seed, settings, log_dir)
        result["runs"].append(known)
        write_json(path, result)
        return last(known)

    result.setdefault("runs", [])
    first, rates = settings.seed, settings.rates
    rates = sorted(rates or TASKS[place](settings, 0).rates)
    try:
        build(TASKS[place](settings, 0), name, rates[0], settings)
    except ValueError as error:
        result["refused"] = str(error)
        write_json(path, result)
        return result
    best = rates[0]
    if len(rates) > 1:
        best = search(lambda rate: run(rate, first), rates, FACTOR)
    if best is None or run(best, first, folder) is None:
        return result
    if any(run(best, first + n) is None for n in range(1, settings.seeds)):
        return result
    tried = {r["rate"] for r in result["runs"] if not r["watched"]}
    ends = {min(tried): "<", max(tried): ">"} if len(tried) > 1 else {}
    result["rate"], result["end"] = best, ends.get(best, "")
    result["memory"] = memory(place, name, best, settings)
    write_json(path, result)
    return result


def memory(place, name, rate, settings):
    """MiB, by this script in a process of its own; NaN but on Linux."""
    if not PROCESS.joinpath("clear_refs").exists():
        return math.nan
    command = [sys.executable, __file__, "--measure", place, name, str(rate)]
    for option in ("units", "rows", "memory_steps", "layer"):
        value = str(getattr(settings, option))
        command += ["--" + option.replace("_", "-"), value]
    command += ["--jit" if settings.jit else "--no-jit"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def measure(settings):
    """Prints the peak of a step on a long window above what was held before.

    It is that of the second step: the first one compiles, which may take more.
    """
    place, name, rate = settings.measure
    task = TASKS[place](settings, 0)
    model = build(task, name, float(rate), settings)
    times = -(-settings.memory_steps // np.shape(task.probe[0])[1])

    def longer(part):
        part = np.asarray(part)
        temporal = np.shape(task.probe[0])[:2] == part.shape[:2]
        copies = [1] * part.ndim
        copies[1] = times if temporal else 1
        return np.tile(part, copies)

    def step(window):
        model.train_on_batch(*window)
        ctypes.CDLL(None).malloc_trim(0)

    window = [longer(part) for part in task.probe]
    # Loads what every run needs.
    step(task.probe)
    before = held("VmRSS")
    step(window)
    PROCESS.joinpath("clear_refs").write_text("5")
    step(window)
    print((held("VmHWM") - before) / 1024)


def held(field):
    """KiB that the process holds, or held at most, as Linux tells."""
    status = PROCESS.joinpath("status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1])


def parse(argv):
    parser = Parser(
        __doc__,
        "runs/compare_methods",
        quick=("a small model, few windows", QUICK),
    )
    add, count = parser.add_argument, parser.count
    add("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    add("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    add("--rates", nargs="+", type=float, help="default: the task's grid")
    add("--layer", choices=LAYERS, default="GRU", help="but for influence")
    count("--windows", 100, "of an epoch")
    count("--epochs", 10)
    count("--rows", 32, "sequences side by side")
    count("--units", 128)
    count("--repeats", 64, "estimates of what draws, to compare")
    add("--seed", type=int, default=0)
    count("--seeds", 5, "this seed and the next ones")
    count("--memory-steps", 20_000)
    add("--measure", nargs=3, help=argparse.SUPPRESS)
    add_arguments(parser)
    return parser.parse(argv)


def main(argv=None):
    """What the files hold, by task and method."""
    settings = parse(argv)
    if settings.measure:
        return measure(settings)
    end, results = begin(settings), {}
    for place in settings.tasks:
        found = results[place] = {}
        for name in settings.methods:
            print(f"{place}: {name} ...", flush=True)
            found[name] = compare(place, name, settings, end)
        done = {
            name: result
            for name, result in found.items()
            if "rate" in result or "refused" in result
        }
        print(f"{place}: {len(done)} of {len(found)} methods are done")
        if len(done) < len(found):
            continue
        label = TASKS[place](settings, settings.seed).label
        page = table(label, found)
        print(f"\n{page}\n", flush=True)
        (settings.out / f"{place}.md").write_text(page + "\n")
        if any("rate" in result for result in found.values()):
            plot(
                place,
                label,
                found,
                list(METHODS),
                settings.out / f"{place}.png",
            )
    return results


if __name__ == "__main__":
    main()
