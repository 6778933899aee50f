"""The gradient a method gives, beside the exact one."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from keras_seqgrad import methods as known
from keras_seqgrad.diagnostics import given
from keras_seqgrad.diagnostics.comparison import ALL, GradientComparison
from keras_seqgrad.diagnostics.given import Methods
from keras_seqgrad.diagnostics.quality import FEWEST, Deviations
from keras_seqgrad.model import SequenceModel
from keras_seqgrad.network.tracing import is_graph
from keras_seqgrad.tensors import arguments
from keras_seqgrad.window.probe import Probe, as_tensors

# Least number of estimates to take the time of.
TIMINGS = 3


def compare_gradients(
    model: SequenceModel,
    x: Any,
    y: Any,
    methods: Methods | None = None,
    repeats: int = 32,
    sample_weight: Any = None,
    *,
    groups: Callable[[Any], str] | None = None,
    checkpoint_every: int | Literal["auto"] | None = "auto",
    seed: int = 0,
) -> GradientComparison:
    """Measures bias and variance of methods against exact gradients.

    Of one window and the weights as they are now, estimates

        g_i = method.estimate(window, seed + i)       i = 0 … repeats - 1

    are compared with g, by exact back-propagation through the whole window
    with checkpoints. See `GradientQuality` for the measures. Use it before a
    long training, to see whether a cheaper gradient points the right way, and
    for how much noise. It tells nothing of what lies beyond the window: give
    windows long beside the memory of the model.

    Layers run in inference mode, for the exact gradient and for all methods:
    dropout would be noise that no method is to blame for. With stateful=True
    the window starts from the state that training carries, and needs as many
    rows as a training batch. Nothing changes.

    A method that learns (a synthesiser, a learned inverse) uses what the
    compiled method has learned: compile the model with it, and train. Others
    need not be compiled.

    Time is that of an estimate as the model was compiled (with or without
    XLA), opening the window included. Memory is not reported: TensorFlow
    gives no honest figure of one function's memory on a CPU.

    Args:
        model: A compiled `SequenceModel`.
        x: Inputs of one window, as `fit` takes them for one batch.
        y: Targets.
        methods: List of methods or names, or a dict of them by the name to
            show; None for the compiled one.
        repeats: Estimates of each method, 3 or more. A method that draws
            nothing gives the same one again, and is asked once.
        sample_weight: Weights, or None.
        groups: Function from a variable to the name of its group; None for
            groups by layer.
        checkpoint_every: As for `ksg.methods.BPTT`, of the exact gradient;
            None for models whose layers add losses. "auto" is None for those
            that cannot be cut.
        seed: Seed of the first estimate.

    Returns:
        `GradientComparison`.

    Raises:
        ValueError: The model is not compiled, an argument is out of its range,
            or a method cannot estimate on this model.

    Reference:
        Tallec and Ollivier, 2017. Unbiasing truncated backpropagation through
        time. arXiv:1705.08209.

    Example:

    >>> network = keras.Sequential([
    ...     keras.Input((None, 1)),
    ...     keras.layers.GRU(2, return_sequences=True),
    ... ])
    >>> model = ksg.SequenceModel.from_model(network)
    >>> model.compile("sgd", "mse", method=ksg.methods.TruncatedBPTT(3))
    >>> x, y = np.ones((3, 6, 1)), np.ones((3, 6, 2))
    >>> found = ksg.diagnostics.compare_gradients(model, x, y)
    >>> found["TruncatedBPTT(length=3)"].cosine < 1.0
    True
    """
    check_repeats(repeats)
    seed = arguments.integer(seed, "seed", 0, arguments.LARGEST_SEED)
    bench = Bench(model, methods, groups, checkpoint_every)
    return bench.run(as_tensors(x, y, sample_weight), repeats, seed)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A method's estimate, layers in inference mode, as a `Probe` runs it."""

    method: known.Method

    def __call__(self, window, seed):
        window.training = False
        return self.method.estimate(window, seed)[1]


