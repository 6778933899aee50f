import pytest

from benchmarks import learned, pixels
from benchmarks.runs import read
from benchmarks.table import put


def run(arm, *reports, permuted=False):
    names = "updates", "epochs", "wall", "accuracy"
    reports = [dict(zip(names, report, strict=True)) for report in reports]
    return {"arm": arm, "permuted": permuted, "reports": reports}


def test_epochs_and_the_end_of_runs():
    first = run("bptt", (468, 0.998, 60, 0.5), (937, 1.997, 90, 0.6))
    second = run("bptt", (468, 0.998, 60, 0.7), (600, 1.28, 90, 0.8))
    assert pixels.at(first, 1) == 0.5 and pixels.at(first, 2) == 0.6
    assert pixels.at(second, 2) is None
    found = {("in_order", "bptt"): [first, second]}
    [row] = pixels.table("in_order", found).rows
    label, runs, once, twice, *_, updates, epochs, minutes, end = row
    assert (label, runs) == ("BPTT, one update a batch", "2")
    assert once == "60.00 (50.00–70.00)" and twice == "60.00"
    assert (updates, epochs, minutes) == ("768", "1.6", "1.5")
    assert end == "70.00 (60.00–80.00)"
    assert not pixels.table("permuted", found).rows


@pytest.mark.parametrize("order", pixels.ORDERS.values())
def test_the_page_shows_the_results(order):
    page = (learned.DOCS / "methods" / "fptt.md").read_text()
    table = pixels.table(order, pixels.by_arm(read(learned.RESULTS / "pixels")))
    if table.rows:
        assert put(page, table.name, table.text()) == page
    else:
        shown = order.replace("_", " ")
        assert (
            "Not measured yet: `python examples/sequential_mnist.py --pixels "
            f"1 {shown}`" in page
        )
