import math

from benchmarks import comparison


def run(rate, seed, scores, seconds=2.0, watched=False, updates=30):
    """Of three epochs of a million steps."""
    return {
        "rate": rate,
        "seed": seed,
        "watched": watched,
        "scores": scores,
        "steps": [1_000_000, 2_000_000, 3_000_000],
        "seconds": seconds,
        "updates": updates,
    }


def test_three_readings_of_the_same_runs():
    slow = [
        run(0.1, 0, [3.0, 2.0, 1.0], 6.0),
        run(0.01, 0, [3.0, 2.5, 2.0], 6.0),
        run(1.0, 0, [3.0, math.nan], 6.0),
        run(0.1, 0, [3.0, 2.0, 1.0], 9.0, watched=True),
        run(0.1, 1, [5.0, 4.0, 3.0], 6.0),
    ]
    many = [run(0.1, 0, [0.7, 0.6, 0.5], updates=90)]
    said = {"task": "copy", "layer": "GRU", "seed": 0}
    results = [
        {**said, "method": "tbptt", "layer": "MinGRU", "runs": many},
        {**said, "method": "bptt", "runs": slow, "memory": 12.4},
        {**said, "method": "rtrl", "refused": "too large"},
    ]
    slow[3] |= {"cosine": [1.0, 0.5], "bias": [0.0, 0.25]}
    slow[3] |= {"bias_lower": [0.0, 0.2], "bias_upper": [0.0, 0.3]}
    slow[3] |= {"variance": [0.0, math.nan], "bias_share": [0.0, 1.0]}
    table, measures = comparison.comparison(results)
    assert measures.name == "learned/gradients_copy"
    row = ["bptt", "0.5", "0.25 (0.2 to 0.3)", "–", "1", "12"]
    assert measures.rows == [row]
    assert table.name == "learned/comparison_copy"
    assert table.head[4:6] == ["30 updates", "6 seconds"]
    assert table.rows == [
        ["bptt", "0.1", "2", "2 (1 to 3)", "2 (1 to 3)", "4 (3 to 5)"]
        + ["30", "6"],
        ["tbptt, MinGRU", "0.1", "1", "0.5", "0.7", "0.5", "90", "2"],
    ]
    cut = [run(0.1, 0, [3.0, 2.0, 1.0]), run(0.2, 0, [3.0, 2.0, 0.5])]
    [table] = comparison.comparison([{**said, "method": "snap", "runs": cut}])
    assert table.rows[0][1] == ">0.2"
