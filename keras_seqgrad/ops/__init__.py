"""Recurrences over time, each with a backward pass written by hand."""

from keras_seqgrad.ops.gru import gru
from keras_seqgrad.ops.linear_scan import linear_scan
from keras_seqgrad.ops.lstm import lstm
from keras_seqgrad.ops.rnn import rnn
from keras_seqgrad.ops.simple_rnn import simple_rnn

__all__ = ["gru", "linear_scan", "lstm", "rnn", "simple_rnn"]
