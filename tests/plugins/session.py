"""TensorFlow and Keras as every test finds them."""

import functools
import logging
import os
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from tests import array_data

# Small programs that run for a moment need not be optimised for longer than
# that, nor be compiled in many parts, nor by a compiler of its own for every
# fusion. XLA reads this when it is first asked, and ends at what it does not
# know.
FLAGS = "--xla_backend_optimization_level=0"
FLAGS += " --xla_cpu_parallel_codegen_split_count=1"
if tuple(map(int, tf.__version__.split(".")[:2])) >= (2, 21):
    FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", FLAGS)

# On a GPU numbers are compared in full, too.
tf.config.experimental.enable_tensor_float_32_execution(False)

# It is so in any case; but TensorFlow asks for it in every call, and is told
# eight times as fast what has been set.
tf.debugging.enable_traceback_filtering()

# Tests of replicas need two devices, and they cannot be made later.
[cpu] = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)

# What a test has in common with others is prepared eagerly, too.
tf.config.run_functions_eagerly(True)


def pytest_itemcollected(item):
    """Marks what compiles by its parameter, and the examples, `compiled`.

    But for examples that ask for the fixture `eagerly`.
    """
    given = item.callspec.params if hasattr(item, "callspec") else {}
    jit = given.get("jit") is True or given.get("jit_compile") is True
    example = item.path.parent.name == "examples"
    if jit or (example and "eagerly" not in item.fixturenames):
        item.add_marker("compiled")


plain_clear_session = keras.utils.clear_session


def clear_session():
    """Has Keras count its layers from one; TensorFlow keeps its kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf, "executing_eagerly", lambda: False)
        plain_clear_session(free_memory=False)


@pytest.fixture
def eagerly(monkeypatch):
    """For an example's test in which so few steps run that tracing is all."""
    for module in keras.backend, keras.utils:
        monkeypatch.setattr(module, "clear_session", clear_session)


@pytest.fixture(autouse=True, scope="session")
def one_seed_of_tensorflow():
    """Sets TensorFlow's own seed once.

    To set it again is to forget every kernel that TensorFlow has made, and
    making them is half the time of an eager test. Tests draw by NumPy or Keras.
    """
    tf.random.set_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tf.random, "set_seed", lambda seed: None)
        yield


def of_arrays(operation):
    """`operation`, given each list of numbers as the array of them.

    Eagerly TensorFlow takes longer to read the list than to do the operation.
    """

    def array(given):
        listed = isinstance(given, (list, tuple))
        if listed and all(isinstance(each, int) for each in given):
            return np.array(given, "int32")
        return given

    def run(*args, **kwargs):
        named = {name: array(given) for name, given in kwargs.items()}
        return operation(*map(array, args), **named)

    return run


@pytest.fixture(autouse=True, scope="session")
def lists_are_arrays():
    """Gives the two operations that most often take a list an array."""
    with pytest.MonkeyPatch.context() as patch:
        for name in "reshape", "transpose":
            patch.setattr(tf, name, of_arrays(getattr(tf, name)))
        yield


@pytest.fixture(autouse=True, scope="session")
def data_is_not_tuned():
    """Reads all data without the thread that watches and tunes a pipeline.

    Freeing an iterator waits for that thread, and where training was stopped it
    may sleep for half a minute. Nor is a pipeline rewritten before its first
    batch, which takes longer than the few batches of a test.
    """
    plain = tf.data.Dataset.__iter__
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tf.data.Dataset,
            "__iter__",
            lambda self: plain(self.with_options(options)),
        )
        yield


def of_one_batch(run):
    """A run of one batch that tells of that alone.

    Before Keras 3.15 it goes on with the metrics of the batches before.
    """

    @functools.wraps(run)
    def reset_and_run(self, *args, **kwargs):
        self.reset_metrics()
        return run(self, *args, **kwargs)

    return reset_and_run


@pytest.fixture(autouse=True, scope="session")
def metrics_of_one_batch():
    """Has every Keras reset the metrics of a batch as the newest does."""
    with pytest.MonkeyPatch.context() as patch:
        for name in "train_on_batch", "test_on_batch":
            run = of_one_batch(getattr(keras.Model, name))
            patch.setattr(keras.Model, name, run)
        yield


@pytest.fixture(autouse=True)
def fresh_session():
    """Gives every test the same seeds and layer names, in whatever order."""
    clear_session()
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def eager_unless_compiled(request, monkeypatch):
    """Runs a test eagerly, unless it is marked `compiled`.

    A claim about numbers needs no compiled step: an eager window takes a fifth
    of the time that tracing takes, and a tenth of that of XLA. That compiled is
    eager is a claim of its own, made once for each method and kind of cell.
    """
    if request.node.get_closest_marker("compiled"):
        tf.config.run_functions_eagerly(False)
        yield
        tf.config.run_functions_eagerly(True)
        return
    plain = ksg.SequenceModel.compile

    def compile(self, *args, **kwargs):
        asked = kwargs.get("jit_compile") is True
        asked = asked and not kwargs.get("run_eagerly")
        assert not asked, "jit_compile=True: mark the test `compiled`"
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(ksg.SequenceModel, "compile", compile)
    for run in ("fit", "evaluate", "predict"):
        plain_run = getattr(keras.Model, run)
        monkeypatch.setattr(keras.Model, run, array_data.quick(plain_run))
    yield


@pytest.fixture(autouse=True, scope="session")
def told_by_tensorflow():
    """What TensorFlow logs of what nobody should have done.

    Of a TensorArray that nobody looked at it does so when the array is freed,
    which may be in a later test; of a watched integer five times.
    """
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    handler.addFilter(
        lambda record: re.search(
            "never used|watched tensor must be floating", record.getMessage()
        )
    )
    tf.get_logger().addHandler(handler)
    yield said
    assert not said
