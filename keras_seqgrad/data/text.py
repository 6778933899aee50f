"""Text corpora: three arrays of token ids and the vocabulary that made them.

`get` takes a name or a path; each source is also a function of its own:
`stdlib` needs nothing but Python, `tiny_shakespeare` tensorflow-datasets,
`load` reads files, folders, the Penn Treebank and WikiText. Tokens are
characters, words, or what a tokenizer of another library makes of the text.
"""

import dataclasses
import math
import pathlib
import sysconfig
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_seqgrad.data import files, prepared
from keras_seqgrad.data.tokenizer import Tokenizer
from keras_seqgrad.data.vocabulary import (
    UNKNOWN,
    Level,
    Vocabulary,
    check_level,
)
from keras_seqgrad.tensors import arguments

__all__ = [
    "Corpus",
    "Tokenizer",
    "Vocabulary",
    "bits",
    "get",
    "load",
    "stdlib",
    "tiny_shakespeare",
    "unigram_entropy",
]


@dataclasses.dataclass(frozen=True)
class Corpus:
    """A text as ids: three splits and the vocabulary they were made with.

    What `get`, `load`, `stdlib` and `tiny_shakespeare` return.

    Args:
        train: int32 array (time,), the training split.
        valid: int32 array (time,), the validation split.
        test: int32 array (time,), the test split.
        vocabulary: The `Vocabulary` of all three, or the `Tokenizer`.
        name: Name of the corpus or of its file.
        level: "character", "word", or "token" of a tokenizer.

    Example:

    >>> corpus = ksg.data.text.stdlib(limit=1000)
    >>> len(corpus.train), corpus.level
    (900, 'character')
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    vocabulary: Vocabulary | Tokenizer
    name: str
    level: str


def get(
    name_or_path: str | PathLike, level: Level = "character", **options: Any
) -> Corpus:
    """A corpus by name ("stdlib", "tiny_shakespeare") or by path.

    Args:
        name_or_path: A name, or the path of a text file or of a folder.
        level: "character" or "word".
        **options: For the source: see `stdlib`, `tiny_shakespeare`, `load`.

    Returns:
        A `Corpus`.

    Raises:
        ValueError: Neither a known name nor an existing path.

    Example:

    >>> corpus = ksg.data.text.get("stdlib", limit=100_000)
    >>> len(corpus.train), len(corpus.valid), len(corpus.test)
    (90000, 5000, 5000)
    """
    arguments.path(name_or_path, "name_or_path", "a name, or a path")
    if name_or_path in NAMES:
        return NAMES[name_or_path](level=level, **options)
    if pathlib.Path(name_or_path).exists():
        return load(name_or_path, level=level, **options)
    raise ValueError(
        "A corpus is one of the names "
        f"{', '.join(map(repr, NAMES))}, or the path of an existing text file "
        f"or folder. Received: name_or_path={name_or_path!r}"
    )


def stdlib(
    level: Level = "character",
    limit: int = 1_500_000,
    size: int | None = None,
    tokenizer: Any = None,
) -> Corpus:
    """The source code of Python's standard library: text on every machine.

    The modules at the top of the library (no packages), in alphabetical order,
    those with nothing but ASCII characters, up to `limit` characters; split
    into 90, 5 and 5 %. The text depends on the version of Python: compare
    figures within one version only.

    Args:
        level: "character" or "word".
        limit: Largest number of characters.
        size: Largest number of words in the vocabulary.
        tokenizer: As for `load`.

    Raises:
        FileNotFoundError: This Python has no source files.

    Example:

    >>> corpus = ksg.data.text.stdlib(limit=2000)
    >>> len(corpus.valid)
    100
    """
    level, tokenizer = _tokens(level, size, tokenizer)
    arguments.positive_integer(limit, "limit")
    folder = pathlib.Path(sysconfig.get_path("stdlib"))
    texts, length = [], 0
    for path in sorted(folder.glob("*.py")):
        data = path.read_bytes()
        if data.isascii() and length < limit:
            texts.append(data.decode("ascii").replace("\r\n", "\n"))
            length += len(texts[-1])
    if not texts:
        raise FileNotFoundError(
            "This Python keeps no source files of its standard library. Give "
            f"a text file: get(path). Received: *.py in {folder}, none found"
        )
    texts = files.split("".join(texts)[:limit])
    return _corpus(texts, level, size, "stdlib", tokenizer)


def tiny_shakespeare(
    level: Level = "character",
    size: int | None = None,
    data_dir: str | PathLike | None = None,
    download: bool = False,
    tokenizer: Any = None,
) -> Corpus:
    """Forty thousand lines of Shakespeare, through tensorflow-datasets.

    1,115,394 characters of 65 kinds, split into 90, 5 and 5 %. Without the
    network the call fails at once unless the data is prepared in `data_dir` or
    `input.txt` lies in its folder `downloads/manual`. Have you got the file
    itself? Then `load(path)` gives the same.

    Args:
        level: "character" or "word".
        size: Largest number of words in the vocabulary.
        data_dir: Folder of tensorflow-datasets. Default: its own.
        download: Whether the network may be used.
        tokenizer: As for `load`.

    Raises:
        FileNotFoundError: The data is not there and `download` is False.
        ImportError: tensorflow-datasets is not installed.

    Example:

    >>> corpus = ksg.data.text.tiny_shakespeare(
    ...     download=True
    ... )  # doctest: +SKIP
    """
    level, tokenizer = _tokens(level, size, tokenizer)
    builder = prepared.load(
        "tiny_shakespeare", ["input.txt"], data_dir, download
    )
    texts = []
    for split in ("train", "validation", "test"):
        for example in builder.as_dataset(split=split).take(1):
            texts.append(example["text"].numpy().decode("utf-8"))
    return _corpus(texts, level, size, "tiny_shakespeare", tokenizer)


def load(
    path: str | PathLike,
    level: Level = "character",
    size: int | None = None,
    suffixes: Sequence[str] = (".txt",),
    tokenizer: Any = None,
) -> Corpus:
    """A corpus from a text file or a folder; `.gz` is unpacked on the way.

    * A file is split into 90, 5 and 5 % by position.
    * A folder with the three files of a known corpus keeps their splits:
      `ptb.train.txt` (Penn Treebank), `train.txt` or `wiki.train.tokens`
      (WikiText) and the same with `valid` and `test`. At level "character",
      `ptb.char.train.txt` is preferred; where every second character of all
      three files is a space, these spaces only separate and are removed.
    * Any other folder: all its files with one of `suffixes`, in the order of
      their paths, as one text, split as a file is.

    The vocabulary of words comes from the training split; `<unk>` is added
    when another split has a word that is not in it. The vocabulary of
    characters comes from all splits.

    Args:
        path: A file or a folder.
        level: "character" or "word".
        size: Largest number of words in the vocabulary.
        suffixes: Which files of a folder are read.
        tokenizer: A tokenizer of another library, or a `Tokenizer`, for
            sub-word tokens; each split is encoded in one call. `level` and
            `size` are its own then. None for a `Vocabulary`.

    Raises:
        FileNotFoundError: No such path, or no file to read in the folder.
        ValueError: `tokenizer` is none, or stands beside `level` or `size`.

    Example:

    >>> corpus = ksg.data.text.load("book.txt")  # doctest: +SKIP
    """
    level, tokenizer = _tokens(level, size, tokenizer)
    path = pathlib.Path(arguments.path(path, "path"))
    if (
        not isinstance(suffixes, (list, tuple))
        or not suffixes
        or not all(isinstance(suffix, str) for suffix in suffixes)
    ):
        arguments.refuse(suffixes, "suffixes", "a list or tuple of strings")
    if path.is_dir():
        texts = files.known_splits(path, level)
        texts = texts or files.split(files.join(path, suffixes))
    elif path.exists():
        texts = files.split(files.read(path))
    else:
        raise FileNotFoundError(
            f"No text file or folder at this path. Received: path={str(path)!r}"
        )
    return _corpus(texts, level, size, path.name, tokenizer)


NAMES = {"stdlib": stdlib, "tiny_shakespeare": tiny_shakespeare}


def bits(nats: Any) -> Any:
    """Converts a loss from nats, Keras' unit, to bits.

        bits = nats / ln 2

    Args:
        nats: A number, array or tensor.

    Example:

    >>> round(ksg.data.text.bits(1.0), 4)
    1.4427
    """
    if not hasattr(nats, "shape") and not arguments.is_real(nats):
        arguments.refuse(nats, "nats", "a number, or an array of numbers")
    return nats / math.log(2)


def unigram_entropy(tokens: Corpus | npt.ArrayLike) -> float:
    """Bits per token of the best model without memory: the score to beat.

    For a `Corpus`: the cross-entropy of the frequencies in `train` on `valid`,
    with one added to every count so that no token is impossible. For an array
    of ids: the entropy of their own frequencies.

        H = - sum over tokens of q(token) * log2 p(token)

    Args:
        tokens: A `Corpus`, or an array of ids.

    Raises:
        ValueError: An array of ids has another dtype, or a negative id.

    Example:

    >>> float(ksg.data.text.unigram_entropy(np.array([0, 1, 2, 3])))
    2.0
    """
    if isinstance(tokens, Corpus):
        count = len(tokens.vocabulary)
        model = np.bincount(tokens.train, minlength=count) + 1
        seen = np.bincount(tokens.valid, minlength=count)
    else:
        wanted = "a Corpus or an array of ids, integers from 0 on"
        ids = arguments.array(tokens, "tokens", wanted)
        if ids.dtype.kind not in "iu" or not ids.ndim or not ids.size:
            arguments.refuse(tokens, "tokens", wanted)
        ids = ids.ravel()
        if ids.min() < 0:
            raise ValueError(
                f"`tokens` must be {wanted}. Received: smallest {ids.min()}"
            )
        seen = model = np.bincount(ids)
    used = seen > 0
    probability = model[used] / model.sum()
    return -np.sum(seen[used] / seen.sum() * np.log2(probability))


def _tokens(level, size, tokenizer):
    """The level of a corpus, and the `Tokenizer` or None that encodes it."""
    check_level(level)
    if tokenizer is None:
        return level, None
    if level != "character" or size is not None:
        raise ValueError(
            "A tokenizer says itself what a token is and how many there are: "
            "leave `level` and `size` out. "
            f"Received: level={level!r}, size={size!r} beside `tokenizer`"
        )
    known = isinstance(tokenizer, Tokenizer)
    return "token", tokenizer if known else Tokenizer(tokenizer)


def _corpus(texts, level, size, name, tokenizer=None):
    if tokenizer is not None:
        vocabulary = tokenizer
    elif level == "character":
        vocabulary = Vocabulary.from_text("".join(texts), level, size)
    else:
        vocabulary = Vocabulary.from_text(texts[0], level, size)
        if UNKNOWN not in vocabulary and not _covers(vocabulary, texts):
            vocabulary = Vocabulary([*vocabulary.tokens, UNKNOWN], level)
    arrays = {
        split: vocabulary.encode(text)
        for split, text in zip(files.SPLITS, texts, strict=True)
    }
    return Corpus(**arrays, vocabulary=vocabulary, name=name, level=level)


def _covers(vocabulary, texts):
    return all(word in vocabulary for text in texts for word in text.split())
