"""`SequenceModel`: a Keras model that learns in segments, by any method."""

from collections.abc import Callable
from os import PathLike
from typing import Any, Literal, Self

import keras
import numpy.typing as npt

from keras_seqgrad import methods
from keras_seqgrad.network import cuttable, original, scans
from keras_seqgrad.network.segmented import SegmentedModel
from keras_seqgrad.state import beside, by_rows, runs
from keras_seqgrad.state.saved import Saved
from keras_seqgrad.tensors import arguments
from keras_seqgrad.window import agreement
from keras_seqgrad.window.guard import Guard
from keras_seqgrad.window.opening import open_window
from keras_seqgrad.window.probe import Probe, as_seed, as_tensors


@keras.saving.register_keras_serializable("keras_seqgrad")
class SequenceModel(Saved, SegmentedModel):
    """A recurrent Keras model trained by a method of your choice.

    Use it as any Keras model: `compile` takes one more argument, `method`, and
    `fit`, `evaluate`, `predict`, `save` are as you know them. Three ways to
    make one:

    * `SequenceModel.from_model(model)` from any Sequential or Functional model
      whose layers act on single time steps or are recurrent. Layers and
      weights are shared with `model`.
    * `SequenceModel(inputs, outputs)` as with `keras.Model`.
    * A subclass with `initial_state` and `call_segment`. Methods that cut
      inside a segment (ARTBP), resets and explicit masks run such a model
      step by step.

    Layers that read all steps at once (attention or convolution over time,
    Flatten, Bidirectional) are taken behind the recurrent layers by methods
    with one update a window (see `network_head`), below them by some of these.

    Inputs (batch, time, ...) may come in a dict with up to two companions:

        {"inputs": x, "reset": reset, "mask": mask}

    `reset` (batch, time), True where a new document begins: the row restarts
    from the initial state before that step and no gradient crosses. `mask`
    (batch, time), False where the state passes unchanged and no loss counts.

    Args:
        inputs: Keras tensors, as for `keras.Model`.
        outputs: Keras tensors, as for `keras.Model`.
        network: A built Sequential or Functional model instead of both.
        stateful: Carry the state of each row from window to window, in fit,
            evaluate and predict separately; reset at the start of every
            epoch, evaluation and prediction. It is no weight of the model,
            and saved with it.
        learn_initial_state: Make the state a sequence starts from a weight of
            the model, one vector for every state tensor.

    Raises:
        ValueError: The model has no inputs or no recurrent layer, or the
            method cannot cut it in time (on `compile`).

    Example:

    >>> network = keras.Sequential([
    ...     keras.Input((None, 3)),
    ...     keras.layers.LSTM(4, return_sequences=True),
    ...     keras.layers.Dense(1),
    ... ])
    >>> model = ksg.SequenceModel.from_model(network)
    >>> model.compile("sgd", "mse", method=ksg.methods.TruncatedBPTT(5))
    >>> x, y = np.ones((2, 12, 3)), np.zeros((2, 12, 1))
    >>> history = model.fit(x, y, verbose=0)
    """

    method: methods.Method | None

    def __init__(
        self,
        inputs: Any = None,
        outputs: Any = None,
        *,
        network: keras.Model | None = None,
        stateful: bool = False,
        learn_initial_state: bool = False,
        **kwargs: Any,
    ) -> None:
        network = original.of(inputs, outputs, network)
        super().__init__(network, learn_initial_state, **kwargs)
        self.stateful = arguments.flag(stateful, "stateful")
        self.method = self.loss_weights = self._class_weight = None
        beside.give(self)
        self._probes, self.guard = {}, Guard()

    @classmethod
    def from_model(cls, model: keras.Model, **options: Any) -> Self:
        """A SequenceModel on the layers and weights of `model`.

        Args:
            model: A built Sequential or Functional Keras model.
            **options: `stateful`, `learn_initial_state`, `name`.
        """
        return cls(network=original.check(model, "model"), **options)

    # --- compile -----------------------------------------------------------

    def compile(
        self,
        *args: Any,
        method: str | methods.Method = "bptt",
        example: Any = None,
        on_bad_window: Literal["skip", "raise"] | None = None,
        **kwargs: Any,
    ) -> None:
        """Configures the model for training.

        Args:
            *args: As for `keras.Model.compile`.
            method: A `ksg.methods` object, or the name of one.
            example: Inputs of one batch, to check on them that the model may
                be cut in time; None to draw some.
            on_bad_window: What becomes of a window whose input, target, loss,
                gradient or state is not finite: None to train on it, "skip" to
                leave it out and log `bad_windows`, "raise" to stop with an
                error that names window, rows and cause, weights as before it.
            **kwargs: As for `keras.Model.compile`.

        Raises:
            ValueError: The method is unknown, no inputs could be drawn, or a
                layer cannot be cut in time or run by cuDNN; the text names it.
        """
        method = methods.get(method)
        guard = Guard(on_bad_window, self.distribute_strategy)
        cuttable.check_model(self, example)
        kwargs = runs.bind(keras.Model.compile, self, args, kwargs)
        with scans.compilable(self):
            super().compile(**scans.resolved(self, method, kwargs))
        self.loss_weights = kwargs.get("loss_weights")
        self.method, self.guard = method, guard
        self.method_state.parts.clear()
        method.check(self)
        with self.distribute_strategy.scope():
            method.build(self)
        self._probes = {}

    @property
    def metrics(self):
        """All metrics; those of training alone are the last ones."""
        of_training = self.method_state.metrics + self.guard.metrics
        return super().metrics + of_training

    # --- the steps ---------------------------------------------------------

    def train_step(self, data):
        carried = self.carried["training"]
        window = open_window(
            self, carried, data, True, self._class_weight, scaled=True
        )
        self.guard.train(window, carried)
        return window.learner.logs()

    def test_step(self, data):
        carried = self.carried["evaluation"]
        window = open_window(self, carried, data)
        carried.write(window.learner.evaluate())
        results = window.learner.logs().items()
        own = self.method_state.metrics + self.guard.metrics
        kept = {metric.name for metric in own}
        return {name: value for name, value in results if name not in kept}

    def predict_step(self, data):
        carried = self.carried["prediction"]
        window = open_window(self, carried, data)
        outputs, state = window.forward(window.whole(), window.state)
        carried.write(state)
        return window.judged(window.whole(), outputs)

    def estimate_gradients(
        self, x: Any, y: Any, sample_weight: Any = None, seed: int | None = None
    ) -> tuple[Any, list]:
        """The gradient the compiled method would follow; nothing changes.

        Weights, carried state, optimizer, metrics and the method's own draws
        stay as they are.

        Args:
            x: Inputs of one window, as `fit` takes them for one batch.
            y: Targets.
            sample_weight: Weights, or None.
            seed: Integer that replaces the draws of a random method, or None
                for those its next training step would use.

        Returns:
            (loss, gradients): the loss of the whole window as `compute_loss`
            gives it, and its estimated gradient aligned with
            `trainable_variables`.

        Example:

        >>> network = keras.Sequential([
        ...     keras.Input((None, 1)), keras.layers.SimpleRNN(2)])
        >>> model = ksg.SequenceModel.from_model(network)
        >>> model.compile("sgd", "mse")
        >>> x, y = np.ones((1, 4, 1)), np.zeros((1, 2))
        >>> loss, gradients = model.estimate_gradients(x, y)
        >>> [tuple(g.shape) for g in gradients]
        [(1, 2), (2, 2), (2,)]
        """
        if self.method is None:
            raise ValueError(
                "Call `compile(..., method=...)` before `estimate_gradients`."
            )
        return self.probe(self.method.estimate, x, y, sample_weight, seed)

    def probe(
        self,
        step: Callable[..., Any],
        x: Any,
        y: Any,
        sample_weight: Any = None,
        seed: int | None = None,
        jit: bool | None = None,
    ) -> Any:
        """Runs a function on the window of one batch; nothing changes.

        What diagnostics are made of.

        Args:
            step: Function (window, seed) -> nested tensors, traced once for
                the same function.
            x: Inputs of one window, as `fit` takes them for one batch.
            y: Targets.
            sample_weight: Weights, or None.
            seed: Integer, or None.
            jit: Whether XLA compiles it; None for as it was compiled. With
                `run_eagerly=True` nothing is.
        """
        data = as_tensors(x, y, sample_weight)
        jit = arguments.flag(self.jit_compile if jit is None else jit, "jit")
        run = self._probes.setdefault((step, jit), Probe(self, step, jit))
        return run(data, as_seed(seed))

    # --- runs --------------------------------------------------------------

    def make_train_function(self, force=False):
        # Where a first trace makes variables, TensorFlow traces once more.
        if not (self.is_opaque or self.optimizer.built):
            self.optimizer.build(self.trainable_variables)
        make = super().make_train_function
        by_rows.make_function(self, "training", make, force)

    def make_test_function(self, force=False):
        make = super().make_test_function
        by_rows.make_function(self, "evaluation", make, force)

    def make_predict_function(self, force=False):
        make = super().make_predict_function
        by_rows.make_function(self, "prediction", make, force)

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """As `keras.Model.fit`.

        With `stateful=True` the state of each row starts anew with every
        epoch. `class_weight` and sample weights (batch,) also work for targets
        at every step.
        """
        given = self._prepare("training", args, kwargs)
        self._use_class_weight(given.pop("class_weight", None))
        return super().fit(**given)

    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.evaluate`; carried state starts anew."""
        found = super().evaluate(**self._prepare("evaluation", args, kwargs))
        # Older versions leave tensors beside metrics of the training alone.
        return keras.tree.map_structure(_as_number, found)

    def predict(self, *args: Any, **kwargs: Any) -> Any:
        """As `keras.Model.predict`; carried state starts anew.

        To go on from where a sequence ended, as in sampling, use
        `initial_state` and `call_segment`.
        """
        return super().predict(**self._prepare("prediction", args, kwargs))

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: dict[int, float] | None = None,
        **kwargs: Any,
    ) -> Any:
        """As `keras.Model.train_on_batch`; carried state goes on."""
        agreement.check(self, (x, y, sample_weight), trains=True)
        self._use_class_weight(class_weight)
        logs = super().train_on_batch(x, y, sample_weight, **kwargs)
        self.guard.look(self)
        return logs

    def _prepare(self, run, args, kwargs):
        """The arguments of a run by name, checked, with our callbacks."""
        given = runs.bind(runs.RUNS[run].start, self, args, kwargs)
        agreement.check_run(self, run, given)
        return runs.complete(given, run, self)

    def _use_class_weight(self, table):
        table = agreement.class_table(table)
        if table != self._class_weight:
            self._class_weight = table
            self.train_function = None

    def reset_state(self, rows: npt.ArrayLike | None = None) -> None:
        """Makes rows start the next window from the initial state.

        After a reset of all rows the next batch may have more or fewer.

        Args:
            rows: Indices, a boolean mask (batch,), or None for all rows.

        Raises:
            ValueError: The model is not stateful.
        """
        beside.reset(self, rows)

    # --- saving ------------------------------------------------------------

    def load_weights(
        self,
        filepath: str | PathLike,
        skip_mismatch: bool = False,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.load_weights`, of the network.

        Carried rows and what a method has learned or drawn come with it where
        they fit: not into a model without carried state, in the middle of
        other rows, or compiled with another method.
        """
        load = super().load_weights
        beside.load_weights(
            self, lambda: load(filepath, skip_mismatch, **kwargs), filepath
        )


def _as_number(value):
    """A float for a tensor without axes; else what is given."""
    is_scalar = keras.ops.is_tensor(value) and len(value.shape) == 0
    return float(value) if is_scalar else value
