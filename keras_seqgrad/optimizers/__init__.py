"""Optimizers, also for models that are not ours."""

from keras_seqgrad.optimizers.fptt import FPTT

__all__ = ["FPTT"]
