"""Measures the tables of docs/benchmarks.md and writes them there.

    python -m benchmarks                            # all of them, hours
    python -m benchmarks --only layers,training
    python -m benchmarks --only layers --page none  # shown alone
    python -m benchmarks --quick                    # that all of them run

Each file is measured in a process of its own, and each of its tables is shown
and written as soon as it is there, with the machine, the versions and the date
below it. `--quick` makes tiny ones, whose figures mean nothing, and writes none
unless a page is given. Run it on a machine that does nothing else.
"""

import argparse
import dataclasses
import importlib
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.table import Table, machine, put

# In the order of the page.
FILES = [
    "layers",
    "general",
    "linear",
    "training",
    "streams",
    "synthetic_gradients",
    "snap",
    "fptt",
    "target_propagation",
    "inversion",
    "checkpointing",
    "heads",
    "fronts",
    "gpu",
    "diagnostics",
    "compile_time",
    "replicas",
]
ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
# What a line with a table begins with; all others are libraries' notes.
SIGN = "table: "


def measure(name, quick):
    """Prints the tables of a file as JSON, one a line."""
    for table in importlib.import_module(f"benchmarks.{name}").tables(quick):
        print(SIGN + json.dumps(dataclasses.asdict(table)), flush=True)


def measured(name, quick):
    """The tables of a file, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks", "--measure", name]
    command += ["--quick"] if quick else []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        for line in process.stdout:
            if line.startswith(SIGN):
                yield Table(**json.loads(line.removeprefix(SIGN)))
    if process.returncode:
        raise RuntimeError(f"{name} failed with {process.returncode}.")


def run(names, quick, page):
    """Measures files and writes their tables; returns those that failed."""
    failed = []
    for name in names:
        try:
            for table in measured(name, quick):
                text = f"{table.text()}\n\n{machine()}"
                print(f"\n{table.name}\n{text}", flush=True)
                if page is not None:
                    page.write_text(put(page.read_text(), table.name, text))
        except RuntimeError as error:
            print(error, file=sys.stderr)
            failed.append(name)
    return failed


def names_in(text):
    names = text.split(",")
    unknown = [name for name in names if name not in FILES]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"must be of {', '.join(FILES)}. Received: {', '.join(unknown)}"
        )
    return names


def main(argv=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", type=names_in, default=FILES, help="files, by commas")
    add("--quick", action="store_true", help="tiny tables, in a minute or two")
    add("--page", help=f"a Markdown file, or none; default: {PAGE.name}")
    add("--measure", choices=FILES, help=argparse.SUPPRESS)
    settings = parser.parse_args(argv)
    if settings.measure:
        measure(settings.measure, settings.quick)
        return
    page = settings.page or ("none" if settings.quick else PAGE)
    page = None if page == "none" else Path(page)
    failed = run(settings.only, settings.quick, page)
    if failed:
        sys.exit(f"Not measured: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
