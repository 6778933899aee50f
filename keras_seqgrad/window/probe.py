"""What is computed on a window beside the training."""

import functools

import keras
import tensorflow as tf

from keras_seqgrad.state import beside
from keras_seqgrad.state.carried import CarriedState
from keras_seqgrad.state.rows import number_in
from keras_seqgrad.tensors import arguments
from keras_seqgrad.window import agreement
from keras_seqgrad.window.opening import open_window
from keras_seqgrad.window.timed import named


def as_tensors(x, y=None, sample_weight=None):
    """The batch (x, y, sample_weight) as a `Probe` takes it."""
    agreement.refuse_lists(x, y, sample_weight)
    if x is None:
        arguments.refuse(x, "x", "the inputs of one window")
    given = {"x": x, "y": y, "sample_weight": sample_weight}
    for name, structure in given.items():
        if structure is not None and not keras.tree.flatten(structure):
            arguments.refuse(structure, name, "tensors (batch, ...)")
    return tuple(
        keras.tree.pack_sequence_as(
            structure,
            [
                None if leaf is None else arguments.tensor(leaf, label)
                for label, leaf in named(name, structure)
            ],
        )
        if structure is not None
        else None
        for name, structure in given.items()
    )


def as_seed(seed):
    """A seed as a step takes it, or None."""
    if seed is None:
        return None
    most = arguments.LARGEST_SEED
    return tf.constant(arguments.integer(seed, "seed", -most - 1, most))


class Probe:
    """Runs something on the window of a batch; nothing changes by it.

    Args:
        model: The compiled `SequenceModel`.
        step: Function (window, seed) -> nested tensors.
        jit: Whether XLA compiles it, unless the model runs eagerly.
    """

    def __init__(self, model, step, jit):
        self.model = model
        self.step = arguments.function(
            step, "step", "a function (window, seed) -> tensors"
        )
        self.jit = jit
        self.nothing_carried = CarriedState("no", stateful=False)
        self.functions = {}

    def __call__(self, data, seed=None):
        """The step on a batch (x, y, sample_weight).

        Without targets the step must not ask for a loss.
        """
        model = self.model
        if tf.distribute.in_cross_replica_context():
            raise ValueError(
                "Gradients are looked at on one device, all rows together. "
                "Expected a call outside of strategy.scope(), received one "
                "inside of it."
            )
        agreement.check(model, data, True, judged=data[1] is not None)
        carried, rows = self._carried(data)
        # That of each replica on this machine, which are not always the same.
        local = model.distribute_strategy.experimental_local_results
        changing = [
            part
            for variable in [
                *model.non_trainable_variables,
                *beside.variables(model),
                *model.metrics_variables,
            ]
            for part in local(variable.value)
        ]
        values = [v.numpy() for v in changing]
        try:
            if not self.functions and data[1] is not None:
                self.build_loss(data)
            if (carried, rows) not in self.functions:
                self.functions[carried, rows] = self._make(carried)
            return self.functions[carried, rows](data, seed)
        finally:
            for variable, value in zip(changing, values, strict=True):
                variable.assign(value)

    def _carried(self, data):
        """(the `CarriedState` the batch starts from, its rows if that counts).

        Other rows than the training has would start anew: here, beside it,
        and where nothing is carried, for else a probe is of what is.
        """
        carried = self.model.carried["training"]
        if not carried.stateful:
            return carried, None
        rows = number_in(data)
        if rows != carried.batch_size:
            if carried.rows and not (carried.released and carried.is_fresh):
                carried.refuse(rows)
            return self.nothing_carried, rows
        return carried, rows

    def _make(self, carried):
        run = functools.partial(self._run, carried)
        if self.model.run_eagerly:
            return run
        # TensorFlow counts traces by the code of a function, and would take
        # many probes for one that is traced again.
        return tf.function(
            run,
            autograph=False,
            reduce_retracing=True,
            jit_compile=self.jit,
        )

    def _run(self, carried, data, seed):
        jit = self.jit and not self.model.run_eagerly
        window = open_window(self.model, carried, data, True, jit=jit)
        return self.step(window, seed)

    def build_loss(self, data):
        """Lets Keras create the variables of the loss outside of a trace."""
        window = open_window(self.model, self.nothing_carried, data)
        if self.model.judged_whole:
            segment = window.whole()
        else:
            segment = window.segment(0, 1)
        outputs, _ = window.forward(segment, window.state)
        window.loss(segment, outputs)
