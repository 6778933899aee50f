"""What the runs of `examples/sequential_mnist.py` learned."""

import statistics

from benchmarks.runs import cell, groups
from benchmarks.table import Table

ARMS = {
    "bptt": "BPTT, one update a batch",
    "equal": "BPTT on smaller batches: as many updates",
    "parts": "parts without the regulariser",
    "fptt": "FPTT, the default",
    "authors": "FPTT, as the authors' code",
}
ORDERS = {False: "in_order", True: "permuted"}
EPOCHS = (0.5, 1, 2, 5, 10, 20)


def pixels(runs):
    """A table an order: the mean of an arm's seeds, and from where to where.

    Under epochs stands the test accuracy when so many times all images had been
    read, which for all arms but bptt is after about as many updates, too; the
    last columns are of the end.
    """
    found = by_arm(runs)
    for order in ORDERS.values():
        if any(key[0] == order for key in found):
            yield table(order, found)


def by_arm(runs):
    """The runs, by order and arm."""
    return groups(runs, lambda run: (ORDERS[run["permuted"]], run["arm"]))


def at(run, epochs):
    """Test accuracy after so many epochs; None where there was no test.

    Incomplete last batches are not read, so an epoch is a little less than one.
    """
    near = min(run["reports"], key=lambda r: abs(r["epochs"] - epochs))
    return near["accuracy"] if abs(near["epochs"] / epochs - 1) < 0.03 else None


def table(order, found):
    """A row an arm that was run."""
    arms = {
        arm: [run for run in found.get((order, arm), []) if run["reports"]]
        for arm in ARMS
    }
    epochs = [
        n for n in EPOCHS if any(at(r, n) for r in sum(arms.values(), []))
    ]
    rows = []
    for arm, label in ARMS.items():
        runs = arms[arm]
        if not runs:
            continue
        last = [run["reports"][-1] for run in runs]
        mean = {
            key: statistics.mean(report[key] for report in last)
            for key in ("updates", "epochs", "wall")
        }
        rows.append(
            [
                label,
                str(len(runs)),
                *(cell([at(r, n) for r in runs], 100, 2) for n in epochs),
                f"{mean['updates']:,.0f}",
                f"{mean['epochs']:.1f}",
                f"{mean['wall'] / 60:.1f}",
                cell([report["accuracy"] for report in last], 100, 2),
            ]
        )
    counts = [f"{n} epoch{'s' if n > 1 else ''}" for n in epochs]
    head = [
        "arm",
        "runs",
        *counts,
        "updates",
        "epochs",
        "minutes",
        "at the end",
    ]
    return Table(f"pixels/{order}", head, rows)
