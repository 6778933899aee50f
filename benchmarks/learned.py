"""What long runs of the examples learned, as tables of pages.

    python -m benchmarks.learned              # of all in docs/results
    python -m benchmarks.learned --alone      # shown alone
    python -m benchmarks.learned --only copy --results FOLDER

    long_memory    `examples/long_memory.py`
    copy           `examples/copy_synthetic_gradients.py`
    penn_treebank  `examples/penn_treebank.py`
    comparison     `examples/compare_methods.py`
    pixels         `examples/sequential_mnist.py`

A folder has a file of results a run. Each table goes to the page that has its
name; those of another folder are shown alone.
"""

import argparse
import math
import statistics
from pathlib import Path

from benchmarks.comparison import comparison
from benchmarks.pixels import pixels
from benchmarks.runs import best_rate, cell, groups, read, spread
from benchmarks.table import Table, put

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
RESULTS = DOCS / "results"
# Minutes to look at, and what is measured: its name, factor and digits.
TASKS = {
    "pixels": ((2, 5, 10, 30), "accuracy", 100, 2),
    "adding": ((1, 2, 4), "loss", 1, 4),
    "copy": ((1, 2, 4), "accuracy", 100, 1),
}
LAYERS = ("MinGRU", "LRU", "LSTM")


def at(run, minutes, name):
    """What the last small test within the minutes came to; None before one.

    None as well where the run was not as long.
    """
    tests = [r for r in run["reports"] if f"val_{name}" in r]
    before = [r for r in tests if r["seconds"] <= 60 * minutes]
    if not before or run["reports"][-1]["seconds"] < 60 * minutes:
        return None
    return before[-1][f"val_{name}"]


def long_memory(runs):
    """A table a task: the mean of its seeds, and from the least to the largest.

    What stands under minutes is of the small test that was last then; the last
    column is of all the tests, when the time was spent.
    """
    for task in TASKS:
        ended = [r for r in runs if r["task"] == task and "test" in r]
        if ended:
            yield long_memory_task(task, ended)


def long_memory_task(task, ended):
    """A row a layer and time that it had, whose rates fell by that time."""
    minutes, name, factor, digits = TASKS[task]
    minutes = [
        m for m in minutes if any(at(run, m, name) is not None for run in ended)
    ]
    rows = []
    for (layer, spent), runs in groups(ended, arm_of_long_memory).items():
        updates = [run["test"]["updates"] for run in runs]
        sequences = runs[0]["batch_size"] * statistics.mean(updates)
        rows.append(
            [
                LAYERS[layer],
                f"{runs[0]['weights']:,}",
                str(len(runs)),
                *(
                    cell([at(run, m, name) for run in runs], factor, digits)
                    for m in minutes
                ),
                str(spent),
                f"{sequences:,.0f}",
                cell([run["test"][name] for run in runs], factor, digits),
            ]
        )
    head = ["layer", "weights", "runs", *(f"{m} min" for m in minutes)]
    head += ["minutes in all", "sequences seen", "whole test"]
    return Table(f"learned/{task}", head, rows)


def arm_of_long_memory(run):
    """The place of its layer, and the minutes that it had."""
    return LAYERS.index(run["layer"]), round(run["test"]["seconds"] / 60)


def copy(runs):
    """A table of the longest sequences solved, in steps."""
    rows = []
    for (*arm, rate, updates), found in groups(runs, arm_of_copy).items():
        seconds = [run["reports"][-1]["seconds"] for run in found]
        _, steps, levels = zip(
            *(run["solved"][-1] for run in found), strict=True
        )
        rows.append(
            [
                *map(str, arm),
                f"{rate:g}" if rate else "",
                f"{updates:,}",
                f"{statistics.median(steps):g}",
                ", ".join(map(str, steps)),
                ", ".join(levels),
                f"{statistics.mean(seconds):.0f}",
            ]
        )
    head = ["task", "T", "method", "rate of the synthesiser", "updates"]
    head += ["median steps", "each seed", "pattern × repeats", "seconds"]
    yield Table("learned/longest_copy", head, rows)


