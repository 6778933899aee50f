"""Every method on one task: gradient, loss, time and memory side by side.

    python examples/compare_methods.py                       # all four tasks
    python examples/compare_methods.py --tasks text --methods bptt tbptt artbp
    python examples/compare_methods.py --quick               # a minute
    tensorboard --logdir runs/compare_methods/logs

Tasks: "influence" (one number, misleading in the short run), "adding" and
"copy" (memory over many steps) and "text" (characters of Python's standard
library). All methods start from the same weights and read the same windows, so
the number of steps read is the same; the number of updates is not, and is in
the table. Each method gets the learning rate of the task's grid that ends best
with the first seed; "<" and ">" mark a rate at an end of the grid. Nothing else
is tuned: all settings but the length of a segment are the library's defaults.

The gradient of the compiled method on one window that is not learnt from is
compared with the exact one after every epoch; the table has the last, and of a
bias the range of a standard error; it is 0 where none was found. Time is
that of the quickest epoch, without compiling, validation and diagnostics.
Memory is by how much the peak of a fresh process rises in one training step on
a window of `--memory-steps` steps; 0 where compiling took more than the step.
`--out` gets results.json, TASK.md, TASK.png and TensorBoard's logs.
"""

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time

import keras
import numpy as np
from common import Parser, markdown, subplots, write_json
from compare_methods_tasks import TASKS

import keras_seqgrad as ksg

