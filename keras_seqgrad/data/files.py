"""Texts as they lie on a disk: whole, in folders, or split already."""

import gzip

SPLITS = ("train", "valid", "test")
TRAIN_FRACTION = 0.9
OF_WORDS = ("ptb.{}.txt", "{}.txt", "wiki.{}.tokens")
# File names of the three splits, in the order in which they are tried.
SPLIT_NAMES = {
    "character": ("ptb.char.{}.txt", *OF_WORDS),
    "word": OF_WORDS,
    "token": OF_WORDS,
}


def split(text):
    """A text in three pieces, by position."""
    first = int(TRAIN_FRACTION * len(text))
    second = first + (len(text) - first) // 2
    return [text[:first], text[first:second], text[second:]]


def read(path):
    """The text of a file, unpacked if its name says `.gz`."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return file.read()


def join(folder, suffixes):
    """All files of a folder with one of some suffixes, as one text."""
    suffixes = tuple(suffixes)
    ends = (*suffixes, *(f"{suffix}.gz" for suffix in suffixes))
    paths = [p for p in sorted(folder.rglob("*")) if p.name.endswith(ends)]
    if not paths:
        raise FileNotFoundError(
            f"The folder has no file that ends in {', '.join(ends)}. Name the "
            "endings of its text files by `suffixes`. "
            f"Received: {str(folder)!r}"
        )
    return "".join(read(path) for path in paths)


def known_splits(folder, level):
    """The three texts of a folder with the files of a known corpus, or None."""
    for pattern in SPLIT_NAMES[level]:
        paths = [_plain_or_packed(folder / pattern.format(s)) for s in SPLITS]
        if all(paths):
            texts = [read(path) for path in paths]
            spaced = all(set(text[1::2]) == {" "} for text in texts)
            if level == "character" and spaced:
                return [text[::2] for text in texts]
            return texts
    return None


def _plain_or_packed(path):
    packed = path.with_name(path.name + ".gz")
    return next((p for p in (path, packed) if p.exists()), None)
