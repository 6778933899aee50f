"""Moves the truncation length while a model trains."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_seqgrad import methods
from keras_seqgrad.callbacks.train_by_length import Length, TrainByLength
from keras_seqgrad.diagnostics import influence, profile, steps
from keras_seqgrad.state import runs
from keras_seqgrad.tensors import arguments

ADAPTABLE = (methods.TruncatedBPTT, methods.SnAp)


class AdaptTruncation(runs.Arranging):
    """Chooses the truncation length anew as a model learns.

    At the end of every so many epochs, or once before the first, the influence
    of past states is measured on a probe window
    (`ksg.diagnostics.influence_profile`), and training goes on with the
    shortest of some lengths whose relative bias is tolerable:

        smallest K with E(K) / bound of the gradient's norm < tolerance,
        else the largest

    as `ksg.diagnostics.suggest_truncation_length` says of some lengths. Use it
    with `TruncatedBPTT`, or `SnAp`, where you do not know how far a model will
    learn to look back. Not where lengths hardly differ in what they cost, and
    not as proof: the bound is of the probe, and blind to what lies beyond it.
    For `SnAp` it counts as lost what the traces bring back.

    Training begins with the length that the model was compiled with, which
    must be one of `lengths`, and each length is compiled once, when it is
    first trained with. The method of the model is replaced by one like it of
    the new length: so a saved model goes on with the length it had, and so
    does one that `ksg.callbacks.BackupAndRestore` brings back. (Weights alone
    know of no length.) With jit_compile or without; layers are in inference
    mode while it measures, and nothing changes but the length.

    The logs of every epoch have the `truncation_length` it was trained with,
    for History, TensorBoard, and other callbacks that come after this one in
    the list. Put those that save the model after it, too.

    Args:
        tolerance: Relative bias that is small enough, above 0 and below 1.
        lengths: Increasing integers, the lengths to choose from; none below
            the stride of the method.
        probe: (x, y) or (x, y, sample_weight) of one window; None for the
            first batch of the validation data of `fit`. With stateful=True as
            many rows as a batch.
        every: Epochs from one measurement to the next; None for one
            measurement, before the first epoch, of the weights as they are.
        max_lag: Longest lag that is measured; None for the longest of
            `lengths`, or half of a shorter window.
        targets: As for `influence_profile`.
        signed: As for `InfluenceProfile.bias_bound`: True for a bound that
            holds, and asks for the largest length nearly always.

    Raises:
        ValueError: An argument is out of its range; or, when `fit` is called,
            the model is not compiled with `TruncatedBPTT` or `SnAp` of one of
            the lengths, or there is no probe that fits.

    Reference:
        Aicher, Foti and Fox, 2019. Adaptively truncating backpropagation
        through time to control gradient bias. arXiv:1905.07473.

    Example:

    >>> network = keras.Sequential([
    ...     keras.Input((None, 1)),
    ...     keras.layers.SimpleRNN(2, return_sequences=True),
    ... ])
    >>> model = ksg.SequenceModel.from_model(network)
    >>> model.compile("sgd", "mse", method=ksg.methods.TruncatedBPTT(2))
    >>> x, y = np.ones((2, 8, 1)), np.ones((2, 8, 2))
    >>> callback = ksg.callbacks.AdaptTruncation(0.1, [2, 4, 8], (x, y))
    >>> history = model.fit(x, y, callbacks=[callback], verbose=0)
    >>> history.history["truncation_length"]
    [2]
    """

    # Its logs are for those that come after it in the list.
    last = False

    def __init__(
        self,
        tolerance: float,
        lengths: Sequence[int],
        probe: Sequence[Any] | None = None,
        every: int | None = 1,
        max_lag: int | None = None,
        targets: int = 16,
        signed: bool = False,
    ) -> None:
        super().__init__()
        self.tolerance = profile.check_tolerance(tolerance)
        if probe is not None and (
            not isinstance(probe, (tuple, list)) or len(probe) not in (2, 3)
        ):
            raise ValueError(
                "`probe` must be (x, y) or (x, y, sample_weight), the arrays "
                f"of one window. Received: {type(probe).__name__}"
            )
        self.lengths = arguments.increasing(lengths, "lengths")
        self.probe = probe
        if every is not None:
            every = arguments.positive_integer(every, "every")
        self.every = every
        if max_lag is not None:
            max_lag = arguments.positive_integer(max_lag, "max_lag")
        self.max_lag = max_lag
        self.targets = arguments.positive_integer(targets, "targets")
        self.signed = arguments.flag(signed, "signed")
        self.data = self.training = self.latest = None

    # --- before fit begins -------------------------------------------------

    def arrange(self, model, given):
        self._check(model)
        probe = self.probe
        if probe is None:
            size = given.get("validation_batch_size") or given.get("batch_size")
            probe = first_batch(given.get("validation_data"), size or 32)
        self.data = (*probe, None)[:3]
        extent = steps.extent(model, self.data[0])
        self.lag = self.max_lag
        if self.lag is None:
            self.lag = max(1, min(self.lengths[-1], extent[1] // 2))
        influence.Lags(self.lag, self.targets, extent)
        return given

    def _check(self, model):
        """Refuses a model whose length it cannot move."""
        method = model.method
        if not isinstance(method, ADAPTABLE):
            raise ValueError(
                "AdaptTruncation moves the length of a truncation. Expected a "
                "model compiled with ksg.methods.TruncatedBPTT or SnAp, "
                f"received {method!r}."
            )
        if method.length not in self.lengths:
            raise ValueError(
                "Training begins with the length that the model was compiled "
                f"with. Expected one of lengths={self.lengths}, received "
                f"{method!r}."
            )
        stride = getattr(method, "stride", None) or 1
        if self.lengths[0] < stride:
            raise ValueError(
                f"No length may be below the stride. Expected {stride} or "
                f"more, received lengths={self.lengths}."
            )
        steps.layer_names(model)

    # --- the run -----------------------------------------------------------

    def on_train_begin(self, logs=None):
        model = self.model
        if self.data is None or getattr(model, "method", None) is None:
            raise ValueError(
                "AdaptTruncation needs a ksg.SequenceModel, and a place in "
                "the list that is given as `callbacks` to its `fit`. "
                f"Received: {type(model).__name__}"
            )
        parts = model.method_state.parts
        if "length" not in parts:
            parts["length"] = Length()
        parts["length"].set(model.method.length)
        kept = self.training and self.training.still_valid(model)
        self.training = TrainByLength(model, parts["length"], kept)
        if self.every is None:
            self.training.move_to(self._choose())

    def on_epoch_end(self, epoch, logs=None):
        length = self.training.length()
        if logs is not None:
            logs["truncation_length"] = length
        if self.every is not None and (epoch + 1) % self.every == 0:
            self.training.move_to(self._choose())

    def on_train_end(self, logs=None):
        self.training.end()
        self.data = None

    def _choose(self):
        x, y, sample_weight = self.data
        self.latest = influence.influence_profile(
            self.model, x, y, self.lag, sample_weight, self.targets
        )
        return profile.suggest_truncation_length(
            self.latest,
            self.tolerance,
            getattr(self.model.method, "stride", None),
            self.lengths,
            self.signed,
        )


def first_batch(data, size):
    """The first batch of what is given to `fit` as `validation_data`.

    Args:
        data: Arrays, a `tf.data.Dataset`, or a `keras.utils.PyDataset`.
        size: Rows of a batch of arrays.
    """
    if isinstance(data, tf.data.Dataset):
        batch = next(iter(data))
    elif isinstance(data, keras.utils.PyDataset):
        batch = data[0]
    elif isinstance(data, (tuple, list)) and len(data) in (2, 3):
        batch = keras.tree.map_structure(lambda array: array[:size], data)
    else:
        raise ValueError(
            "AdaptTruncation needs a window to measure on. Expected "
            "probe=(x, y), or validation_data given to `fit` as arrays, a "
            f"tf.data.Dataset or a PyDataset. Received: {type(data).__name__}"
        )
    return keras.utils.unpack_x_y_sample_weight(batch)
