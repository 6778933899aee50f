"""What Keras compiles for a run, once for each number of rows."""

import itertools

import keras

from keras_seqgrad.state.rows import is_shared, number_in
from keras_seqgrad.state.runs import RUNS


def make_function(model, run, make, force):
    """Makes the function of a run, as Keras' `make_..._function`.

    Args:
        model: The `SequenceModel`.
        run: "training", "evaluation" or "prediction".
        make: Keras' own method that makes it.
        force: Whether to make it where there is one.
    """
    name = RUNS[run].function
    while isinstance(getattr(model, name), StandIn):
        getattr(model, name).end()  # of a run that was left
    if not model.stateful:
        make(force)
    elif force or getattr(model, name) is None:
        setattr(model, name, ByRows(model, run, make))


class StandIn:
    """Stands for the function of a run, for a while.

    Args:
        model: The `SequenceModel`.
        run: "training", "evaluation" or "prediction".
    """

    def __init__(self, model, run):
        self.model = model
        self.name = RUNS[run].function
        self.function = getattr(model, self.name)
        self.begin()

    def begin(self):
        setattr(self.model, self.name, self)

    def end(self):
        setattr(self.model, self.name, self.function)


class ByRows:
    """The function of a run of a model that carries its state.

    Makes room for the rows of a batch before anything is traced or run. Where
    the source of the batches tells their size, the loop over them is Keras'
    own; else they are looked at one by one.

    Args:
        model: The `SequenceModel`.
        run: "training", "evaluation" or "prediction".
        make: Keras' own method that makes the function.
    """

    def __init__(self, model, run, make):
        self.model = model
        self.run = run
        self.make = make
        self.functions = {}

    def __call__(self, batches):
        """One execution.

        Args:
            batches: An iterator over batches, or a list of them.
        """
        if isinstance(batches, list):
            rows = self.admit(batches[0])
            for other in map(self.rows_of, batches[1:]):
                if other != rows:
                    self.model.carried[self.run].refuse(other)
            return self.function(rows)(batches)
        spec = getattr(batches, "element_spec", None)
        if self.rows_of(spec) is not None:
            return self.function(self.admit(spec))(batches)
        first = next(batches)
        return self.function(self.admit(first))(self.looked_at(first, batches))

    def looked_at(self, first, batches):
        """The batches of one execution; the first has been looked at."""
        yield first
        count = self.model.steps_per_execution - 1
        for batch in itertools.islice(batches, count):
            self.admit(batch)
            yield batch

    def admit(self, batch):
        """Number of rows of a batch (or of its spec), for which room is made.

        Raises:
            ValueError: The run is in the middle of other rows.
        """
        rows = self.rows_of(batch)
        if rows is not None:
            self.model.carried[self.run].admit(rows)
            if self.run == "training":
                self.model.method_state.admit(rows)
        return rows

    def rows_of(self, batch):
        """Number of rows of a batch (or of its spec), of all replicas.

        Raises:
            ValueError: Every replica would train all of them.
        """
        strategy = self.model.distribute_strategy
        rows = number_in(batch, strategy)
        replicas = strategy.num_replicas_in_sync
        if rows is not None and replicas > 1:
            if not any(map(is_shared, keras.tree.flatten(batch))):
                raise ValueError(
                    f"One of {replicas} replicas carries its share of the "
                    "rows, and Keras gives every replica all of a single "
                    "batch. Expected `fit`, `evaluate` or `predict`, received "
                    "train_on_batch, test_on_batch or predict_on_batch."
                )
        return rows

    def function(self, rows):
        """What Keras makes; it is compiled for these rows alone."""
        if rows not in self.functions:
            name = RUNS[self.run].function
            self.make(force=True)
            self.functions[rows] = getattr(self.model, name)
            setattr(self.model, name, self)
        return self.functions[rows]
