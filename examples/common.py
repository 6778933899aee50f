"""What the examples share: arguments, tables, results, pictures.

Nothing here is about training.
"""

import argparse
import json
import pathlib


def positive(text, number=int):
    """An argument above 0."""
    if not number(text) > 0:
        raise argparse.ArgumentTypeError(f"must be above 0. Received: {text}")
    return number(text)


def positive_float(text):
    return positive(text, float)


class Parser(argparse.ArgumentParser):
    """Arguments of an example, with those that all of them have.

    Args:
        documentation: What `--help` shows above the options.
        out: Default of `--out`, the folder for what is written.
        presets: A word of help and the defaults it stands for, by the name of
            the option; `quick=("seconds", {"units": 8})` makes `--quick`.
    """

    def __init__(self, documentation, out, **presets):
        super().__init__(
            description=documentation,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.presets = presets
        add, either = self.add_argument, argparse.BooleanOptionalAction
        add("--out", type=pathlib.Path, default=out, help=f"default: {out}")
        add("--jit", action=either, default=True, help="compile by XLA")
        for name, (words, _) in presets.items():
            add(f"--{name}", action="store_true", help=words)

    def count(self, name, default, help=None, **options):
        """Adds an option that is an integer above 0."""
        options |= {"type": positive, "default": default, "help": help}
        self.add_argument(name, **options)

    def parse(self, argv):
        """The settings; what is said goes before what a preset says."""
        chosen = self.parse_args(argv)
        for name, (_, values) in self.presets.items():
            if getattr(chosen, name):
                self.set_defaults(**values)
        return self.parse_args(argv)


class Table:
    """Prints a table row by row, each as soon as it is known.

    Args:
        columns: A format of a row.
        head: The cells of the first one.
    """

    def __init__(self, columns, *head):
        self.columns = columns
        self.add(*head)

    def add(self, *cells):
        print(self.columns.format(*cells), flush=True)


def markdown(cells):
    """A row of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def write_json(path, values):
    """Makes the folder as well; the file is whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".tmp")
    unfinished.write_text(json.dumps(values, indent=1))
    unfinished.replace(path)


def subplots(rows, columns, size, layout="constrained", **options):
    """A figure of `size` inches and its axes, without a window."""
    # Only who draws needs it.
    from matplotlib.figure import Figure

    figure = Figure(size, layout=layout)
    return figure, figure.subplots(rows, columns, **options)
