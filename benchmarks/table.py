"""A table, where it was measured, and its place in a page."""

import dataclasses
import datetime
import importlib.metadata
import os
import platform
import re
from pathlib import Path

PACKAGES = {
    "tensorflow": "TensorFlow",
    "tensorflow-cpu": "TensorFlow",
    "keras": "Keras",
    "torch": "PyTorch",
    "jax": "JAX",
}


@dataclasses.dataclass
class Table:
    """Rows of cells, under a name that a page knows them by.

    Attributes:
        name: As "layers/lstm": the file, and which of its tables.
        head: What stands above each column.
        rows: Lists of cells. Numbers come as text, rounded.
    """

    name: str
    head: list
    rows: list

    def text(self):
        """The table in Markdown."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def put(page, name, text):
    """`page` with `text` in place of what stood at a table's name.

    The place is what lies between `<!-- table NAME -->` and
    `<!-- end NAME -->`; all else stays as it is.
    """
    first, last = f"<!-- table {name} -->", f"<!-- end {name} -->"
    place = re.compile(f"{re.escape(first)}.*?{re.escape(last)}", re.DOTALL)
    if not place.search(page):
        raise ValueError(
            f"The page has no place for the table {name!r}. Write the lines "
            f"{first} and {last} where it belongs."
        )
    return place.sub(lambda _: f"{first}\n{text}\n{last}", page)


def machine():
    """Processor, versions and date, in a line."""
    versions = [f"Python {platform.python_version()}"]
    for package, name in PACKAGES.items():
        try:
            versions.append(f"{name} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    where = f"{processor()}, {os.cpu_count()} cores, {gib:.0f} GiB"
    day = datetime.date.today().isoformat()
    return f"{where}; {', '.join(versions)}; {day}."


def processor():
    """What the processor calls itself."""
    try:
        found = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(re.findall(r"^([\w ]+?)\s*:\s*(.+)$", found, re.MULTILINE))
    name = fields.get("model name", platform.machine())
    if {"cpu family", "model"} <= fields.keys():
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    return name
