"""Keras' recurrent layers on scans that are linear in time under XLA."""

from keras_seqgrad.layers.causal_convolution import (
    CausalConv1D,
    CausalConv1DCell,
)
from keras_seqgrad.layers.gru import GRU
from keras_seqgrad.layers.lru import LRU, LRUCell
from keras_seqgrad.layers.lstm import LSTM
from keras_seqgrad.layers.min_gru import MinGRU, MinGRUCell
from keras_seqgrad.layers.min_lstm import MinLSTM, MinLSTMCell
from keras_seqgrad.layers.qrnn import QRNN, QRNNCell
from keras_seqgrad.layers.rg_lru import RGLRU, RGLRUCell
from keras_seqgrad.layers.rnn import RNN
from keras_seqgrad.layers.simple_rnn import SimpleRNN

__all__ = [
    "CausalConv1D",
    "CausalConv1DCell",
    "GRU",
    "LRU",
    "LRUCell",
    "LSTM",
    "MinGRU",
    "MinGRUCell",
    "MinLSTM",
    "MinLSTMCell",
    "QRNN",
    "QRNNCell",
    "RGLRU",
    "RGLRUCell",
    "RNN",
    "SimpleRNN",
]
