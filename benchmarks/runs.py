"""Files of results of runs, and numbers of several of them in a cell."""

import json
import statistics


def read(folder):
    """The runs, in the order of their files."""
    return [json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))]


def groups(runs, key):
    """The runs by what `key` says of them, in the order of these words."""
    found = {}
    for run in sorted(runs, key=key):
        found.setdefault(key(run), []).append(run)
    return found


def cell(values, factor, digits):
    """Mean, and from where to where."""
    values = [factor * value for value in values if value is not None]
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def spread(numbers):
    """All alike, or from where to where."""
    least, most = min(numbers), max(numbers)
    return f"{most:,}" if least == most else f"{least:,}–{most:,}"


def best_rate(scores):
    """The rate of the least score, and whether the grid ends there.

    Args:
        scores: Of each rate.

    Returns:
        The rate, and "<" or ">" where nothing that was tried is beyond it.
    """
    best = min(scores, key=scores.get)
    ends = {min(scores): "<", max(scores): ">"} if len(scores) > 1 else {}
    return best, ends.get(best, "")
