"""Goes on with a training that was stopped, as if it had not been."""

import warnings
from os import PathLike
from typing import Literal

from keras_seqgrad.callbacks.backup_files import Backups
from keras_seqgrad.callbacks.position import (
    Position,
    Skipping,
    come_again,
    length_of_pass,
)
from keras_seqgrad.state import runs, snapshot
from keras_seqgrad.tensors import arguments, replicas


class BackupAndRestore(runs.Arranging):
    """Goes on with a stopped training, bit for bit as without the stop.

    As `keras.callbacks.BackupAndRestore`, with the same arguments, for a
    `SequenceModel`. It restores all that a step reads or changes: weights,
    optimizer slots, what the method has learned and draws, what layers draw
    from, the carried state of the rows, the epoch's metrics so far; and it
    goes on at the batch that comes next, where Keras' own starts the epoch
    over. Use it for any training that lasts longer than the machine is sure
    to. Not for keeping models: a state is read by this callback alone.

    Start the script again with the same model, data and callbacks. Where
    `fit` finds a state in `backup_dir`, it goes on from there, and else it
    begins.

    * A state is one file, written under another name and then renamed. A stop
      at any moment leaves whole ones. A file that was damaged later is known
      by its digest: the one before is taken, with a warning.
    * Batches of the epoch that were seen are drawn again and dropped, which
      costs what it takes to make them; for `ksg.data.stream` that is some
      hundred microseconds a window. With `steps_per_epoch` these are all
      batches since the data began. Callbacks see them pass, with the logs of
      the stop.
    * A `tf.data.Dataset` that differs from pass to pass, as shuffled or cut at
      random with a seed, is brought to the same pass: passes before are begun
      and left. Arrays that `fit` shuffles are shuffled otherwise, with a
      warning; so, without one, is what nobody can seed, and a generator must
      be a new one. A dataset of an unknown number of batches which changes
      from epoch to epoch is warned of: give `steps_per_epoch`.
    * With a `tf.distribute` strategy a state is that of all replicas, and may
      go on with more of them, or fewer. Of several machines the first one
      writes, and all read: `backup_dir` is a folder that they share.
    * What other callbacks remember (the patience of EarlyStopping) is theirs,
      and lost. This one is called after all others, wherever it stands.

    Args:
        backup_dir: Folder of the states of this run and no other.
        save_freq: "epoch" to save when an epoch ends; or also every so many
            batches of it.
        double_checkpoint: Whether to keep the last two states. Keras' default
            is one; with one alone there is nothing to go back to when a file
            is damaged.
        delete_checkpoint: Whether to delete the states when `fit` is done.

    Attributes:
        position: Where the training is: its `epoch` and `batch`, counted from
            0, are those that come next.

    Raises:
        ValueError: An argument is out of its range; or, in `fit`, the state is
            of another model, method or data, or the model no `SequenceModel`.
        OSError: There are states, and none can be read.

    Example:

    >>> import tempfile
    >>> network = keras.Sequential([
    ...     keras.Input((None, 1)), keras.layers.SimpleRNN(2)])
    >>> model = ksg.SequenceModel.from_model(network)
    >>> model.compile("sgd", "mse")
    >>> callback = ksg.callbacks.BackupAndRestore(
    ...     tempfile.mkdtemp(), save_freq=1)
    >>> x, y = np.ones((4, 3, 1)), np.zeros((4, 2))
    >>> history = model.fit(x, y, batch_size=2, shuffle=False,
    ...                     callbacks=[callback], verbose=0)
    """

    def __init__(
        self,
        backup_dir: str | PathLike,
        save_freq: int | Literal["epoch"] = "epoch",
        double_checkpoint: bool = True,
        delete_checkpoint: bool = True,
    ) -> None:
        super().__init__()
        arguments.path(backup_dir, "backup_dir", "the path of a folder")
        if not isinstance(save_freq, str) or save_freq != "epoch":
            save_freq = arguments.positive_integer(save_freq, "save_freq")
        self.save_freq = save_freq
        self.delete_checkpoint = arguments.flag(
            delete_checkpoint, "delete_checkpoint"
        )
        double = arguments.flag(double_checkpoint, "double_checkpoint")
        self.backups = Backups(backup_dir, 2 if double else 1)
        self.arranged_for = None

    # --- before fit begins -------------------------------------------------

    def arrange(self, model, given):
        self.arranged_for = model
        if model.method is None:
            return given  # what Keras says of it is to the point
        self.steps = given.get("steps_per_epoch")
        self.length = length_of_pass(given, model.steps_per_execution)
        self.model_is = describe(model)
        self.epoch_lengths = set()
        self.position = Position(epoch=given.get("initial_epoch", 0))
        self.saved = None
        found = self.backups.read()
        if found is None:
            return given
        head, self.saved = found
        self._check(head)
        self.position = Position(**head["position"])
        self.epoch_lengths = set(head["epoch_lengths"])
        self.rows = head["rows"]
        self.batches = head["batches"]
        x = come_again(given, self.position, self.length)
        return {**given, "x": x, "initial_epoch": self.position.epoch}

    def _check(self, head):
        """Refuses the state of a run that was another."""
        now = self._fit_is()
        for name, was in head["fit"].items():
            if now[name] != was:
                raise ValueError(
                    f"The state in {self.backups.folder} is of another run. "
                    f"Expected {name}={was!r}, received {now[name]!r}. Go on "
                    "with what the run began with, or delete the folder."
                )

    def _fit_is(self):
        return {**self.model_is, "steps_per_epoch": self.steps}

    # --- the run -----------------------------------------------------------

    def on_train_begin(self, logs=None):
        if self.arranged_for is not self.model:
            raise ValueError(
                "ksg.callbacks.BackupAndRestore needs a ksg.SequenceModel, "
                "and a place in the list that is given as `callbacks` to its "
                f"`fit`. Received: {type(self.model).__name__}. For other "
                "models there is keras.callbacks.BackupAndRestore."
            )
        self.arranged_for = None
        self.since = 0
        if self.saved is None:
            return
        batches = self.params["steps"]
        if batches != self.batches and None not in (batches, self.batches):
            raise ValueError(
                f"The state in {self.backups.folder} is of other data. "
                f"Expected {self.batches} batches in an epoch, received "
                f"{batches}."
            )
        model, position = self.model, self.position
        if model.stateful and self.rows is not None:
            runs.begin(model, self.rows)
        if not model.optimizer.built and model.built:
            model.optimizer.build(model.trainable_variables)
        if not position.batch:
            # Here, since what others do when an epoch begins comes after it.
            self._restore(whole=False)
        if position.batch or position.drawn:
            self._skip()

    def _skip(self):
        """Lets the steps that are behind pass, before training goes on."""
        model, position = self.model, self.position
        size = model.steps_per_execution
        if position.batch % size:
            raise ValueError(
                f"The state was saved after {position.batch} batches of its "
                "epoch. Expected a steps_per_execution that divides it, "
                f"received {size}."
            )
        Skipping(
            model,
            position.drawn - position.batch,
            position.batch // size,
            self._restore,
        )

    @property
    def _is_skipping(self):
        return isinstance(self.model.train_function, Skipping)

    def _end_skipping(self):
        if self._is_skipping:
            self.model.train_function.end()

    def _restore(self, whole=True):
        try:
            snapshot.restore(self.model, self.saved, whole)
        except ValueError as error:
            raise ValueError(
                f"In {self.backups.folder}: {error} A model that is built when "
                "it is first called must be called before `fit`."
            ) from error

    def on_train_batch_begin(self, batch, logs=None):
        self.first = batch

    def on_train_batch_end(self, batch, logs=None):
        if batch < self.position.batch:
            return  # one of those behind
        self.position.advance(self.first, batch)
        self.since += batch + 1 - self.first
        if self.save_freq != "epoch" and self.since >= self.save_freq:
            self.since = 0
            self._save()

    def on_epoch_end(self, epoch, logs=None):
        if self._is_skipping:
            raise ValueError(
                f"The state in {self.backups.folder} is of other data. "
                f"Expected {self.position.batch} batches or more in epoch "
                f"{epoch + 1}, received fewer."
            )
        self._compare_lengths()
        self.position.end_epoch(epoch, self.steps, self.length)
        self.since = 0
        self._save()

    def _compare_lengths(self):
        """Warns of epochs that Keras would end elsewhere after a stop."""
        known = len(self.epoch_lengths)
        self.epoch_lengths.add(self.position.batch)
        if known == 1 and len(self.epoch_lengths) == 2:
            warnings.warn(
                "The number of batches differs from epoch to epoch "
                f"{sorted(self.epoch_lengths)}, and `fit` takes that of its "
                "first epoch for all others: so a training that is stopped "
                "goes on with other epochs. Expected dataset.repeat() and "
                "steps_per_epoch.",
                stacklevel=2,
            )

    def on_train_end(self, logs=None):
        self._end_skipping()
        if self.delete_checkpoint and self._writes:
            self.backups.delete()
        self.saved = None

    # --- saving ------------------------------------------------------------

    @property
    def _writes(self):
        return 0 in replicas.places(self.model.distribute_strategy)

    def _save(self):
        head = {
            "position": vars(self.position),
            "fit": self._fit_is(),
            "batches": self.params["steps"],
            "epoch_lengths": sorted(self.epoch_lengths),
            "rows": self.model.carried["training"].batch_size,
        }
        found = snapshot.take(self.model)  # to which all machines contribute
        if self._writes:
            self.backups.write(head, found)


def describe(model):
    """What must be the same when training goes on, by name."""
    settings = {
        name: value
        for name, value in model.method.get_config().items()
        if value is None or isinstance(value, (bool, int, float, str))
    }
    return {
        "stateful": model.stateful,
        "method": [type(model.method).__name__, settings],
        "optimizer": type(model.optimizer).__name__,
    }
