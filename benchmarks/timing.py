"""Arms that take turns, so that a busy machine disturbs all of them alike."""

import statistics
import time


def turns(arms, rounds, warm=2, clock=time.perf_counter):
    """Seconds of every round of every arm.

    Args:
        arms: Functions by name. Each runs a step and waits for its result.
        rounds: Rounds that count; in each, every arm runs once.
        warm: Rounds before them: compiling, and memory that is new.
        clock: What counts the seconds: `time.process_time` those of all
            cores together, which other programs do not lengthen.

    Returns:
        Lists of seconds by name.
    """
    for _ in range(warm):
        for step in arms.values():
            step()
    seconds = {name: [] for name in arms}
    for _ in range(rounds):
        for name, step in arms.items():
            began = clock()
            step()
            seconds[name].append(clock() - began)
    return seconds


def medians(seconds):
    """The median of every arm."""
    return {name: statistics.median(times) for name, times in seconds.items()}


def ratios(seconds, base):
    """How many times as long as the arm `base`, in the same round.

    Medians of the ratios within a round, which share what disturbed it.
    """
    return {
        name: statistics.median(
            time / other
            for time, other in zip(times, seconds[base], strict=True)
        )
        for name, times in seconds.items()
    }
