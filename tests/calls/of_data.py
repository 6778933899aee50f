"""Calls of tasks, streams and texts."""

import numpy as np

import keras_seqgrad as ksg
from tests.calls.kinds import Call

TASK = {"batch_size": "count", "steps": "count?", "seed": "seed?"}
DATA = {
    "data.bucket_lengths": Call(
        ksg.data.bucket_lengths,
        {"lengths": [2, 3, 4], "count": 2},
        {"lengths": "other", "count": "count"},
    ),
    "data.rejoin": Call(
        ksg.data.rejoin,
        {"windows": [np.ones((2, 3))], "batch_size": 2, "length": 6},
        {
            "windows": "other",
            "batch_size": "count",
            "length": "count",
            "mask": "other?",
        },
    ),
    "data.stream": Call(
        ksg.data.stream,
        {
            "tokens": np.arange(13),
            "batch_size": 2,
            "window": ksg.truncation.Random(2.5),
        },
        {
            "tokens": "series",
            "batch_size": "count",
            "window": "count",
            "targets": "other?",
            "document_starts": "positions?",
            "bucket_lengths": "count?",
            "drop_remainder": "flag",
            "seed": "seed?",
        },
        dear=True,
    ),
    "data.tasks.Adding": Call(
        ksg.data.tasks.Adding, {"length": 4}, {"length": "count"}
    ),
    "data.tasks.Adding.dataset": Call(
        lambda **given: ksg.data.tasks.Adding(4).dataset(**given),
        {"batch_size": 2, "steps": 2},
        TASK,
    ),
    "data.tasks.InfluenceBalancing": Call(
        ksg.data.tasks.InfluenceBalancing,
        {"length": 4},
        {"length": "count", "units": "count", "positive": "count"},
    ),
    "data.tasks.InfluenceBalancing.truncated_sensitivity": Call(
        lambda **given: ksg.data.tasks.InfluenceBalancing(
            4
        ).truncated_sensitivity(**given),
        {"length": 3},
        {"length": "count"},
    ),
    "data.tasks.InfluenceBalancing.gradient": Call(
        lambda **given: ksg.data.tasks.InfluenceBalancing(4).gradient(**given),
        {"theta": 0.1, "steps": 2},
        {"theta": "real", "steps": "count"},
    ),
    "data.tasks.InfluenceBalancingCell": Call(
        ksg.data.tasks.InfluenceBalancingCell,
        {},
        {"units": "count", "positive": "count"},
    ),
    "data.tasks.MarkedSymbol": Call(
        ksg.data.tasks.MarkedSymbol,
        {"length": 100},
        {
            "length": "count",
            "delay": "other",
            "symbols": "count",
            "shown": "count",
        },
    ),
    "data.tasks.RepeatCopy": Call(
        ksg.data.tasks.RepeatCopy,
        {"length": 4},
        {
            "length": "count",
            "repeats": "count",
            "bits": "count",
            "varied": "flag",
        },
    ),
    "data.tasks.copy": Call(
        ksg.data.tasks.copy,
        {"length": 4},
        {"length": "count", "bits": "count", "varied": "flag"},
    ),
    "data.tasks.TemporalOrder": Call(
        ksg.data.tasks.TemporalOrder,
        {"length": 20},
        {"length": "count", "symbols": "count"},
    ),
    "data.text.Vocabulary": Call(
        ksg.data.text.Vocabulary,
        {"tokens": "ab"},
        {"tokens": "tokens", "level": "name"},
    ),
    "data.text.Vocabulary.from_text": Call(
        ksg.data.text.Vocabulary.from_text,
        {"text": "a b c", "level": "word"},
        {"text": "path", "level": "name", "size": "count?"},
    ),
    "data.text.Vocabulary.encode": Call(
        ksg.data.text.Vocabulary("no").encode, {"text": "on"}, {"text": "path"}
    ),
    "data.text.Vocabulary.decode": Call(
        ksg.data.text.Vocabulary("no").decode, {"ids": [1]}, {"ids": "ids"}
    ),
    "data.text.Tokenizer": Call(
        ksg.data.text.Tokenizer,
        {"tokenizer": ksg.data.text.Vocabulary("no")},
        {"tokenizer": "other", "size": "count?"},
    ),
    "data.text.Tokenizer.encode": Call(
        ksg.data.text.Tokenizer(ksg.data.text.Vocabulary("no")).encode,
        {"text": "on"},
        {"text": "path"},
    ),
    "data.text.Tokenizer.decode": Call(
        ksg.data.text.Tokenizer(ksg.data.text.Vocabulary("no")).decode,
        {"ids": [1]},
        {"ids": "ids"},
    ),
    "data.text.bits": Call(ksg.data.text.bits, {"nats": 1.0}, {"nats": "nats"}),
    "data.text.get": Call(
        ksg.data.text.get,
        {"name_or_path": __file__},
        {"name_or_path": "name", "level": "name"},
    ),
    "data.text.load": Call(
        ksg.data.text.load,
        {"path": __file__, "level": "word"},
        {
            "path": "name",
            "level": "name",
            "size": "count?",
            "suffixes": "other",
            "tokenizer": "other?",
        },
    ),
    "data.text.stdlib": Call(
        ksg.data.text.stdlib,
        {"limit": 99, "level": "word"},
        {
            "level": "name",
            "limit": "count",
            "size": "count?",
            "tokenizer": "other?",
        },
    ),
    "data.text.unigram_entropy": Call(
        ksg.data.text.unigram_entropy,
        {"tokens": [0, 1]},
        {"tokens": "positions"},
    ),
}
