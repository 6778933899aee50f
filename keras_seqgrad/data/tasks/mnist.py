"""Sequential and permuted MNIST: an image, one pixel at a time."""

import gzip
import math
import operator
import pathlib
from os import PathLike
from typing import Literal

import numpy as np
import tensorflow as tf

from keras_seqgrad.data import prepared
from keras_seqgrad.tensors import arguments

PREFIXES = {"train": "train", "test": "t10k"}
FILES = {
    split: (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
    for split, prefix in PREFIXES.items()
}
# Sizes that a file may have at most, by which what is unpacked is bounded.
LARGEST = {"images": (60_000, 28, 28), "labels": (60_000,)}


class SequentialMNIST:
    """Read a digit of MNIST pixel by pixel, row by row, and name it.

    784 steps of one grey value; with `permuted=True` in one random order, the
    same for all images, which takes away what neighbouring pixels tell. A test
    of memory over many steps on real data; a convolution sees the same image
    at once, so it says nothing about image recognition.

    The images come from the four idx files in `path`, packed (`.gz`) or not,
    or through tensorflow-datasets. Without the network the call fails at once
    when neither is there.

    Shapes: x float32 (batch, 784, 1) in [0, 1], y int32 (batch,).

    `reference_error` is the cross-entropy of guessing, ln 10;
    `chance_accuracy` is 0.1.

    Args:
        permuted: Whether the pixels are permuted.
        permutation_seed: Integer seed of the permutation.
        path: Folder of the idx files.
        data_dir: Folder of tensorflow-datasets. Default: its own.
        download: Whether tensorflow-datasets may use the network.

    Raises:
        FileNotFoundError: Neither files nor prepared data are there.
        ValueError: A file does not have the idx format.

    Reference:
        Le, Jaitly and Hinton, 2015. A simple way to initialize recurrent
        networks of rectified linear units. arXiv:1504.00941.

    Example:

    >>> task = ksg.data.tasks.SequentialMNIST(
    ...     download=True
    ... )  # doctest: +SKIP
    """

    reference_error = math.log(10)
    chance_accuracy = 0.1

    def __init__(
        self,
        permuted: bool = False,
        *,
        permutation_seed: int = 0,
        path: str | PathLike | None = None,
        data_dir: str | PathLike | None = None,
        download: bool = False,
    ) -> None:
        if path is not None:
            arguments.path(path, "path", "the path of a folder, or None")
        self.permutation = None
        permutation_seed = arguments.integer(
            permutation_seed, "permutation_seed", 0
        )
        if arguments.flag(permuted, "permuted"):
            generator = np.random.default_rng(permutation_seed)
            self.permutation = generator.permutation(784)
        if path is not None:
            self.splits = {split: _read(path, split) for split in FILES}
        else:
            self.splits = _prepared(data_dir, download)

    def dataset(
        self,
        batch_size: int,
        steps: int | None = None,
        seed: int | None = None,
        split: Literal["train", "test"] = "train",
    ) -> tf.data.Dataset:
        """Batches of one split, in a new order in each pass.

        Args:
            batch_size: Images in a batch; an incomplete last batch is dropped.
            steps: Batches in one pass. Default: all.
            seed: Integer seed of the order.
            split: "train" (60,000 images) or "test" (10,000).
        """
        arguments.choice(split, "split", tuple(self.splits))
        seed = arguments.seed(seed)
        batch_size = arguments.positive_integer(batch_size, "batch_size")
        images, labels = self.splits[split]
        if self.permutation is not None:
            images = images[:, self.permutation]

        def scale(image, label):
            pixels = tf.cast(image[..., tf.newaxis], "float32") / 255.0
            return pixels, tf.cast(label, "int32")

        dataset = tf.data.Dataset.from_tensor_slices((images, labels))
        dataset = dataset.shuffle(len(labels), seed=seed)
        dataset = dataset.batch(batch_size, drop_remainder=True).map(scale)
        if steps is not None:
            dataset = dataset.take(arguments.positive_integer(steps, "steps"))
        return dataset.prefetch(tf.data.AUTOTUNE)


def _read(path, split):
    images, labels = (_read_idx(pathlib.Path(path), f) for f in FILES[split])
    return images.reshape(len(images), -1), labels


def _read_idx(folder, name):
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.exists():
        opened = plain.open("rb")
    elif packed.exists():
        opened = gzip.open(packed)
    else:
        raise FileNotFoundError(
            f"The folder must have the four idx files of MNIST; {name} is "
            f"missing, with or without .gz. Received: path={str(folder)!r}"
        )
    with opened as file:
        return _parse_idx(file, name)


def _parse_idx(file, name):
    """The array in an idx file; no more is read than it may hold."""
    # idx: two zero bytes, type 8 (unsigned byte), rank, then the sizes.
    start = file.read(4)
    if start[:3] != b"\x00\x00\x08":
        raise ValueError(
            "An idx file of unsigned bytes starts with 00 00 08. "
            f"Received: {start[:3].hex(' ')} in {name}"
        )
    largest = LARGEST["images" if "images" in name else "labels"]
    rank = start[3] if len(start) == 4 else 0
    sizes = np.frombuffer(file.read(4 * rank), dtype=">u4").tolist()
    fits = len(sizes) == len(largest) == rank
    if not fits or any(map(operator.gt, sizes, largest)):
        raise ValueError(
            f"{name} must hold an array of at most {largest}. Received: "
            f"{tuple(sizes)} of rank {rank}"
        )
    count = math.prod(sizes)
    data = file.read(count + 1)
    if len(data) != count:
        received = "more" if len(data) > count else len(data)
        raise ValueError(
            f"{name} must hold {count} values, as its head says. Received: "
            f"{received}"
        )
    return np.frombuffer(data, dtype="uint8").reshape(sizes)


def _prepared(data_dir, download):
    files = [f"{name}.gz" for names in FILES.values() for name in names]
    builder = prepared.load("mnist", files, data_dir, download)
    splits = {}
    for split in FILES:
        data = builder.as_dataset(split=split, as_supervised=True)
        images, labels = next(iter(data.batch(100_000)))
        images = images.numpy().reshape(len(images), -1)
        splits[split] = images, labels.numpy()
    return splits
