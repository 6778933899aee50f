"""Streams of text, corpora, and the literature's synthetic tasks."""

from keras_seqgrad.data import tasks, text
from keras_seqgrad.data.buckets import bucket_lengths
from keras_seqgrad.data.series import rejoin
from keras_seqgrad.data.stream import stream

__all__ = ["bucket_lengths", "rejoin", "stream", "tasks", "text"]
