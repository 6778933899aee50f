"""Streams of text, corpora, and the literature's synthetic tasks."""

from keras_seqgrad.data import tasks, text
from keras_seqgrad.data.stream import stream

__all__ = ["stream", "tasks", "text"]
