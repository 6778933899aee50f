"""Compares random models with stock Keras, and with themselves.

    python -m tests.random_models SEED COUNT [--only NAME]

draws COUNT models from the seeds SEED, SEED + 1, ... for each comparison (see
comparisons.py). Prints one line for each draw that fails: its comparison, its
seed, what differs, and the draw as Python; then what was refused, each reason
once; last how many draws failed, which is the exit status. A line is
reproduced by its seed, COUNT 1 and its name.
"""

import argparse
import collections
import gc
import os
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402

from tests.random_models import training  # noqa: E402
from tests.random_models.comparisons import COMPARISONS  # noqa: E402


def main(arguments):
    parser = argparse.ArgumentParser(
        prog="python -m tests.random_models", description=__doc__
    )
    parser.add_argument("seed", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--only", choices=COMPARISONS)
    given = parser.parse_args(arguments)
    keras.config.disable_traceback_filtering()
    names = [given.only] if given.only else list(COMPARISONS)
    counted, said = collections.Counter(), set()
    for seed in range(given.seed, given.seed + given.count):
        for name in names:
            outcome, line = run(name, seed)
            counted[outcome] += 1
            # What is refused is told once; counts and names apart.
            key = line if outcome == "failed" else re.sub(r"[\d.]+", "", line)
            if line and key not in said:
                said.add(key)
                print(f"{name} {seed} {outcome}: {line}", flush=True)
    print(f"{counted['failed']} failed of {dict(counted)}")
    return min(counted["failed"], 255)


def run(name, seed):
    """One draw: what became of it, and the line that tells."""
    keras.utils.clear_session()
    gc.collect()
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    draw = COMPARISONS[name](seed)
    print(f"{name} {seed}", file=sys.stderr, flush=True)
    try:
        draw.run()
        return "passed", ""
    except training.NotInKeras as error:
        return "not in Keras", str(error).splitlines()[0][:150]
    except training.Refused as error:
        return "refused", str(error).splitlines()[0]
    except Exception as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        return "failed", f"{what} | {draw.told}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
