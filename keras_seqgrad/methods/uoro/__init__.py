"""Unbiased online recurrent optimization: influence of rank one."""

from keras_seqgrad.methods.uoro.method import UORO

__all__ = ["UORO"]
