"""What a model keeps beside its weights: carried rows, a method's state.

Neither is a weight of the network, so Keras must not track them. Both are saved
with the model, since Keras saves whatever it finds among its attributes.
"""

import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np

from keras_seqgrad.state import seeds
from keras_seqgrad.state.carried import CarriedState
from keras_seqgrad.state.method_state import MethodState
from keras_seqgrad.state.runs import RUNS
from keras_seqgrad.tensors import arguments

# Under which names Keras finds the state of the method. It is saved under the
# first of them, and is there in files written when the model tracked it.
METHOD_STATE = ("layers/method_state", "method_state")
WANTED_ROWS = "indices of rows, or a boolean for each row"


def give(model):
    """Gives the model what it keeps, past the tracking of its attributes.

    That is `carried`, a `CarriedState` by the name of a run, and
    `method_state`, a `MethodState`.
    """
    vars(model)["carried"] = {
        run: CarriedState(run, model.stateful, model.state_spec) for run in RUNS
    }
    put(model, MethodState())


def put(model, method_state):
    """Puts a `MethodState` where the model has its own."""
    for name in METHOD_STATE:
        vars(model)[name] = method_state


def variables(model):
    """All variables of what the model keeps."""
    return [
        variable
        for kept in (*model.carried.values(), model.method_state)
        for variable in kept.variables
    ]


def reset(model, rows):
    """Makes rows of every run start anew; None for all, and any number."""
    if not model.stateful:
        raise ValueError(
            "There is no carried state to reset. Make the model with "
            "stateful=True to carry the state from window to window."
        )
    if rows is not None:
        rows = arguments.array(rows, "rows", WANTED_ROWS)
        rows = rows if rows.size else rows.astype(int)
        for carried in model.carried.values():
            if carried.rows:
                check_rows(rows, carried.batch_size)
    for carried in model.carried.values():
        carried.reset(rows)
        if rows is None:
            carried.release()


def check_rows(rows, batch_size):
    """Refuses indices of rows that a batch has not."""
    if rows.dtype == bool:
        return
    if rows.dtype.kind not in "iu":
        arguments.refuse(rows, "rows", WANTED_ROWS)
    if np.any(rows >= batch_size) or np.any(rows < -batch_size):
        wanted = f"indices from 0 to {batch_size - 1}, of the batch's rows"
        arguments.refuse(rows.tolist(), "rows", wanted)


class Alone(keras.Model):
    """The state of a model's method where a file of weights has it."""

    def __init__(self, model):
        super().__init__(name="alone")
        self.method_state = model.method_state
        self.first_seed = len(model.running_variables)
        self.built = True

    def save_own_variables(self, store):
        seeds.save(store, seeds.of(self.method_state), self.first_seed)

    def load_own_variables(self, store):
        """What else the file has there is the model's own."""
        seeds.load(store, seeds.of(self.method_state), self.first_seed)


def load_weights(model, load, filepath):
    """Loads weights into a model, and what it keeps where that fits.

    The state of a method is taken as a whole or not at all: half of it would
    be that of no method. (Carried rows see for themselves.)

    Args:
        model: The `SequenceModel`.
        load: Keras' own function () that does it.
        filepath: The file.
    """
    method_state = model.method_state
    put(model, MethodState())
    try:
        load()
    finally:
        put(model, method_state)
    if method_state.parts:
        alone = Alone(model)
        with tempfile.TemporaryDirectory() as folder:
            before = str(Path(folder, "before.weights.h5"))
            alone.save_weights(before)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                try:
                    alone.load_weights(filepath)
                except ValueError:
                    alone.load_weights(before)
                    said.clear()
        for warning in said:
            warnings.warn(warning.message, stacklevel=3)
