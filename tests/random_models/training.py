"""Makes models of drawn networks, trains them, and says how two differ."""

import pathlib
import traceback

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg
from tests import zoo
from tests.network.networks import Inside
from tests.random_models import settings as drawn


def largest(y, p):
    """A metric of the user's own."""
    p = keras.ops.cast(p, y.dtype)
    return keras.ops.max(keras.ops.abs(y - p), axis=-1)


NAMES = {
    "largest": largest,
    "keras": keras,
    "ksg": ksg,
    "L": keras.layers,
    "Inside": Inside,
    "PlainCell": zoo.PlainCell,
}
PACKAGE = str(pathlib.Path(ksg.__file__).parent)


class Refused(Exception):
    """An error of ours in its place: what a SequenceModel does not take."""


class NotInKeras(Exception):
    """Stock Keras does not train the draw: there is nothing to compare."""


class Different(Exception):
    """Two trainings that should be the same are not."""


def in_float64():
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")


def build(network, seed=0):
    """The Keras model of a drawn network, with weights that a seed makes."""
    keras.utils.set_random_seed(seed)
    names = dict(NAMES)
    exec("\n".join(network.lines), names)
    model = names["network"]
    generator = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        # Biases begin at zero, where slips are not seen.
        change = 0.2 * generator.normal(size=variable.shape)
        variable.assign(variable + change.astype(variable.dtype))
    return model


def twins(network, seed=0, **options):
    """A stock model and a SequenceModel of the same weights."""
    stock = build(network, seed)
    copy = build(network, seed)
    copy.set_weights(stock.get_weights())
    return stock, ksg.SequenceModel.from_model(copy, **options)


def compiled(model, text, **more):
    """Compiles a model by a text of arguments."""
    model.compile(**eval(f"dict({text})", dict(NAMES)), **more)
    return model


def method(text):
    """A method of a text, with or without the module's name."""
    return eval(f"ksg.methods.{text.removeprefix('ksg.methods.')}", dict(NAMES))


def refusing(function):
    """What a function returns; ours among its errors become `Refused`."""
    try:
        return function()
    except (ValueError, TypeError) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        if not frame.filename.startswith(PACKAGE):
            raise
        raise Refused(f"{type(error).__name__}: {error}") from error


def fit(model, network, settings, **more):
    """The history of a fit by drawn settings."""
    x, y, weights = drawn.data(network, settings)
    given = {**settings.fit, "class_weight": settings.class_weight, **more}
    if settings.validation == "data":
        held = drawn.data(network, settings, seed_more=1)
        given["validation_data"] = held if held[2] is not None else held[:2]
    elif settings.validation == "split":
        given["validation_split"] = 0.4
    if settings.as_dataset:
        size = given.pop("batch_size")
        parts = (x, y) if weights is None else (x, y, weights)
        dataset = tf.data.Dataset.from_tensor_slices(as_tuples(parts))
        if "validation_data" in given:
            held = tf.data.Dataset.from_tensor_slices(
                as_tuples(given["validation_data"])
            )
            given["validation_data"] = held.batch(size)
        del given["shuffle"]
        history = model.fit(dataset.batch(size), verbose=0, **given)
    else:
        history = model.fit(x, y, sample_weight=weights, verbose=0, **given)
    return history.history


def as_tuples(parts):
    """Lists as tuples, since tf.data makes tensors of lists."""
    return tuple(tuple(p) if isinstance(p, list) else p for p in parts)


def compare(found, expected, tolerance, what):
    """Raises `Different` where two lists of named numbers differ."""
    found, expected = dict(found), dict(expected)
    if found.keys() != expected.keys():
        raise Different(f"{what}: {list(found)} for {list(expected)}")
    worst = {}
    for name, value in expected.items():
        a, b = np.asarray(found[name], float), np.asarray(value, float)
        if a.shape != b.shape:
            raise Different(f"{what} {name}: {a.shape} for {b.shape}")
        # A training that runs away does so in both.
        a, b = (np.where(np.isnan(a) & np.isnan(b), 0.0, v) for v in (a, b))
        scale = max(1.0, np.abs(b).max(initial=0.0))
        error = np.abs(a - b).max(initial=0.0) / scale
        if not error <= tolerance:
            worst[name] = error
    if worst:
        name = max(worst, key=lambda n: np.nan_to_num(worst[n], nan=np.inf))
        both = f"{np.ravel(found[name])[:4]} for {np.ravel(expected[name])[:4]}"
        others = f" (and {len(worst) - 1} more)" if len(worst) > 1 else ""
        raise Different(
            f"{what} {name}{others}: error {worst[name]:.1e}, {both}"
        )


def weights_of(model):
    """Weights by their places, and the ends of their names."""
    return {f"{i} {v.name}": v.numpy() for i, v in enumerate(model.weights)}
