"""A tokenizer of another library, read and asked as a vocabulary is."""

from typing import Any

import numpy as np
import numpy.typing as npt

from keras_seqgrad.tensors import arguments

# What libraries call the two directions, and how they say how many ids they
# have; tried in this order.
DIRECTIONS = ("encode", "decode"), ("tokenize", "detokenize")
SIZES = "vocabulary_size", "get_vocab_size", "vocab_size", "n_vocab"
WANTED = (
    "an object with the methods encode(text) and decode(ids), or tokenize and "
    "detokenize"
)


class Tokenizer:
    """The tokenizer of another library in the place of a `Vocabulary`.

    For sub-word tokens: of `tokenizers`, `sentencepiece`, `keras-hub`,
    `tiktoken`, `transformers`, or an object of your own. Not for characters or
    words, which a `Vocabulary` counts by itself. Learning and saving the
    tokens is the other library's.

    Rule: a text is encoded in one call, by `encode` or else `tokenize`. Marks
    that the tokenizer adds (of a beginning, of an end) stand there as often:
    once a text. A decoded text is what the tokenizer makes of it; not all of
    them give back white space as it was.

    Args:
        tokenizer: An object with `encode` and `decode`, or `tokenize` and
            `detokenize`. Ids may come as a list, as an array or tensor
            (time,), or in an attribute `ids`.
        size: Number of ids. None for what the tokenizer says by
            `vocabulary_size`, `get_vocab_size`, `vocab_size`, `n_vocab` or
            `len`.

    Raises:
        ValueError: The tokenizer has no such methods, its size is unknown, or
            `encode` gives something else than ids below `size`.

    Example:

    >>> class Pairs:
    ...     def encode(self, text):
    ...         return [int(text[i : i + 2]) for i in range(0, len(text), 2)]
    ...     def decode(self, ids):
    ...         return "".join(f"{i:02}" for i in ids)
    >>> tokenizer = ksg.data.text.Tokenizer(Pairs(), size=100)
    >>> ids = tokenizer.encode("314159265358")
    >>> ids.tolist(), len(tokenizer), tokenizer.decode(ids)
    ([31, 41, 59, 26, 53, 58], 100, '314159265358')
    """

    def __init__(self, tokenizer: Any, size: int | None = None) -> None:
        methods = [
            [getattr(tokenizer, name, None) for name in names]
            for names in DIRECTIONS
        ]
        found = [pair for pair in methods if all(map(callable, pair))]
        if not found or isinstance(tokenizer, (str, bytes, type)):
            arguments.refuse(tokenizer, "tokenizer", WANTED)
        self.tokenizer = tokenizer
        self._encode, self._decode = found[0]
        self.size = arguments.positive_integer(
            _size(tokenizer) if size is None else size, "size"
        )

    def __len__(self) -> int:
        return self.size

    def encode(self, text: str) -> np.ndarray:
        """Ids of a text's tokens, an int32 array (time,)."""
        given = self._encode(arguments.text(text, "text"))
        given = getattr(given, "ids", given)
        ids = np.zeros(0, "int32") if len(given) == 0 else np.asarray(given)
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            raise ValueError(
                "A tokenizer must give the integer ids of a text as a list or "
                f"an array (time,). Received: {arguments.told(given)} from "
                f"{arguments.told(self.tokenizer)}"
            )
        if ids.size and not 0 <= ids.min() <= ids.max() < self.size:
            raise ValueError(
                f"The tokenizer has ids from 0 to {self.size - 1} by its size, "
                f"and gave {ids.min()} to {ids.max()}. Say by "
                f"`size` how many there are. Received: size={self.size}"
            )
        return ids.astype("int32")

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of a sequence of ids."""
        ids = arguments.array(ids, "ids").ravel()
        whole = not ids.size or ids.dtype.kind in "iu"
        if not whole or np.any(ids < 0) or np.any(ids >= self.size):
            arguments.refuse(ids, "ids", f"integers from 0 to {self.size - 1}")
        text = self._decode([int(index) for index in ids])
        # A tensor of TensorFlow holds bytes.
        text = text.numpy() if hasattr(text, "numpy") else text
        return text.decode("utf-8") if isinstance(text, bytes) else text


def _size(tokenizer):
    """How many ids a tokenizer says that it has."""
    for name in SIZES:
        said = getattr(tokenizer, name, None)
        said = said() if callable(said) else said
        if arguments.is_integer(said):
            return said
    if hasattr(tokenizer, "__len__"):
        return len(tokenizer)
    raise ValueError(
        "The tokenizer does not say how many ids it has, by one of "
        f"{', '.join(SIZES)}, or by len. Give the number as `size`. "
        f"Received: tokenizer={arguments.told(tokenizer)}, size=None"
    )
