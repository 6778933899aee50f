"""Scores and gradients of the runs of `examples/compare_methods.py`."""

import math
import statistics

from benchmarks.runs import best_rate, groups
from benchmarks.table import Table

# Exact ones, truncation, what makes up for it, what trains otherwise.
METHODS = ("bptt", "checkpoints", "tbptt", "tbptt_once", "artbp", "snap")
METHODS += ("rtrl", "dni", "alternating", "fptt", "tprop", "inversion")


def comparison(results):
    """Two tables a task: its scores, and the gradients of its methods.

    The first has the same runs at equal steps, updates and time.

    Equal updates and equal time are those of the method that has the fewest or
    takes the least for all its steps; of the others it is the epoch that had
    ended by then, and at least one. Median of the seeds, and from the least to
    the largest.
    """
    found = [result for result in results if result.get("runs")]
    for task, of_task in groups(found, lambda r: r["task"]).items():
        arms = sorted(map(Arm, of_task), key=lambda arm: arm.place)
        yield scores(task, arms)
        watched = [arm for arm in arms if arm.watched]
        if watched:
            yield gradients(task, watched)


class Arm:
    """A method on a task, at the rate that was best with the first seed."""

    def __init__(self, result):
        self.name = result["method"]
        self.place = METHODS.index(self.name), result["layer"]
        self.memory = result.get("memory", math.nan)
        if result["layer"] != "GRU":
            self.name += f", {result['layer']}"
        runs, first = result["runs"], result["seed"]
        tried = {r["rate"]: last(r) for r in runs if r["seed"] == first}
        rate, end = best_rate(tried)
        self.rate = f"{end}{rate:g}"
        # The one that was watched is the same run once more.
        of_rate = [run for run in runs if run["rate"] == rate]
        self.watched = next((r for r in of_rate if r["watched"]), None)
        self.runs = list({run["seed"]: run for run in of_rate}.values())
        self.epochs = len(self.runs[0]["steps"])
        self.updates = self.runs[0]["updates"] / self.epochs
        steps = self.runs[0]["steps"][0]
        self.speed = min(run["seconds"] for run in runs)
        self.seconds = self.speed * steps / 1e6

    def score(self, epochs):
        """After so many epochs, of all seeds."""
        epochs = min(self.epochs, max(1, math.floor(epochs + 1e-6)))
        scores = sorted(last(run, epochs) for run in self.runs)
        middle = f"{statistics.median(scores):.3g}"
        least, most = f"{scores[0]:.3g}", f"{scores[-1]:.3g}"
        return middle if least == most else f"{middle} ({least} to {most})"


def last(run, epochs=None):
    """The score after an epoch, or all; infinite where training ended early."""
    epochs = epochs or len(run["steps"])
    if len(run["scores"]) < epochs or not math.isfinite(
        run["scores"][epochs - 1]
    ):
        return math.inf
    return run["scores"][epochs - 1]


def scores(task, arms):
    updates = min(arm.updates * arm.epochs for arm in arms)
    seconds = min(arm.seconds * arm.epochs for arm in arms)
    head = ["method", "rate", "seeds", "equal steps"]
    head += [f"{updates:,.0f} updates", f"{seconds:.0f} seconds"]
    head += ["updates in all", "seconds a million steps"]
    rows = [
        [
            arm.name,
            arm.rate,
            str(len(arm.runs)),
            arm.score(arm.epochs),
            arm.score(updates / arm.updates),
            arm.score(seconds / arm.seconds),
            f"{arm.updates * arm.epochs:,.0f}",
            f"{arm.speed:.3g}",
        ]
        for arm in arms
    ]
    return Table(f"learned/comparison_{task}", head, rows)


def gradients(task, arms):
    """Of the first seed after the last epoch, beside the exact gradient."""
    head = ["method", "cosine", "relative bias", "relative variance"]
    head += ["share of bias", "memory (MiB)"]
    rows = []
    for arm in arms:
        cosine, bias, variance, share = (
            shown(arm.watched[measure][-1])
            for measure in ("cosine", "bias", "variance", "bias_share")
        )
        ends = [shown(arm.watched[f"bias_{e}"][-1]) for e in ("lower", "upper")]
        if ends[0] != ends[1]:
            bias += f" ({ends[0]} to {ends[1]})"
        memory = shown(arm.memory, ".0f")
        rows.append([arm.name, cosine, bias, variance, share, memory])
    return Table(f"learned/gradients_{task}", head, rows)


def shown(number, digits=".2g"):
    """A number; a dash where there is none, as beside a gradient of zero."""
    return f"{number:{digits}}" if math.isfinite(number) else "–"
