"""Three readings of the runs of `examples/compare_methods.py`."""

import math
import statistics

from benchmarks.runs import best_rate, groups
from benchmarks.table import Table


def comparison(results):
    """A table a task: the same runs at equal steps, updates and time.

    Equal updates and equal time are those of the method that has the fewest or
    takes the least for all its steps; of the others it is the epoch that had
    ended by then, and at least one. Median of the seeds, and from the least to
    the largest.
    """
    found = [result for result in results if result.get("runs")]
    for task, of_task in groups(found, lambda r: r["task"]).items():
        yield table(task, [Arm(result) for result in of_task])


class Arm:
    """A method on a task, at the rate that was best with the first seed."""

    def __init__(self, result):
        self.name = result["method"]
        if result["layer"] != "GRU":
            self.name += f", {result['layer']}"
        runs, first = result["runs"], result["seed"]
        tried = {r["rate"]: last(r) for r in runs if r["seed"] == first}
        rate, end = best_rate(tried)
        self.rate = f"{end}{rate:g}"
        # The one that was watched is the same run once more.
        of_rate = [run for run in runs if run["rate"] == rate]
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
        if len(scores) == 1:
            return middle
        return f"{middle} ({scores[0]:.3g} to {scores[-1]:.3g})"


def last(run, epochs=None):
    """The score after an epoch, or all; infinite where training ended early."""
    epochs = epochs or len(run["steps"])
    if len(run["scores"]) < epochs or not math.isfinite(
        run["scores"][epochs - 1]
    ):
        return math.inf
    return run["scores"][epochs - 1]


def table(task, arms):
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
