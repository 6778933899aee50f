"""Watches the quality of the gradient while a model trains."""

import time
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Any, Literal

import keras

from keras_seqgrad.callbacks.board import Board, measured
from keras_seqgrad.diagnostics import (
    card,
    compare,
    heat_map,
    influence,
    size,
    steps,
)
from keras_seqgrad.diagnostics.given import Methods
from keras_seqgrad.diagnostics.method_measures import measures
from keras_seqgrad.diagnostics.pictures import png
from keras_seqgrad.tensors import arguments, replicas
from keras_seqgrad.window import checkpoints
from keras_seqgrad.window.probe import as_tensors

LONGEST_LAG = 50


class GradientDiagnostics(keras.callbacks.Callback):
    """Measures gradients on a fixed window during `fit`, for TensorBoard.

    When training begins, and after every so many batches, the gradients of
    methods on the probe window are compared with the exact one, by
    `ksg.diagnostics.compare_gradients`. Use it to see when a truncated or
    guessed gradient goes wrong in a training that takes hours. Not for the
    last percent of speed, though its share of the time is bounded; nor as
    validation: it says nothing of the loss.

    Written are

    * scalars: cosine, relative bias with its standard error, variance, share
      of the error that is bias, norms, time of an estimate, for every method,
      cosine and bias also by layer; the metrics of the compiled method (the
      synthesiser's loss, the phase), how far a synthesiser's guesses are from
      the truth, FPTT's distance from its average, mean length between cuts;
      seconds and share of the diagnostics themselves;
    * histograms: errors of single estimates, of guesses at each boundary, and
      drawn lengths;
    * images: the norm of the gradient by the state over time and layers, and
      the influence profile (not for subclasses with their own `call_segment`,
      whose layers are unknown);
    * a text card of the run, hyperparameters, and a layout of charts: open
      the page CUSTOM SCALARS.

    The latest `gradient_cosine`, `gradient_bias` (with `_lower` and `_upper`,
    0 where no bias was found), `gradient_variance`, `gradient_bias_share`,
    `gradient_norm_ratio` and `exact_norm` also go into the logs of every
    epoch, for History and for callbacks that come after this one in the list;
    where `methods` are given, followed by "/" and the method's name.

    Training goes on as it would without it, to the last bit. With
    stateful=True the probe starts from the state training has reached, and
    needs as many rows as a batch. Several replicas train between measurements
    of all rows on one device; all of them must be on one machine.

    Args:
        log_dir: Folder of TensorBoard's, one for each run.
        probe: (x, y) or (x, y, sample_weight) of one window.
        every: Batches from one measurement to the next.
        repeats: Estimates of each method that draws, 3 or more.
        methods: As for `compare_gradients`.
        max_share: Share of the time of training that measurements may take,
            the first one, which compiles, not counted; a measurement that
            would go above it waits. None to measure every time.
        max_lag: Longest lag of the influence profile; None for 50, or half of
            a shorter window; 0 for no profile.
        images: Whether to draw images, which takes matplotlib.
        memory_limit: Bytes that a measurement may take by estimate; None for
            half of the machine's memory.
        card: Dict of further rows for the card, as seed and data.
        groups: As for `compare_gradients`; so is `checkpoint_every`.
        checkpoint_every: Steps between stored states of the exact gradient.

    Raises:
        ValueError: An argument is out of its range; or, when `fit` begins,
            the model is no compiled `SequenceModel`, the probe too large, or
            replicas are on several machines.
        ImportError: TensorBoard, or for images matplotlib, is not installed.

    Example:

    >>> import tempfile
    >>> network = keras.Sequential([
    ...     keras.Input((None, 1)),
    ...     keras.layers.GRU(2, return_sequences=True),
    ... ])
    >>> model = ksg.SequenceModel.from_model(network)
    >>> model.compile("sgd", "mse", method=ksg.methods.TruncatedBPTT(3))
    >>> x, y = np.ones((4, 6, 1)), np.ones((4, 6, 2))
    >>> callback = ksg.callbacks.GradientDiagnostics(
    ...     tempfile.mkdtemp(), (x, y), every=1, images=False, max_lag=0)
    >>> history = model.fit(x, y, callbacks=[callback], verbose=0)
    >>> len(history.history["gradient_cosine"])
    1
    """

    # Reads nothing of a batch's logs, so that fit need not wait for them.
    async_safe = True

    def __init__(
        self,
        log_dir: str | PathLike,
        probe: Sequence[Any],
        every: int = 200,
        repeats: int = 8,
        methods: Methods | None = None,
        *,
        max_share: float | None = 0.05,
        max_lag: int | None = None,
        images: bool = True,
        memory_limit: float | None = None,
        card: dict[str, Any] | None = None,
        groups: Callable[[Any], str] | None = None,
        checkpoint_every: int | Literal["auto"] | None = "auto",
    ) -> None:
        super().__init__()
        if not isinstance(probe, (tuple, list)) or len(probe) not in (2, 3):
            raise ValueError(
                "`probe` must be (x, y) or (x, y, sample_weight), the arrays "
                f"of one window. Received: {type(probe).__name__}"
                + (f" of {len(probe)}" if hasattr(probe, "__len__") else "")
            )
        if max_share is not None:
            max_share = arguments.number(
                max_share,
                "max_share",
                above=0,
                most=1,
                wanted="above 0 and at most 1, or None",
            )
        if max_lag is not None:
            max_lag = arguments.integer(max_lag, "max_lag", 0)
        if memory_limit is not None:
            memory_limit = arguments.number(
                memory_limit, "memory_limit", above=0
            )
        compare.check_methods(methods)
        compare.check_groups(groups)
        self.log_dir = arguments.path(log_dir, "log_dir")
        self.probe = (*probe, None)[:3]
        self.every = arguments.positive_integer(every, "every")
        self.repeats = arguments.positive_integer(repeats, "repeats")
        self.methods = methods
        self.max_share = max_share
        self.max_lag = max_lag
        self.images = arguments.flag(images, "images")
        self.memory_limit = memory_limit
        self.card = {}
        if card is not None:
            self.card |= arguments.dictionary(card, "card", "a dict, or None")
        self.groups = groups
        self.checkpoint_every = checkpoints.checked(checkpoint_every)
        self.board = self.bench = self.extent = None
        self.latest = {}

    # --- the run ----------------------------------------------------------

    def on_train_begin(self, logs=None):
        self._prepare()
        self.measured, self.put_off = 0, 0
        self.batches = self.epoch_start = self.asked = 0
        self.spent = self.lasted = 0.0
        self._measure()
        self.began = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_start = self.batches

    def on_train_batch_end(self, batch, logs=None):
        self.batches = self.epoch_start + batch + 1
        if self.batches // self.every <= self.asked:
            return
        if self._affordable():
            self.asked = self.batches // self.every
            self._measure()
            return
        self.put_off += 1

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs.update(self.latest)

    def on_train_end(self, logs=None):
        self.board.close()

    # --- its parts --------------------------------------------------------

    def _prepare(self):
        model = self.model
        if getattr(model, "method", None) is None:
            raise ValueError(
                "GradientDiagnostics needs a ksg.SequenceModel, compiled with "
                f"a method. Received: {type(model).__name__}"
            )
        strategy = model.distribute_strategy
        here = len(replicas.places(strategy))
        if here < strategy.num_replicas_in_sync:
            raise ValueError(
                "GradientDiagnostics asks for the rows and metrics of all "
                "replicas when the clock of its own machine says so. Expected "
                f"all replicas on one machine, received {here} of "
                f"{strategy.num_replicas_in_sync}. Leave it out there."
            )
        self.extent = steps.extent(model, self.probe[0])
        size.refuse_too_large(
            model, self.extent, self.repeats, self.memory_limit
        )
        self.data = as_tensors(*self.probe)
        self.bench = compare.Bench(
            model, self.methods, self.groups, self.checkpoint_every
        )
        self.board = Board(self.log_dir)
        rows = {**self.card, "measured": f"every {self.every} batches"}
        self.board.text(
            "run", card.run_card(model, self.extent, self.params, rows)
        )
        self.board.hyperparameters(card.hyperparameters(model, self.extent))
        self.board.layout(list(self.bench.methods))

    def _affordable(self):
        """Whether one more measurement stays within its share of the time."""
        if self.max_share is None:
            return True
        training = time.perf_counter() - self.began - self.spent
        return self.spent + self.lasted <= self.max_share * training

    def _measure(self):
        start = time.perf_counter()
        step = replicas.number(self.model.optimizer.iterations)
        first = self.measured * self.repeats
        found = self.bench.run(self.data, self.repeats, first, timings=1)
        self.board.comparison(found, step)
        seeds = range(first, first + self.repeats)
        scalars, histograms = measures(
            self.model, self.extent[1], self.data, seeds
        )
        whole = self.model.is_opaque or self.model.network_uncut is not None
        if self.images and not whole:
            self._draw(step)
        self.latest = self._logs(found)
        seconds = time.perf_counter() - start
        if self.measured:
            self.lasted = seconds
            self.spent += seconds
            scalars["diagnostics/share_of_training_time"] = self.spent / (
                time.perf_counter() - self.began - self.spent
            )
        scalars["diagnostics/seconds"] = seconds
        scalars["diagnostics/batches_waited"] = self.put_off
        self.board.scalars(scalars, step)
        self.board.histograms(histograms, step)
        self.board.writer.flush()
        self.measured += 1

    def _logs(self, found):
        """The comparison as `fit` logs it."""
        return {
            tag if self.methods is None else f"{tag}/{name}": value
            for name in found.qualities
            for tag, value in measured(found[name]).items()
        }

    def _draw(self, step):
        heat = heat_map.StateGradients(self.extent)
        norms = self.model.probe(heat, *self.probe, jit=False).numpy()
        figure = heat_map.draw(steps.layer_names(self.model), norms)
        self.board.picture("state_gradients", png(figure), step)
        lag = min(LONGEST_LAG, self.extent[1] // 2)
        lag = lag if self.max_lag is None else self.max_lag
        if lag:
            profile = influence.influence_profile(
                self.model,
                self.probe[0],
                self.probe[1],
                lag,
                self.probe[2],
                # A sketch: 16 would cost more than all else together.
                targets=2,
            )
            picture = png(profile.plot())
            self.board.picture("influence_profile", picture, step)
