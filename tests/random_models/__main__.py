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
import os
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
    failed, refused, outside = 0, {}, {}
    ran = collections.Counter()
    for seed in range(given.seed, given.seed + given.count):
        for name in names:
            keras.config.set_floatx("float32")
            keras.config.set_dtype_policy("float32")
            draw = COMPARISONS[name](seed)
            try:
                draw.run()
                ran[name] += 1
            except training.NotInKeras as error:
                first = str(error).splitlines()[0]
                outside.setdefault((name, first[:150]), []).append(seed)
            except training.Refused as error:
                first = str(error).splitlines()[0]
                refused.setdefault((name, first), []).append(seed)
            except Exception as error:
                failed += 1
                what = f"{type(error).__name__}: {error}".splitlines()[0]
                print(f"{name} {seed}: {what} | {draw.told}", flush=True)
    for (name, first), seeds in refused.items():
        print(f"refused by {name}, seeds {seeds[:5]}: {first}")
    for (name, first), seeds in outside.items():
        print(f"not in Keras, {name}, seeds {seeds[:5]}: {first}")
    print(f"passed: {dict(ran)}; failed: {failed}")
    return min(failed, 255)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
