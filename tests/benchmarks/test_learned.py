import math

import pytest

from benchmarks import learned, runs
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
    assert runs.cell([1.0, 3.0, None], 100, 1) == "200.0 (100.0–300.0)"


def test_long_trainings_stand_beside_short_ones():
    def run(layer, seconds, accuracy):
        said = {"task": "pixels", "layer": layer, "weights": 7, "batch_size": 5}
        reports = [
            {"seconds": 110.0, "val_accuracy": 0.5},
            {"seconds": seconds},
        ]
        test = {"seconds": seconds, "updates": 40, "accuracy": accuracy}
        return {**said, "reports": reports, "test": test}

    unfinished = run("LSTM", 3600.0, 0.9)
    del unfinished["test"]
    [table] = learned.long_memory(
        [
            unfinished,
            run("LSTM", 601.0, 0.6),
            run("LRU", 3602.0, 0.875),
            run("LRU", 601.0, 0.75),
            run("LRU", 600.0, 0.25),
        ]
    )
    half = "50.00", "50.00", "50.00"
    halves = [f"{cell} (50.00–50.00)" for cell in half]
    assert table.rows == [
        ["LRU", "7", "2", *halves, "", "10", "200", "50.00 (25.00–75.00)"],
        ["LRU", "7", "1", *half, "50.00", "60", "200", "87.50"],
        ["LSTM", "7", "1", *half, "", "10", "200", "60.00"],
    ]


@pytest.mark.parametrize("name", learned.EXPERIMENTS)
def test_pages_show_the_results(name):
    for table in learned.tables(name):
        page = learned.page_of(table).read_text()
        assert put(page, table.name, table.text()) == page


def test_longest_copies():
    """A row for every number of updates: seeds of one have made as many."""
    common = {"task": "copy", "length": 3, "synthesizer_rate": 0.3}
    runs = [
        {
            **common,
            "method": method,
            "reports": [{"updates": updates, "seconds": 7.0 + 2 * seed}],
            "solved": [[0, 0, "none"], [100, steps, f"{steps} x 1"]],
        }
        for method, updates, found in (
            ("TBPTT", 200, (3, 5)),
            ("TBPTT", 4000, (7,)),
            ("DNI", 200, (9, 11)),
        )
        for seed, steps in enumerate(found)
    ]
    [table] = learned.copy(runs)
    assert table.rows == [
        ["copy", "3", "DNI", "0.3", "200", "10", "9, 11", "9 x 1, 11 x 1", "8"],
        ["copy", "3", "TBPTT", "", "200", "4", "3, 5", "3 x 1, 5 x 1", "8"],
        ["copy", "3", "TBPTT", "", "4,000", "7", "7", "7 x 1", "7"],
    ]


def text_run(method, rate, seed, bits, **options):
    report = {"updates": 8, "seconds": 2.0, "bits": bits, "perplexity": 3.0}
    said = {"method": method, "length": 50, "alpha": None, "reach": None}
    said |= {"level": "character", "epochs": 1, "rate": rate, "seed": seed}
    return {**said, **options, "reports": [report]}


def test_rates_and_their_edges_on_text():
    runs = [
        text_run("tbptt", 2e-3, 0, 2.5),
        text_run("tbptt", 4e-3, 0, 2.25),
        text_run("tbptt", 8e-3, 0, math.nan),
        text_run("tbptt", 4e-3, 1, 2.75),
        text_run("artbp", 2e-3, 0, 2.5, alpha=4.0),
        text_run("artbp", 4e-3, 0, 2.75, alpha=4.0),
        text_run("tbptt", 4e-3, 0, 2.0, length=8, reach=40),
        text_run("dni", 4e-3, 0, 2.0, length=8, epochs=2),
    ]
    artbp, dni = learned.penn_treebank(runs)
    tried = "2.5000 at 0.002, 2.7500 at 0.004"
    assert artbp.rows == [
        ["ARTBP(50), α = 4", "8", tried, "<0.002", "1", "2.5000", "2"],
        [
            "TruncatedBPTT(50)",
            "8",
            "2.5000 at 0.002, 2.2500 at 0.004, inf at 0.008",
            "0.004",
            "2",
            "2.5000 (2.2500–2.7500)",
            "2",
        ],
    ]
    # A run that has not ended is left out.
    assert [row[0] for row in dni.rows] == ["TruncatedBPTT(40, stride=8)"]


def test_results_of_one_folder_alone(tmp_path, capsys):
    with pytest.raises(SystemExit):
        learned.main(["--results", str(tmp_path)])
    assert "is of one experiment: name it" in capsys.readouterr().err
    learned.main(["--only", "copy", "--results", str(tmp_path)])
    assert capsys.readouterr().out == ""
