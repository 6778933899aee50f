"""Each network's check, once in a run of the tests."""

import hashlib
import json
import os
import re

import keras
import pytest

from keras_seqgrad.network import cuttable
from keras_seqgrad.network.refusals import CannotCut

# Files of `tests/network` that are about the check itself.
OF_THE_CHECK = {
    f"test_{name}.py"
    for name in ("attacks", "more_attacks", "cuttable", "everyday", "example")
}
# What a configuration tells nothing of: classes and functions of a test.
OWN = re.compile(
    r'"module": "(?!keras[".]|keras_seqgrad[".]|tests\.zoo")|"__lambda__"'
)
NAME = re.compile(r'"(\w+?)(_\d+)?"')


def configuration(network):
    """All that makes a network, whatever its session has made before it.

    None if it has layers of a test's own.
    """
    try:
        found = keras.saving.serialize_keras_object(network)
        text = json.dumps(found, sort_keys=True)
    except (NotImplementedError, TypeError, ValueError):
        # No configuration; Keras 3.11 fails on the message that says so.
        return None
    names = {}

    def renumbered(match):
        numbers = names.setdefault(match[1], {})
        return f"{match[1]}:{numbers.setdefault(match[2], len(numbers))}"

    return None if OWN.search(text) else NAME.sub(renumbered, text)


class Checked:
    """What each network's check has told, layer by layer, to run as a whole.

    The workers of a run share the folder.
    """

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def path(self, known):
        return self.folder / hashlib.sha256(known.encode()).hexdigest()

    def find(self, known):
        """What was told of a configuration, or None."""
        try:
            told = json.loads(self.path(known).read_text())
        except FileNotFoundError:
            return None
        return [CannotCut(*each) for each in told]

    def keep(self, known, told):
        told = [(str(found), found.layer) for found in told]
        path = self.path(known)
        # Another worker finds all of it, or nothing.
        half = path.with_suffix(f".{os.getpid()}")
        half.write_text(json.dumps(told))
        half.replace(path)


@pytest.fixture(scope="session")
def checked(tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return Checked(folder / "checked")


@pytest.fixture(autouse=True)
def check_each_network_once(request, monkeypatch, checked):
    """Lets a network pass that `compile` has checked in another test.

    The check takes a third of a small model's time, and most tests are made of
    the same few networks. A network is known by its whole configuration. One
    that has layers of a test's own is always checked, and so are all in the
    files of `tests/network` that test the check.
    """
    if request.path.name in OF_THE_CHECK:
        return
    check = cuttable.check

    def once(graph, example=None):
        known = configuration(graph.original) if example is None else None
        told = None if known is None else checked.find(known)
        if told is not None:
            for found in told:
                graph.leave_to_head(found)
            return
        told, leave_to_head = [], graph.leave_to_head

        def leave(found):
            told.append(found)
            leave_to_head(found)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(graph, "leave_to_head", leave)
            check(graph, example)
        if known is not None:
            checked.keep(known, told)

    monkeypatch.setattr(cuttable, "check", once)
