import gzip
import json

import keras
import numpy as np
import pytest

from keras_seqgrad.data import text
from keras_seqgrad.data.files import SPLITS
from keras_seqgrad.data.vocabulary import Vocabulary

WORDS = "the cat sat\nthe dog sat\n"


def write(path, content):
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content.encode()))
    else:
        path.write_text(content, encoding="utf-8")


def write_splits(folder, pattern, contents):
    for split, content in zip(SPLITS, contents, strict=True):
        write(folder / pattern.format(split), content)


def test_a_file_is_split_by_position(tmp_path):
    content = "ab\n" * 100 + "é"
    write(tmp_path / "some.txt", content)
    corpus = text.get(tmp_path / "some.txt")
    assert [len(getattr(corpus, s)) for s in SPLITS] == [270, 15, 16]
    whole = np.concatenate([corpus.train, corpus.valid, corpus.test])
    assert whole.dtype == np.int32
    assert corpus.vocabulary.decode(whole) == content
    assert len(corpus.vocabulary) == 4
    assert (corpus.name, corpus.level) == ("some.txt", "character")


def test_a_folder_is_read_in_the_order_of_paths(tmp_path):
    (tmp_path / "b").mkdir()
    write(tmp_path / "b" / "two.txt.gz", "2" * 10)
    write(tmp_path / "a.txt", "1" * 10)
    write(tmp_path / "c.md", "3" * 10)
    corpus = text.load(tmp_path)
    assert corpus.vocabulary.decode(corpus.train) == "1" * 10 + "2" * 8
    corpus = text.load(tmp_path, suffixes=(".md",))
    assert set(corpus.vocabulary.tokens) == {"3"}


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("pattern", ["ptb.{}.txt", "{}.txt", "wiki.{}.tokens"])
def test_known_splits_are_kept(tmp_path, pattern, packed):
    contents = (" the cat \n <unk> sat \n", " the dog \n", " cat \n")
    write_splits(tmp_path, pattern + packed, contents)
    corpus = text.get(str(tmp_path), level="word")
    decode = corpus.vocabulary.decode
    assert decode(corpus.train) == "the cat\n<unk> sat\n"
    # <unk> is one of the text's own words and stands for the unseen one.
    assert decode(corpus.valid) == "the <unk>\n"
    assert sorted(corpus.vocabulary.tokens) == [
        "<eos>", "<unk>", "cat", "sat", "the",
    ]  # fmt: skip
    assert len(text.load(tmp_path).test) == len(contents[2])


def test_penn_treebank_characters_lose_their_separators(tmp_path):
    write_splits(tmp_path, "ptb.{}.txt", ("x y\n", "x\n", "y\n"))
    spaced = ["a _ b \n ", "b \n ", "a \n "]
    write_splits(tmp_path, "ptb.char.{}.txt", spaced)
    corpus = text.load(tmp_path)
    assert corpus.vocabulary.decode(corpus.train) == "a_b\n"
    assert len(corpus.vocabulary) == 4
    # Words are read from the other files.
    assert "x" in text.load(tmp_path, level="word").vocabulary


def test_unseen_words_get_a_word_of_their_own(tmp_path):
    write_splits(tmp_path, "{}.txt", ("a b\n", "c\n", "a\n"))
    corpus = text.load(tmp_path, level="word")
    assert corpus.vocabulary.tokens == ("<eos>", "a", "b", "<unk>")
    assert corpus.valid.tolist() == [3, 0]
    write_splits(tmp_path, "{}.txt", ("a b\n", "b\n", "a\n"))
    assert "<unk>" not in text.load(tmp_path, level="word").vocabulary


def test_vocabulary_size_counts_the_unknown_word():
    vocabulary = Vocabulary.from_text(WORDS, "word", size=4)
    assert vocabulary.tokens == ("<eos>", "sat", "the", "<unk>")
    assert vocabulary.encode(WORDS).tolist() == [2, 3, 1, 0, 2, 3, 1, 0]
    assert len(Vocabulary.from_text(WORDS, "word", size=9)) == 5


@pytest.mark.parametrize("level", ["character", "word"])
def test_vocabulary_round_trips(tmp_path, level):
    vocabulary = Vocabulary.from_text(WORDS, level)
    assert vocabulary.decode(vocabulary.encode(WORDS)) == WORDS
    path = tmp_path / "vocabulary.json"
    vocabulary.save(path)
    config = keras.saving.serialize_keras_object(vocabulary)
    copies = [
        Vocabulary.load(path),
        Vocabulary.from_json(vocabulary.to_json()),
        keras.saving.deserialize_keras_object(json.loads(json.dumps(config))),
    ]
    assert copies == [vocabulary] * 3 and hash(copies[0]) == hash(vocabulary)
    assert vocabulary != Vocabulary("xy")


def test_stdlib_is_ascii_deterministic_and_limited():
    first, second = (text.get("stdlib", limit=20_000) for _ in "ab")
    assert [len(getattr(first, s)) for s in SPLITS] == [18000, 1000, 1000]
    np.testing.assert_array_equal(first.train, second.train)
    assert "".join(first.vocabulary.tokens).isascii()
    assert "def " in first.vocabulary.decode(first.train)
    assert 3.5 < text.unigram_entropy(first) < 5.5


def test_tiny_shakespeare_fails_at_once_without_data(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(FileNotFoundError, match="not prepared.*download=True"):
        text.get("tiny_shakespeare", data_dir=tmp_path)


def test_unigram_entropy_by_hand(tmp_path):
    assert text.unigram_entropy(np.array([0, 0, 1, 2])) == 1.5
    write_splits(tmp_path, "{}.txt", ("aaab", "ab", "a"))
    # Counts 3, 1 plus one each: p(a) = 4/6, p(b) = 2/6.
    expected = -(np.log2(4 / 6) + np.log2(2 / 6)) / 2
    np.testing.assert_allclose(
        text.unigram_entropy(text.load(tmp_path)), expected
    )


def test_bits():
    assert text.bits(np.log(2)) == 1


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda p: text.get("nowhere"), ValueError, "'stdlib', 'tiny_shakes"),
        (lambda p: text.load(p / "no"), FileNotFoundError, "No text file or"),
        (lambda p: text.load(p), FileNotFoundError, r"ends in .txt, .txt.gz"),
        (lambda p: text.load(p, level="byte"), ValueError, "'character', 'w"),
        (lambda p: text.stdlib("byte"), ValueError, "Received: level='byte'"),
        (lambda p: Vocabulary("aa"), ValueError, "2 tokens, of which 1 are"),
        (lambda p: Vocabulary(["ab"]), ValueError, "one character at level"),
        (lambda p: Vocabulary("ab").encode("abc"), ValueError, "'c' at posit"),
        (
            lambda p: Vocabulary(["a"], "word").encode("a"),
            ValueError,
            "add '<unk>' to it. Received: '<eos>' at position 1",
        ),
        (
            lambda p: Vocabulary.from_text("abc", size=2),
            ValueError,
            "characters are all kept",
        ),
    ],
)
def test_refusals(tmp_path, call, error, message):
    with pytest.raises(error, match=message):
        call(tmp_path)