class Bench:
    """Methods on the windows of one model, each compiled once.

    Args:
        model: A compiled `SequenceModel`.
        methods: As for `compare_gradients`; so are the others.
        groups: Function from a variable to a name, or None.
        checkpoint_every: Steps between the states that are stored for the
            exact gradient.
    """

    def __init__(self, model, methods, groups, checkpoint_every):
        given.check_model(model)
        check_groups(groups)
        self.model = model
        self.methods = named(methods, model.method)
        for method in self.methods.values():
            method.check(model)
        self.groups = groups
        exact = known.BPTT(checkpoint_every)
        if model.network_uncut is not None:
            if checkpoint_every == "auto":
                exact = known.BPTT()
            exact.check(model)
        self.exact = self._probe(exact)
        self.probes = {n: self._probe(m) for n, m in self.methods.items()}

    def _probe(self, method):
        return Probe(self.model, Estimate(method), bool(self.model.jit_compile))

    def places(self):
        """Places among the trainable variables, by the name of the group."""
        owners = layers_of(self.model)
        found = {ALL: []}
        for place, variable in enumerate(self.model.trainable_variables):
            if self.groups is None:
                group = owners.get(id(variable), self.model.name)
            else:
                group = self.groups(variable)
            found[ALL].append(place)
            found.setdefault(group, []).append(place)
        return found

    def run(self, data, repeats, seed, timings=TIMINGS):
        """The `GradientComparison` on a batch of tensors.

        Args:
            data: Tensors (x, y, sample_weight).
            repeats: Estimates of each method that draws.
            seed: Seed of the first.
            timings: Least number of estimates to take the time of.
        """
        check_repeats(repeats)
        exact = []
        exact_seconds = measure(
            self.exact, data, seed, 1, timings, exact.extend
        )
        places = self.places()
        qualities, seconds, errors = {}, {}, {}
        for name, method in self.methods.items():
            count = repeats if method.random else 1
            deviations = Deviations(exact, count)
            try:
                seconds[name] = measure(
                    self.probes[name],
                    data,
                    seed,
                    count,
                    timings,
                    deviations.add,
                )
            except KeyError as error:
                raise ValueError(
                    f"{method!r} uses what is made and learned when a model is "
                    f"compiled with it ({error}). Expected a model compiled "
                    f"with that method, received one compiled with "
                    f"{self.model.method!r}. Compile the model with it, train, "
                    "and compare then."
                ) from error
            errors[name] = deviations.errors()
            qualities[name] = {
                group: deviations.quality(chosen)
                for group, chosen in places.items()
            }
        return GradientComparison(qualities, seconds, errors, exact_seconds)


def check_methods(methods):
    """Refuses what are no methods to compare; None stands for the own one."""
    listed = methods.values() if isinstance(methods, dict) else methods
    if isinstance(listed, (str, known.Method)):
        listed = [listed]
    if methods is None:
        return
    if not isinstance(methods, (str, dict, list, tuple, known.Method)) or (
        not listed
    ):
        wanted = "methods that differ, or names, in a list or a dict"
        arguments.refuse(methods, "methods", wanted)
    for method in listed:
        known.get(method)


def check_groups(groups):
    """Refuses what names no groups of variables."""
    if groups is not None:
        arguments.function(
            groups, "groups", "a function from a variable to a name, or None"
        )


def check_repeats(repeats):
    """Refuses too few estimates."""
    if arguments.positive_integer(repeats, "repeats") < FEWEST:
        raise ValueError(
            f"`repeats` must be {FEWEST} or more, to tell bias from variance. "
            f"Received: repeats={repeats}"
        )


def measure(probe, data, seed, count, timings, use):
    """Hands `count` estimates to `use`; returns the median seconds of one.

    Args:
        probe: The `Probe`.
        data: Tensors (x, y, sample_weight).
        seed: Seed of the first estimate.
        count: Number of estimates.
        timings: Least number of runs to take the time of.
        use: Function of a list of arrays, one for each variable.
    """
    if not probe.functions:
        probe(data, tf.constant(seed, "int32"))  # compiles
    seconds = []
    for place in range(max(count, timings)):
        start = time.perf_counter()
        found = probe(data, tf.constant(seed + place, "int32"))
        found = [gradient.numpy() for gradient in found]
        seconds.append(time.perf_counter() - start)
        if place < count:
            use(found)
    return float(np.median(seconds))


def named(methods, compiled):
    """Methods by the names to show."""
    if methods is None:
        methods = [compiled]
    check_methods(methods)
    if isinstance(methods, dict) and methods:
        return {name: known.get(method) for name, method in methods.items()}
    if isinstance(methods, (str, known.Method)):
        methods = [methods]
    listed = [known.get(method) for method in methods]
    names = [repr(method) for method in listed]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            "`methods` must be some methods that differ, or a dict of them by "
            f"name. Received: {names}"
        )
    return dict(zip(names, listed, strict=True))


def layers_of(model):
    """Name of the layer that each variable belongs to, by the variable's id."""
    found = {}
    waiting = [model.network or model]
    while waiting:
        for layer in waiting.pop().layers:
            if is_graph(layer):
                waiting.append(layer)
                continue
            for variable in layer.trainable_variables:
                found.setdefault(id(variable), layer.name)
    return found
