"""Tables find their places in the page, and change nothing else there."""

import re

import pytest

from benchmarks.__main__ import FILES, PAGE
from benchmarks.table import Table, machine, put

PLACE = re.compile(
    r"<!-- table (\S+) -->\n(.*?)\n<!-- end (\S+) -->", re.DOTALL
)


def test_a_table_in_markdown():
    table = Table("name", ["arm", "ms"], [["ours", "1.0"], ["other", ""]])
    assert table.text().splitlines() == [
        "| arm | ms |",
        "| --- | --- |",
        "| ours | 1.0 |",
        "| other |  |",
    ]


def test_only_the_place_of_the_table_changes():
    page = "\n".join(
        f"before {name}\n<!-- table {name} -->\nold\n<!-- end {name} -->"
        for name in ("a/b", "a", "c")
    )
    # A backslash is nothing special.
    found = put(page, "a", r"| \1 |")
    assert found == page.replace(
        "<!-- table a -->\nold", "<!-- table a -->\n| \\1 |"
    )
    with pytest.raises(ValueError, match="no place for the table 'd'.*-->"):
        put(page, "d", "")


def test_the_page_has_places_for_every_file():
    places = PLACE.findall(PAGE.read_text())
    assert all(first == last for first, _, last in places)
    owners = [first.split("/")[0] for first, *_ in places]
    assert list(dict.fromkeys(owners)) == FILES


def test_the_machine_in_a_line():
    line = machine()
    assert re.search(r"\d+ cores, \d+ GiB; Python 3\.\d+\.\d+", line)
    assert re.search(r"TensorFlow \S+, Keras \S+.*; \d{4}-\d\d-\d\d\.$", line)