METHODS = {
    "bptt": lambda k, epochs: ksg.methods.BPTT(),
    "checkpoints": lambda k, epochs: ksg.methods.BPTT("auto"),
    "tbptt": lambda k, epochs: ksg.methods.TruncatedBPTT(k),
    "artbp": lambda k, epochs: ksg.methods.ARTBP(k),
    "dni": lambda k, epochs: ksg.methods.SyntheticGradients(k),
    "alternating": lambda k, epochs: ksg.methods.AlternatingGradients(
        k, switch_epochs=[max(1, epochs // 2)]
    ),
    "fptt": lambda k, epochs: ksg.methods.FPTT(length=k),
    "tprop": lambda k, epochs: ksg.methods.TargetPropagation(k),
    "inversion": lambda k, epochs: ksg.methods.RegularizedInversion(0.1, 1.0),
}
QUICK = {"windows": 4, "epochs": 2, "units": 8, "rows": 4, "memory_steps": 500}
QUICK |= {"tasks": ["adding"], "methods": ["bptt", "tbptt", "artbp"]}
QUICK |= {"rates": [1e-2], "jit": False}
QUALITY = ("cosine", "bias", "variance", "bias_share")
ENDS = ("bias_lower", "bias_upper")
HEAD = "| method | updates | rate | {} | cosine | relative bias | relative "
HEAD += "variance | share of bias | seconds a million steps | memory (MiB) |"


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


def build(task, name, rate, settings):
    model = ksg.SequenceModel.from_model(task.network, stateful=task.stateful)
    model.compile(
        task.optimizer(rate, clipnorm=1.0),
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


def last(run):
    """The score at the end; infinite where training did not get there."""
    score = run["scores"][-1]
    whole = len(run["scores"]) == len(run["steps"])
    return score if whole and math.isfinite(score) else math.inf


def compare(place, name, settings):
    """A method on a task: its best rate, and that of every seed."""
    rates = sorted(settings.rates or TASKS[place](settings, 0).rates)
    folder = settings.out / "logs" / place / name
    try:
        build(TASKS[place](settings, 0), name, rates[0], settings)
    except ValueError as error:
        return {"refused": str(error)}
    tried, best = [], 0
    if len(rates) > 1:
        tried = [train(place, name, r, settings.seed, settings) for r in rates]
        best = min(range(len(rates)), key=lambda at: last(tried[at]))
    runs = [
        train(place, name, rates[best], settings.seed + n, settings, folder)
        for n, folder in enumerate([folder, *[None] * (settings.seeds - 1)])
    ]
    ended = zip(rates, tried or runs, strict=False)
    ends = {0: "<", len(rates) - 1: ">"} if len(rates) > 1 else {}
    return {
        "rate": rates[best],
        "end": ends.get(best, ""),
        "tried": {f"{rate:g}": last(run) for rate, run in ended},
        "seconds": min(run["seconds"] for run in tried + runs),
        "memory": memory(place, name, rates[best], settings),
        "runs": runs,
    }


def memory(place, name, rate, settings):
    """MiB, by this script in a process of its own."""
    command = [sys.executable, __file__, "--measure", place, name, str(rate)]
    for option in ("units", "rows", "memory_steps"):
        value = str(getattr(settings, option))
        command += ["--" + option.replace("_", "-"), value]
    command += ["--jit" if settings.jit else "--no-jit"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def measure(settings):
    """Prints by how much the peak of memory rises in one long window."""
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

    # Compiles, and loads what every run needs.
    model.train_on_batch(*task.probe)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model.train_on_batch(*map(longer, task.probe))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print((after - before) / 1024)


def table(label, found):
    """The results of a task in Markdown."""
    lines = [HEAD.format(label), "|---|" + "---:|" * 9]
    for name, result in found.items():
        if "refused" in result:
            continue
        runs = result["runs"]
        ends = sorted(last(run) for run in runs)
        score = f"{statistics.median(ends):.3g}"
        if len(ends) > 1:
            score += f" ({ends[0]:.3g} to {ends[-1]:.3g})"
        # There is nothing to compare with where the exact gradient is zero.
        quality = [
            f"{value:.2g}" if math.isfinite(value) else "–"
            for value in (runs[0][measure][-1] for measure in QUALITY)
        ]
        quality[QUALITY.index("bias")] = with_range(runs[0])
        cells = [name, f"{runs[0]['updates']:,}"]
        cells += [f"{result['end']}{result['rate']:g}", score, *quality]
        cells += [f"{result['seconds']:.3g}", f"{result['memory']:.0f}"]
        lines.append(markdown(cells))
    refused = [n for n, r in found.items() if "refused" in r]
    lines += ["", *(f"{n} refuses: {found[n]['refused']}" for n in refused)]
    return "\n".join(lines)


def with_range(run):
    """The bias at the end, and from where to where it may be."""
    bias, lower, upper = (run[m][-1] for m in ("bias", *ENDS))
    if not math.isfinite(bias):
        return "–"
    shown = f"{bias:.2g}"
    return shown if lower == upper else f"{shown} ({lower:.2g} to {upper:.2g})"


def plot(place, label, found, path):
    found = {n: r for n, r in found.items() if "refused" not in r}
    figure, axes = subplots(2, 2, (12, 8))
    colors = {name: f"C{n}" for n, name in enumerate(METHODS)}
    for name, result in found.items():
        for number, run in enumerate(result["runs"]):
            axes[0, 0].plot(
                np.array(run["steps"][: len(run["scores"])]) / 1e6,
                run["scores"],
                color=colors[name],
                alpha=0.4 if number else 1.0,
                label=None if number else name,
            )
        run = result["runs"][0]
        read = np.array(run["steps"][: len(run["cosine"])]) / 1e6
        axes[0, 1].plot(read, run["cosine"], color=colors[name])
    axes[0, 0].set(yscale="log", ylabel=label, title="After every epoch")
    axes[0, 1].set(ylabel="cosine", title="Gradient beside the exact one")
    for axis in axes[0]:
        axis.set_xlabel("million steps read")
        axis.grid(alpha=0.3)
    names, runs = list(found), [r["runs"][0] for r in found.values()]
    at = np.arange(len(names))
    bias = np.array([run["bias"][-1] for run in runs])
    noise = np.sqrt([run["variance"][-1] for run in runs])
    ends = np.array([[run[end][-1] for run in runs] for end in ENDS])
    axes[1, 0].barh(at - 0.2, bias, 0.4, xerr=abs(ends - bias), label="bias")
    axes[1, 0].barh(at + 0.2, noise, 0.4, label="noise of one estimate")
    # One that has diverged leaves the picture, and the others stay legible.
    most = np.nanmax(np.where(np.maximum(bias, noise) < 10, bias + noise, 1))
    axes[1, 0].set_xlim(0, 1.1 * most)
    for row, value in zip(at, bias, strict=True):
        if value > 1.1 * most:
            axes[1, 0].text(most, row + 0.2, f"{value:.1g}", ha="right")
    axes[1, 0].set(
        title="Error of the gradient at the end",
        xlabel="over the norm of the exact gradient",
    )
    axes[1, 0].legend()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    seconds = [result["seconds"] for result in found.values()]
    bars = axes[1, 1].barh(at, seconds, color=[colors[n] for n in names])
    axes[1, 1].bar_label(
        bars, [f"{r['memory']:.0f} MiB" for r in found.values()], padding=3
    )
    axes[1, 1].margins(x=0.15)
    axes[1, 1].set(
        title="Time of training, memory of a long window",
        xlabel="seconds for a million steps",
    )
    for axis in axes[1]:
        axis.set_yticks(at, names)
        axis.invert_yaxis()
        axis.grid(axis="x", alpha=0.3)
    figure.legend(handles, labels, loc="outside lower center", ncols=len(found))
    figure.suptitle(f"Task: {place}")
    figure.savefig(path, dpi=110)


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
    count("--windows", 100, "of an epoch")
    count("--epochs", 10)
    count("--rows", 32, "sequences side by side")
    count("--units", 128)
    count("--repeats", 64, "estimates of what draws, to compare")
    add("--seed", type=int, default=0)
    count("--seeds", 3, "this seed and the next ones")
    count("--memory-steps", 20_000)
    add("--measure", nargs=3, help=argparse.SUPPRESS)
    return parser.parse(argv)


def main(argv=None):
    """The results by task and method, as they are in results.json."""
    settings = parse(argv)
    if settings.measure:
        return measure(settings)
    file = settings.out / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for place in settings.tasks:
        found = results[place] = {}
        for name in settings.methods:
            print(f"{place}: {name} ...", flush=True)
            found[name] = compare(place, name, settings)
            write_json(file, results)
        label = TASKS[place](settings, settings.seed).label
        page = table(label, found)
        print(f"\n{page}\n", flush=True)
        (settings.out / f"{place}.md").write_text(page + "\n")
        plot(place, label, found, settings.out / f"{place}.png")
    return results


if __name__ == "__main__":
    main()
