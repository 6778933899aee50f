"""The tokens a model knows: text to integer ids and back."""

import json
import pathlib
from collections.abc import Iterable
from os import PathLike
from typing import Any, Literal, Self

import keras
import numpy as np
import numpy.typing as npt

from keras_seqgrad.tensors import arguments

UNKNOWN = "<unk>"
END_OF_LINE = "<eos>"
LEVELS = ("character", "word")
Level = Literal["character", "word"]


def check_level(level):
    return arguments.choice(level, "level", LEVELS)


def split_text(text, level):
    """Tokens of a text: its characters, or its words and line ends.

    Words are what stands between white space; every line end becomes the word
    `<eos>` (Mikolov's convention for the Penn Treebank).
    """
    if level == "character":
        return text
    words = []
    for line in text.splitlines():
        words += line.split()
        words.append(END_OF_LINE)
    return words


@keras.saving.register_keras_serializable("keras_seqgrad")
class Vocabulary:
    """Maps the tokens of a text to the integers 0, 1, … and back.

    Saved by `save` as JSON, or with a model that holds it: it is a Keras
    serializable object, so a layer or model may put it into its `get_config`
    by `keras.saving.serialize_keras_object`. Not for sub-word
    tokens: see `Tokenizer`.

    A character that is not in the vocabulary is refused; a word that is not
    becomes `<unk>` if the vocabulary has this word, and is refused otherwise.

    Args:
        tokens: The distinct tokens; the position of a token is its id.
        level: "character" or "word".

    Raises:
        ValueError: A token appears twice, is not a single character at level
            "character", or `level` is unknown; `encode` meets a token that is
            not in the vocabulary.

    Example:

    >>> vocabulary = ksg.data.text.Vocabulary("abc", level="character")
    >>> vocabulary.encode("cab").tolist()
    [2, 0, 1]
    >>> vocabulary.decode([2, 0, 1])
    'cab'
    """

    def __init__(
        self, tokens: Iterable[str], level: Level = "character"
    ) -> None:
        if not isinstance(tokens, Iterable) or not all(
            isinstance(token, str) for token in tokens
        ):
            arguments.refuse(tokens, "tokens", "strings")
        self.tokens = tuple(tokens)
        self.level = check_level(level)
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        if len(self._ids) != len(self.tokens):
            raise ValueError(
                "`tokens` must be distinct. "
                f"Received: {len(self.tokens)} tokens, of which "
                f"{len(self._ids)} are distinct"
            )
        if level == "character" and any(len(t) != 1 for t in self.tokens):
            longer = next(t for t in self.tokens if len(t) != 1)
            raise ValueError(
                "Each token must be one character at level 'character'; use "
                f"level='word' for longer ones. Received: {longer!r}"
            )

    @classmethod
    def from_text(
        cls, text: str, level: Level = "character", size: int | None = None
    ) -> Self:
        """The vocabulary of a text, its most frequent tokens first.

        Args:
            text: A string.
            level: "character" or "word".
            size: Largest number of words, `<unk>` included, which then stands
                for the rarer ones. Default: all.
        """
        check_level(level)
        arguments.text(text, "text")
        if size is not None:
            size = arguments.positive_integer(size, "size")
        tokens, counts = np.unique(
            list(split_text(text, level)), return_counts=True
        )
        # Stable: equally frequent tokens stay in their alphabetical order.
        order = np.argsort(-counts, kind="stable")
        tokens = [str(tokens[index]) for index in order]
        if size is not None:
            if level == "character" or size < 2:
                raise ValueError(
                    "`size` limits a vocabulary of words to 2 or more; "
                    "characters are all kept. "
                    f"Received: size={size!r} at level {level!r}"
                )
            if size < len(tokens):
                kept = [token for token in tokens if token != UNKNOWN]
                tokens = [*kept[: size - 1], UNKNOWN]
        return cls(tokens, level)

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __eq__(self, other):
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return self.get_config() == other.get_config()

    def __hash__(self):
        return hash((self.tokens, self.level))

    def encode(self, text: str) -> np.ndarray:
        """Ids of a text's tokens, an int32 array (time,)."""
        tokens = split_text(arguments.text(text, "text"), self.level)
        unknown = None
        if self.level == "word":
            unknown = self._ids.get(UNKNOWN)
        ids = [self._ids.get(token, unknown) for token in tokens]
        if None in ids:
            position = ids.index(None)
            raise ValueError(
                "The text has a token that the vocabulary does not know. Build "
                "the vocabulary from a text that has it"
                + (f", or add {UNKNOWN!r} to it" * (self.level == "word"))
                + f". Received: {tokens[position]!r} at position {position}"
            )
        return np.array(ids, dtype="int32")

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of a sequence of ids; `<eos>` becomes a line end."""
        ids = arguments.array(ids, "ids").ravel()
        whole = not ids.size or np.issubdtype(ids.dtype, np.integer)
        if not whole or np.any(ids < 0) or np.any(ids >= len(self)):
            arguments.refuse(ids, "ids", f"integers from 0 to {len(self) - 1}")
        tokens = [self.tokens[int(index)] for index in ids]
        if self.level == "character":
            return "".join(tokens)
        text = " ".join("\n" if t == END_OF_LINE else t for t in tokens)
        return text.replace(" \n", "\n").replace("\n ", "\n")

    def get_config(self) -> dict[str, Any]:
        return {"tokens": list(self.tokens), "level": self.level}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)

    def to_json(self) -> str:
        return json.dumps(self.get_config())

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls.from_config(json.loads(text))

    def save(self, path: str | PathLike) -> None:
        pathlib.Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | PathLike) -> Self:
        return cls.from_json(pathlib.Path(path).read_text(encoding="utf-8"))