def arm_of_copy(run):
    """Task, T, method, its synthesiser's rate, 0 without one, and updates."""
    arm = run["task"], run["length"], run["method"]
    guesses = arm[-1] not in ("TBPTT", "SnAp")
    rate = run["synthesizer_rate"] if guesses else 0
    return *arm, rate, run["reports"][-1]["updates"]


def penn_treebank(runs):
    """Tables of bits or perplexity on validation text after the last epoch."""
    ended = [run for run in runs if len(run["reports"]) == run["epochs"]]
    tables = groups(ended, table_of)
    for name, found in tables.items():
        arms = groups(found, name_of)
        rows = [row_of(arm, found) for arm, found in arms.items()]
        score = "perplexity" if name == "words" else "bits a character"
        head = ["method", "updates", f"{score} of seed 0 at each rate"]
        head += ["rate", "seeds", score, "seconds a run"]
        yield Table(f"learned/{name}", head, rows)


def table_of(run):
    if run["level"] == "word":
        return "words"
    return "artbp" if run["length"] == 50 else "dni"


def name_of(run):
    """An arm, as the tables call it."""
    length, reach = run["length"], run["reach"]
    if run["method"] == "artbp":
        law = run["alpha"] and f"α = {run['alpha']:g}"
        return f"ARTBP({length}), {law or 'constant'}"
    name = {
        "tbptt": "TruncatedBPTT",
        "dni": "SyntheticGradients",
        "alternating": "AlternatingGradients",
    }[run["method"]]
    return f"{name}({reach}, stride={length})" if reach else f"{name}({length})"


def score_of(run):
    last = run["reports"][-1]
    value = last["perplexity" if run["level"] == "word" else "bits"]
    return value if math.isfinite(value) else math.inf


def row_of(arm, found):
    """The runs of an arm at the rate that was best with the first seed."""
    digits = 1 if found[0]["level"] == "word" else 4
    tried = {run["rate"]: score_of(run) for run in found if not run["seed"]}
    best, end = best_rate(tried)
    chosen = [run for run in found if run["rate"] == best]
    scores = [score_of(run) for run in chosen]
    seconds = [run["reports"][-1]["seconds"] for run in chosen]
    return [
        arm,
        spread([run["reports"][-1]["updates"] for run in chosen]),
        ", ".join(f"{tried[r]:.{digits}f} at {r:g}" for r in sorted(tried)),
        f"{end}{best:g}",
        str(len(chosen)),
        cell(scores, 1, digits),
        f"{statistics.mean(seconds):.0f}",
    ]


EXPERIMENTS = {
    "long_memory": long_memory,
    "copy": copy,
    "penn_treebank": penn_treebank,
    "comparison": comparison,
    "pixels": pixels,
}


def tables(name, folder=None):
    """The tables of an experiment; none without results."""
    runs = read(folder or RESULTS / name)
    return list(EXPERIMENTS[name](runs)) if runs else []


def page_of(table):
    """The page that has a table's name; None where there is none."""
    name = f"<!-- table {table.name} -->"
    pages = [p for p in sorted(DOCS.rglob("*.md")) if name in p.read_text()]
    return pages[0] if pages else None


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learned",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", choices=EXPERIMENTS, help="default: all")
    add("--results", type=Path, help="folder; default: docs/results/NAME")
    add("--alone", action="store_true", help="show them, write no page")
    settings = parser.parse_args(argv)
    if settings.results and not settings.only:
        parser.error("--results is of one experiment: name it by --only.")
    for name in [settings.only] if settings.only else EXPERIMENTS:
        for table in tables(name, settings.results):
            print(f"\n{table.name}\n{table.text()}")
            page = page_of(table)
            if not (settings.alone or settings.results or page is None):
                text = put(page.read_text(), table.name, table.text())
                page.write_text(text)


if __name__ == "__main__":
    main()
