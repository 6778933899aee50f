"""Kinds of arguments, and which odd values are legal for each."""

import functools
from typing import NamedTuple

import keras
import numpy as np

import keras_seqgrad as ksg

VALUES = {
    "None": None,
    "'no'": "no",
    "-1": -1,
    "0": 0,
    "2.5": 2.5,
    "inf": float("inf"),
    "nan": float("nan"),
    "True": True,
    "[]": [],
    "{}": {},
    "object": object(),
    "function": lambda *_: None,
    "[0]": [0],
}

# Kind of an argument -> its values that are legal; behind a "~" those that are
# of the kind, and wrong for another reason.
KINDS = {
    "count": "",
    "index": "0",
    "integer": "0 -1",
    "seed": "0",
    "flag": "True",
    "above 0": "2.5",
    "0 or above": "2.5 0",
    "above 2": "2.5",
    "share": "",
    "share or 0": "0",
    "real": "2.5 0 -1",
    "name": "",
    "dict": "{}",
    "path": "'no'",
    "function": "function",
    "step": "~function",
    "bytes": "~2.5",
    "state": "~'no' ~-1 ~0 ~2.5 ~inf ~nan ~True ~[] ~{} ~[0]",
    "series": "~[0]",
    "age": "2.5 []",
    "ids": "0 [] [0]",
    "positions": "[0]",
    "tokens": "'no' [] {}",
    "nats": "2.5 0 -1 inf nan",
    "list": "[]",
    "rows": "0 -1 [] [0]",
    "other": "",
}


class Call(NamedTuple):
    """A call that is right, and the kinds of its arguments.

    Attributes:
        make: Function of the keyword arguments.
        good: Keyword arguments that are right.
        kinds: Kind of each argument; "?" behind it: None is legal, too.
        said: What an error names instead of an argument, if not that.
        dear: It takes long, and is made once when it is right.
    """

    make: object
    good: dict
    kinds: dict
    said: dict = {}
    dear: bool = False


def legal(kind):
    """Names of the values that an argument of this kind may have."""
    return {name for name in _of_kind(kind) if not name.startswith("~")}


def bad(kind):
    """Names of the values that an argument of this kind may not have."""
    its_own = {name.lstrip("~") for name in _of_kind(kind)}
    return [name for name in VALUES if name not in its_own]


def _of_kind(kind):
    return [*KINDS[kind.rstrip("?")].split(), *["None"] * kind.endswith("?")]


@functools.cache
def data():
    return np.ones((2, 4, 1), "float32"), np.ones((2, 4, 2), "float32")


def network():
    return keras.Sequential(
        [
            keras.Input((None, 1)),
            keras.layers.SimpleRNN(2, return_sequences=True),
        ]
    )


@functools.cache
def model(method="bptt", stateful=False):
    made = ksg.SequenceModel.from_model(network(), stateful=stateful)
    made.compile("sgd", "mse", method=method)
    if stateful:
        made.train_on_batch(*data())
    return made


def profile():
    norms = {"all": 0.5 ** np.arange(9)}
    return ksg.diagnostics.InfluenceProfile(norms, norms)


def generator():
    return np.random.default_rng(0)
