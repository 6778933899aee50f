import pytest

from benchmarks import learned
from benchmarks.table import put


def test_minutes_of_a_run():
    reports = [
        {"updates": 1, "seconds": 50.0, "val_loss": 3.0},
        {"updates": 2, "seconds": 70.0},
        {"updates": 3, "seconds": 110.0, "val_loss": 2.0},
        {"updates": 4, "seconds": 130.0, "val_loss": 1.0},
    ]
    found = {"reports": reports}
    assert learned.at(found, 1, "loss") == 3.0
    assert learned.at(found, 2, "loss") == 2.0
    assert learned.at(found, 3, "loss") is None
    assert learned.at(found, 0.5, "loss") is None
    assert learned.cell([1.0, 3.0, None], 100, 1) == "200.0 (100.0–300.0)"


@pytest.mark.parametrize("task", learned.TASKS)
def test_the_page_shows_the_results(task):
    page = learned.PAGE.read_text()
    table = learned.table(task, learned.read(learned.RESULTS))
    if table.rows:
        assert put(page, table.name, table.text()) == page
    else:
        assert (
            f"Not measured yet: `python examples/long_memory.py {task}" in page
        )
