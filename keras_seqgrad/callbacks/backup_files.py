"""Files that are whole, or known not to be.

A file is written under another name, forced to the disk and only then given its
own, so a stop at any moment leaves the files there were. It ends with a digest
of all before it, so one that was damaged later is known.

    magic   length of the head   head (JSON)   arrays, one by one   digest
"""

import contextlib
import hashlib
import json
import math
import os
import pathlib
import warnings

import numpy as np

MAGIC = b"keras_seqgrad state 1\n"
UNFINISHED = "unfinished.tmp"


class Backups:
    """The states of a run in a folder, the latest ones.

    Args:
        folder: The folder, made when it is needed.
        keep: How many are kept.
    """

    def __init__(self, folder, keep):
        self.folder = pathlib.Path(folder)
        self.keep = keep

    @property
    def paths(self):
        """The files, the latest first."""
        numbered = self.folder.glob("state-*.backup")
        return sorted(numbered, key=number, reverse=True)

    def write(self, head, snapshot):
        """Adds a state, and deletes those that are too old then.

        Args:
            head: What JSON can hold.
            snapshot: Lists of arrays by name.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        before = self.paths
        place = number(before[0]) + 1 if before else 1
        unfinished = self.folder / UNFINISHED
        with open(unfinished, "wb") as file:
            for part in parts(head, snapshot):
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, self.folder / f"state-{place:06d}.backup")
        self._force()
        for path in self.paths[self.keep :]:
            path.unlink()

    def _force(self):
        """Forces the new name to the disk, where folders can be."""
        if hasattr(os, "O_DIRECTORY"):
            folder = os.open(self.folder, os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def read(self):
        """(head, snapshot) of the latest file that is whole; None without any.

        Warns of every file that is passed over.

        Raises:
            OSError: There are files, and none of them is whole.
        """
        damaged = []
        for path in self.paths:
            try:
                found = parse(path.read_bytes())
            except (OSError, ValueError) as error:
                damaged.append(f"{path.name} ({error})")
                continue
            if damaged:
                warnings.warn(
                    f"Not readable in {self.folder}: {', '.join(damaged)}. "
                    f"Training goes on from the state before, {path.name}.",
                    stacklevel=2,
                )
            return found
        if damaged:
            raise OSError(
                f"No state in {self.folder} is whole: {', '.join(damaged)}. "
                "Delete the files to start anew."
            )
        return None

    def delete(self):
        """Deletes the files, and the folder unless it holds others."""
        for path in [self.folder / UNFINISHED, *reversed(self.paths)]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def number(path):
    digits = path.stem.removeprefix("state-")
    return int(digits) if digits.isdecimal() else 0


def parts(head, snapshot):
    """The bytes of a file, piece by piece."""
    kinds = {
        name: [(array.dtype.name, array.shape) for array in arrays]
        for name, arrays in snapshot.items()
    }
    text = json.dumps([head, kinds]).encode()
    digest = hashlib.blake2b()
    pieces = [MAGIC, len(text).to_bytes(8, "little"), text]
    pieces += [a.tobytes() for arrays in snapshot.values() for a in arrays]
    for piece in pieces:
        digest.update(piece)
        yield piece
    yield digest.digest()


def parse(data):
    """(head, snapshot) of the bytes of a file.

    Raises:
        ValueError: They are not what was written.
    """
    size = hashlib.blake2b().digest_size
    data = memoryview(data)
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError("no state")
    if hashlib.blake2b(data[:-size]).digest() != data[-size:]:
        raise ValueError("damaged")
    place = len(MAGIC) + 8
    length = int.from_bytes(data[len(MAGIC) : place], "little")
    head, kinds = json.loads(bytes(data[place : place + length]))
    place += length

    def following(dtype, shape):
        nonlocal place
        # Those of eight bits and of bfloat16 have names that NumPy knows by
        # the package ml_dtypes, which TensorFlow brings.
        dtype = np.dtype(dtype)
        count = math.prod(shape)
        array = np.frombuffer(data, dtype, count, place).reshape(shape)
        place += array.nbytes
        return array

    return head, {
        name: [following(*kind) for kind in of_group]
        for name, of_group in kinds.items()
    }
