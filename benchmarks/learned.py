"""What the runs of `examples/long_memory.py` learned, as tables of a page.

    python -m benchmarks.learned              # of docs/results/long_memory
    python -m benchmarks.learned --page none  # shown alone

A row has the runs of a layer on a task: the mean of its seeds, and from the
least to the largest where there are several. What stands under minutes is of
the small test that was last then; the last column is of all the tests, when the
time was spent.
"""

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.table import Table, put

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "linear_recurrences.md"
RESULTS = ROOT / "docs" / "results" / "long_memory"
# Minutes to look at, and what is measured: its name, factor and digits.
TASKS = {
    "pixels": ((2, 5, 10, 30), "accuracy", 100, 2),
    "adding": ((1, 2, 4), "loss", 1, 4),
    "copy": ((1, 2, 4), "accuracy", 100, 1),
}
LAYERS = ("MinGRU", "LRU", "LSTM")


def read(folder):
    """The runs, by task and layer."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        found.setdefault((run["task"], run["layer"]), []).append(run)
    return found


def at(run, minutes, name):
    """What the last small test within the minutes came to; None before one.

    None as well where the run was not as long.
    """
    tests = [r for r in run["reports"] if f"val_{name}" in r]
    before = [r for r in tests if r["seconds"] <= 60 * minutes]
    if not before or run["reports"][-1]["seconds"] < 60 * minutes:
        return None
    return before[-1][f"val_{name}"]


def cell(values, factor, digits):
    """Mean, and from where to where."""
    values = [factor * value for value in values if value is not None]
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def table(task, found):
    """A row a layer that was run."""
    minutes, name, factor, digits = TASKS[task]
    rows = []
    for layer in LAYERS:
        runs = found.get((task, layer), [])
        ended = [run["test"] for run in runs if "test" in run]
        if not ended:
            continue
        spent = [test["seconds"] / 60 for test in ended]
        updates = [test["updates"] for test in ended]
        sequences = runs[0]["batch_size"] * statistics.mean(updates)
        rows.append(
            [
                layer,
                f"{runs[0]['weights']:,}",
                str(len(ended)),
                *(
                    cell([at(run, m, name) for run in runs], factor, digits)
                    for m in minutes
                ),
                f"{statistics.mean(spent):.0f}",
                f"{sequences:,.0f}",
                cell([test[name] for test in ended], factor, digits),
            ]
        )
    head = ["layer", "weights", "runs", *(f"{m} min" for m in minutes)]
    head += ["minutes in all", "sequences seen", "whole test"]
    return Table(f"learned/{task}", head, rows)


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learned",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", default=PAGE, help="or none")
    settings = parser.parse_args(argv)
    found = read(settings.results)
    for task in TASKS:
        made = table(task, found)
        if not made.rows:
            continue
        print(f"\n{made.name}\n{made.text()}")
        if settings.page != "none":
            page = Path(settings.page)
            page.write_text(put(page.read_text(), made.name, made.text()))


if __name__ == "__main__":
    main()
