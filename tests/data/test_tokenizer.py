"""Stand-ins for the tokenizers of other libraries, in each of their forms."""

import types

import numpy as np
import pytest
import tensorflow as tf

import keras_seqgrad as ksg
from keras_seqgrad.data import text

CONTENT = "naïve text, " * 40


class Bytes:
    """`encode` gives a list, `decode` takes integers of Python alone."""

    def encode(self, text):
        return list(text.encode())

    def decode(self, ids):
        assert all(type(index) is int for index in ids)
        return bytes(ids).decode()

    def get_vocab_size(self):
        return 256


class Encodings(Bytes):
    """As `tokenizers` has it."""

    def encode(self, text):
        return types.SimpleNamespace(ids=super().encode(text))


class Sized(Bytes):
    get_vocab_size = None

    def __len__(self):
        return 300


class Tensors:
    """As `keras-hub` has it."""

    vocabulary_size = 257

    def tokenize(self, text):
        return tf.cast(tf.io.decode_raw(text, "uint8"), "int32")

    def detokenize(self, ids):
        return tf.constant(bytes(ids))


@pytest.mark.parametrize(
    "kind, size", [(Bytes, 256), (Encodings, 256), (Sized, 300), (Tensors, 257)]
)
def test_every_form_of_tokenizer(kind, size):
    tokenizer = text.Tokenizer(kind())
    ids = tokenizer.encode(CONTENT)
    assert ids.dtype == np.int32 and ids.tolist() == list(CONTENT.encode())
    assert tokenizer.decode(ids) == CONTENT
    assert len(tokenizer) == size
    assert tokenizer.encode("").shape == (0,)


def test_a_corpus_of_a_tokenizer(tmp_path):
    """A library's own object, and a `Tokenizer`, as file, folder and name."""
    (tmp_path / "text.txt").write_text(CONTENT, encoding="utf-8")
    own = text.Tokenizer(Bytes())
    corpora = [
        text.get(tmp_path / "text.txt", tokenizer=Bytes()),
        text.load(tmp_path, tokenizer=own),
    ]
    for corpus in corpora:
        assert corpus.level == "token" and len(corpus.vocabulary) == 256
        assert corpus.train.tolist() == list(CONTENT[:432].encode())
        assert corpus.vocabulary.decode(corpus.valid) == CONTENT[432:456]
    assert corpora[1].vocabulary is own
    x, y = next(iter(ksg.data.stream(corpora[0].train, 2, 5)))
    assert own.decode(x[0]) == CONTENT[:4] and own.decode(y[0])[-1] == "e"
    assert text.unigram_entropy(corpora[0]) < 8
    corpus = text.stdlib(limit=100, tokenizer=own)
    assert [len(getattr(corpus, s)) for s in ("train", "test")] == [90, 5]


def test_words_of_known_splits_are_read(tmp_path):
    """Not the files for characters, in which spaces separate."""
    for split in ("train", "valid", "test"):
        (tmp_path / f"ptb.{split}.txt").write_text(f"a {split}\n")
        (tmp_path / f"ptb.char.{split}.txt").write_text("a _ b \n")
    corpus = text.load(tmp_path, tokenizer=Bytes())
    assert corpus.vocabulary.decode(corpus.test) == "a test\n"


def test_the_example_of_the_page(tmp_path):
    """With a stand-in for the library that it names."""
    from tests.docs.test_pages import blocks, read

    page = read("docs/data.md").split("## Text")[1].split("\n## ")[0]
    [code] = blocks(page, "python")
    first, *rest = code.splitlines()
    assert first.startswith("from tokenizers import ")
    (tmp_path / "book.txt").write_text(CONTENT, encoding="utf-8")
    own = types.SimpleNamespace(from_file=lambda path: Encodings())
    names = {"ksg": ksg, "Tokenizer": own}
    rest = "\n".join(rest).replace("book.txt", str(tmp_path / "book.txt"))
    rest = rest.replace("batch_size=32, window=200", "batch_size=2, window=9")
    exec(rest, names)
    assert names["size"] == 256
    [x, _] = next(iter(names["windows"]))
    assert x.shape == (2, 9)
    assert names["opening"] == CONTENT[:100]


@pytest.mark.parametrize(
    "tokenizer",
    ["bert", None, Bytes, object(), types.SimpleNamespace(encode=len)],
)
def test_what_is_no_tokenizer_is_refused(tokenizer):
    wanted = r"`tokenizer` must be an object with the methods encode\(text\)"
    with pytest.raises(ValueError, match=wanted):
        text.Tokenizer(tokenizer)


def test_ids_that_are_none_are_refused():
    def giving(found, **options):
        one = types.SimpleNamespace(encode=lambda _: found, decode=str)
        return text.Tokenizer(one, **options)

    with pytest.raises(ValueError, match="does not say how many ids it has"):
        giving([1])
    with pytest.raises(
        ValueError, match="has ids from 0 to 3 by its size, and"
    ):
        giving([1, 4], size=4).encode("a")
    for found in ["ab"], [[1, 2]], [0.5]:
        with pytest.raises(
            ValueError, match=r"integer ids of a text as a list"
        ):
            giving(found, size=4).encode("a")
    with pytest.raises(ValueError, match="`ids` must be integers from 0 to 3"):
        giving([1], size=4).decode([4])


@pytest.mark.parametrize("beside", [{"level": "word"}, {"size": 9}])
def test_a_tokenizer_stands_alone(beside):
    with pytest.raises(ValueError, match="leave `level` and `size` out"):
        text.stdlib(tokenizer=Bytes(), **beside)
