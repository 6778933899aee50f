"""What Python does at every call, and tests can spare it.

A training of Keras is calls within calls, dozens deep, and TensorFlow looks at
them in every operation. What a test finds is the same without.
"""

import functools
import inspect
import sys
import typing

import pytest

from keras_seqgrad import SequenceModel
from keras_seqgrad.methods import TruncatedBPTT
from tests import zoo

# Of what is no tensor TensorFlow asks at every operation whether it keeps a
# protocol, which Python remembers from 3.12 on. Before, it looks through all of
# the protocol's classes anew.
if sys.version_info < (3, 12):
    for name in "_get_protocol_attrs", "_is_callable_members_only":
        setattr(typing, name, functools.cache(getattr(typing, name)))

# Numbers that a frame asks room for; it gets twice as much.
ROOM = 66_000


def with_room(run):
    """`run`, in whose frame's piece of memory there is room for what it calls.

    Frames lie in pieces of 16 KiB, and a call from the end of one piece takes a
    new one from the system, to give it back when it returns. A larger frame is
    given a larger piece.
    """

    def roomy(*args, **kwargs):
        return run(*args, **kwargs)

    roomy.__code__ = roomy.__code__.replace(co_stacksize=ROOM)
    return roomy


def remembering(read):
    """`read`, which reads signatures, once for each function of a module.

    Keras asks for those of a layer's methods with every layer that it makes,
    TensorFlow for those of its own functions with every call of some.
    """
    known = functools.cache(read)

    def remembered(kind, function, *args, **kwargs):
        # Kept ones stay; what is made within a function holds what it is of.
        inner = "<locals>" in getattr(function, "__qualname__", "<locals>")
        return (read if inner else known)(kind, function, *args, **kwargs)

    return remembered


inspect._signature_from_function = remembering(inspect._signature_from_function)


def pytest_itemcollected(item):
    if isinstance(item, pytest.Function):
        item.runtest = with_room(item.runtest)


@pytest.fixture(autouse=True, scope="session")
def lines_are_remembered(data_is_not_tuned):
    """Trains a model once under a tracer that does nothing.

    With every operation TensorFlow notes the lines of thirty callers, and
    Python counts each from the first line of its function: half of the time of
    a small operation. Of a function that was traced it keeps a list of them.
    """
    if sys.version_info < (3, 12) and sys.gettrace() is None:
        model = SequenceModel.from_model(zoo.network())
        sys.settrace(lambda *event: None)
        try:
            model.compile("sgd", "mse", method=TruncatedBPTT(zoo.STEPS // 2))
            model.fit(*zoo.data(), verbose=0)
        finally:
            sys.settrace(None)
