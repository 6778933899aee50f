"""What the runs of `examples/sequential_mnist.py` learned, as tables of a page.

    python -m benchmarks.pixels              # of docs/results/pixels
    python -m benchmarks.pixels --page none  # shown alone

A row has the runs of an arm: the mean of its seeds, and from the least to the
largest where there are several. Under epochs stands the test accuracy when so
many times all images had been read, which for all arms but bptt is after about
as many updates, too; the last columns are of the end of the time, which is the
same for all.
"""

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.learned import cell
from benchmarks.table import Table, put

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "methods" / "fptt.md"
RESULTS = ROOT / "docs" / "results" / "pixels"
ARMS = {
    "bptt": "BPTT, one update a batch",
    "equal": "BPTT on smaller batches: as many updates",
    "parts": "parts without the regulariser",
    "fptt": "FPTT, the default",
    "authors": "FPTT, as the authors' code",
}
ORDERS = {False: "in_order", True: "permuted"}
EPOCHS = (1, 2, 5, 10, 20)


def read(folder):
    """The runs, by order and arm."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        run = json.loads(path.read_text())
        key = ORDERS[run["permuted"]], run["arm"]
        found.setdefault(key, []).append(run)
    return found


def at(run, epochs):
    """Test accuracy after so many epochs; None where there was no test.

    An incomplete last batch is not read, so an epoch is a little less than one.
    """
    near = min(run["reports"], key=lambda r: abs(r["epochs"] - epochs))
    return near["accuracy"] if abs(near["epochs"] / epochs - 1) < 0.01 else None


def table(order, found):
    """A row an arm that was run."""
    rows = []
    for arm, label in ARMS.items():
        runs = [run for run in found.get((order, arm), []) if run["reports"]]
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
                *(cell([at(r, n) for r in runs], 100, 2) for n in EPOCHS),
                f"{mean['updates']:,.0f}",
                f"{mean['epochs']:.1f}",
                f"{mean['wall'] / 60:.1f}",
                cell([report["accuracy"] for report in last], 100, 2),
            ]
        )
    counts = [f"{n} epoch{'s' if n > 1 else ''}" for n in EPOCHS]
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


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pixels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", default=PAGE, help="or none")
    settings = parser.parse_args(argv)
    found = read(settings.results)
    for order in ORDERS.values():
        made = table(order, found)
        if not made.rows:
            continue
        print(f"\n{made.name}\n{made.text()}")
        if settings.page != "none":
            page = Path(settings.page)
            page.write_text(put(page.read_text(), made.name, made.text()))


if __name__ == "__main__":
    main()
