"""Keras' recurrent layers on scans that are linear in time under XLA."""

from keras_seqgrad.layers.gru import GRU
from keras_seqgrad.layers.lstm import LSTM
from keras_seqgrad.layers.rnn import RNN
from keras_seqgrad.layers.simple_rnn import SimpleRNN

__all__ = ["GRU", "LSTM", "RNN", "SimpleRNN"]
