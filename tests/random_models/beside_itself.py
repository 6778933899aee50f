"""Random models beside themselves: compiled, saved, in half precision."""

import dataclasses
import pathlib
import re
import tempfile

import keras
import numpy as np

import keras_seqgrad as ksg
from tests import zoo
from tests.random_models import methods, networks, settings, training
from tests.random_models.drawing import Comparison, Source, told
from tests.random_models.networks import Limits


def drawn(source, **limits):
    """A method, a network that it takes, and settings."""
    method, of_method = methods.draw(source)
    network = networks.draw(source, Limits(**{**limits, **of_method}))
    chosen = settings.draw(source, network)
    return method, network, chosen


def made(network, text, method, seed, **options):
    """A compiled SequenceModel, or `Refused`."""
    model = training.build(network, seed)
    model = ksg.SequenceModel.from_model(model, **options)
    training.refusing(
        lambda: training.compiled(model, text, method=training.method(method))
    )
    return model


def numbers_of(model):
    """All that a model has learnt, drawn and kept, by its place."""
    of_method = model.method_state.optimizer_variables
    variables = [
        *zoo.everything(model),
        *model.optimizer.variables,
        *of_method,
    ]
    return {place: v.numpy() for place, v in enumerate(variables)}


def without(text, *names):
    """Settings without some that stand last in them."""
    return text[
        : min(text.find(f", {name}=") % (len(text) + 1) for name in names)
    ]


def of_compiled(seed):
    """Eager steps, traced ones and those that XLA compiles."""
    source = Source([seed, 5])
    method, network, chosen = drawn(source, layers=2)
    text = without(chosen.compiled, "run_eagerly", "jit_compile")
    ways = ["run_eagerly=True", "jit_compile=False"]
    if "update='cut'" not in method:
        ways.append("jit_compile=True")

    def run():
        found = []
        for way in ways:
            model = made(network, f"{text}, {way}", method, seed)
            history = training.refusing(
                lambda m=model: training.fit(m, network, chosen)
            )
            # Those of single outputs Keras weighs by the rows of a batch in
            # eager steps alone.
            history = {
                name: values
                for name, values in history.items()
                if not re.search(r"out\d_loss", name)
            }
            found.append((way, history, numbers_of(model)))
        for way, history, numbers in found[1:]:
            training.compare(history, found[0][1], 1e-3, f"{way} history")
            training.compare(
                numbers,
                found[0][2],
                1e-3,
                f"{way} numbers",
            )

    return Comparison(told(network, chosen, method), run)


def of_saved(seed):
    """Saved in the middle and loaded: as if it had not been stopped."""
    source = Source([seed, 6])
    method, network, chosen = drawn(source, dropout=0.2)
    carried = source.chance(0.4)
    text = without(chosen.compiled, "run_eagerly", "jit_compile")
    text += ", run_eagerly=True"
    way = source.choice(["model", "weights", "backup"])
    if way == "model" and ("lambda" in text or "largest" in text):
        # What has no name cannot be saved.
        way = "backup"
    if way != "backup":
        # At the end of `fit` Keras puts the averages in the weights' place.
        text = re.sub(r", use_ema=True, ema_overwrite_frequency=\d+", "", text)
    if carried:
        fit = {**chosen.fit, "batch_size": 3}
        chosen = dataclasses.replace(chosen, rows=6, fit=fit, validation="none")
    stop, further = source.integer(1, 3), source.integer(0, 9)

    def run():
        def start():
            for _ in range(further):
                # Keras counts the names of layers further.
                training.build(network)
            return made(network, text, method, seed, stateful=carried)

        whole = start()
        expected = training.refusing(
            lambda: training.fit(whole, network, chosen)
        )
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            if way == "backup":
                again, found = from_backup(start, network, chosen, folder, stop)
            else:
                first = start()
                training.fit(first, network, chosen, epochs=1)
                again = saved_and_loaded(first, start, way, folder)
                found = training.fit(again, network, chosen, initial_epoch=1)
        training.compare(
            {n: v[-1] for n, v in found.items()},
            {n: v[-1] for n, v in expected.items()},
            0.0,
            "history",
        )
        training.compare(
            numbers_of(again),
            numbers_of(whole),
            0.0,
            "numbers",
        )

    return Comparison(
        told(network, chosen, method)
        + f"; stateful={carried}; saved by {way}, stop={stop}, "
        f"further={further}",
        run,
    )


def saved_and_loaded(first, start, way, folder):
    if way == "model":
        first.save(folder / "model.keras")
        return keras.models.load_model(folder / "model.keras", safe_mode=True)
    first.save_weights(folder / "model.weights.h5")
    again = start()
    # Keras loads slots only where they have been made.
    again.optimizer.build(again.trainable_variables)
    again.load_weights(folder / "model.weights.h5")
    return again


class Stop(keras.callbacks.Callback):
    """Leaves `fit` by an error after so many batches."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise InterruptedError


def from_backup(start, network, chosen, folder, stop):
    """Stopped within an epoch, and begun again from the backup."""
    backup = ksg.callbacks.BackupAndRestore
    model = start()
    try:
        history = training.fit(
            model,
            network,
            chosen,
            callbacks=[backup(folder / "states", save_freq=1), Stop(stop)],
        )
    except InterruptedError:
        model = start()
    else:
        return model, history  # there were fewer batches than that
    history = training.fit(
        model,
        network,
        chosen,
        callbacks=[backup(folder / "states", save_freq=1)],
    )
    return model, history


def of_half(seed):
    """Half precision: finite, near to float32, weights in float32."""
    source = Source([seed, 7])
    # Keras' sums of squares overflow under mixed_float16.
    method, network, chosen = drawn(source, added=False)
    policy = source.choice(["mixed_float16", "mixed_bfloat16"])

    def run():
        losses = []
        start = training.build(network, seed).get_weights()
        for name in ("float32", policy):
            keras.config.set_dtype_policy(name)
            model = training.build(network, seed)
            model.set_weights(start)
            model = ksg.SequenceModel.from_model(model)
            # A fourth power is out of range of float16: Keras skips updates.
            text = chosen.compiled.replace("** 4", "** 2")
            given = training.method(method)

            def train(model=model, text=text, given=given):
                training.compiled(model, text, method=given)
                return training.fit(model, network, chosen)

            losses.append(training.refusing(train)["loss"])
            wrong = [
                f"{v.path}: {v.dtype}"
                for v in model.weights
                if v.dtype != "float32"
            ]
            if wrong:
                raise training.Different(f"{name}: {wrong}")
            bad = [
                v.path
                for v in model.weights
                if not np.isfinite(v.numpy()).all()
            ]
            if bad and "Inversion" in method and name == "float32":
                # Its displacements may overflow, as its error says.
                raise training.NotInKeras("The method runs away.")
            if bad:
                raise training.Different(f"{name}: not finite: {bad}")
        training.compare({"loss": losses[1]}, {"loss": losses[0]}, 0.05, policy)

    return Comparison(told(network, chosen, method, policy), run)
