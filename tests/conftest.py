"""What a process of tests is before TensorFlow is imported.

The process that hands the tests out to workers imports none of it.
"""

import gc
import os

# TensorFlow's start-up notes hide the tests' output.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# XLA compiles in many threads, and memory that one of them has left is of no
# use to another. The C library reads this when a process starts: it is for the
# workers that this one starts.
os.environ.setdefault("MALLOC_ARENA_MAX", "2")
# Tracing makes millions of objects that stay; looking through them all again
# and again for garbage is a tenth of the time.
gc.set_threshold(50_000, 20, 20)


def pytest_configure(config):
    """Imports TensorFlow, and what the tests make of it, where they run."""
    hands_out = config.getoption("numprocesses", None)
    if hands_out and not hasattr(config, "workerinput"):
        return
    for name in "session", "checked", "interpreter":
        config.pluginmanager.import_plugin(f"tests.plugins.{name}")


def pytest_collection_finish():
    """Leaves what is there to the process' end."""
    gc.freeze()


def pytest_sessionfinish():
    """The same; pytest would collect it thrice."""
    gc.freeze()
