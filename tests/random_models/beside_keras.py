"""Random models beside stock Keras, in float64."""

import dataclasses
import re

import keras
import numpy as np
import tensorflow as tf

import keras_seqgrad as ksg
from tests.random_models import networks, settings, structures, training, wild
from tests.random_models.drawing import Comparison, Source, told
from tests.random_models.networks import Limits

TOLERANCE = 1e-8
# What does not fall into the sums of segments.
# Stacks cannot be stateful in Keras.
CUT = Limits(last=False, starts=False, stacks=False, nests=False)


def of_bptt(seed):
    """`fit`, `evaluate` and `predict` by BPTT beside those of Keras."""
    source = Source([seed, 1])
    network = networks.draw(source, Limits())
    chosen = settings.draw(source, network)
    method = source.choice(["BPTT()", "BPTT()", "BPTT(2)"])
    return Comparison(
        told(network, chosen, method),
        lambda: as_keras(network, chosen, method, seed),
    )


def of_refused(seed):
    """A layer that may mix steps: refused by us, or trained as in Keras."""
    source = Source([seed, 2])
    network = networks.draw(source, Limits(last=False))
    network = wild.with_wild(source, network)
    chosen = settings.draw(source, network)
    method = source.choice(["BPTT()", "BPTT()", "BPTT(2)"])
    return Comparison(
        told(network, chosen, method),
        lambda: as_keras(network, chosen, method, seed),
    )


def as_keras(network, chosen, method, seed):
    training.in_float64()
    try:
        stock, model = training.twins(network, seed)
        training.compiled(stock, chosen.compiled)
        expected = training.fit(stock, network, chosen)
    except Exception as error:
        raise training.NotInKeras(f"{type(error).__name__}: {error}") from error
    if not all(np.isfinite(values).all() for values in expected.values()):
        raise training.NotInKeras("The loss is not finite.")

    def train():
        made = training.method(method)
        training.compiled(model, chosen.compiled, method=made)
        return training.fit(model, network, chosen)

    found = training.refusing(train)
    training.compare(found, expected, TOLERANCE, "history")
    same_weights(model.network, stock)
    x, y, weights = settings.data(network, chosen)
    given = {"batch_size": 3, "verbose": 0}
    pair = [
        each.evaluate(x, y, sample_weight=weights, return_dict=True, **given)
        for each in (model, stock)
    ]
    training.compare(*pair, TOLERANCE, "evaluate")
    pair = [
        dict(enumerate(keras.tree.flatten(each.predict(x, **given))))
        for each in (model, stock)
    ]
    training.compare(*pair, TOLERANCE, "predict")


def same_weights(model, stock):
    pair = map(training.weights_of, (model, stock))
    training.compare(*pair, TOLERANCE, "weights")


def of_truncated(seed):
    """Truncation beside stateful layers of Keras, fed by hand."""
    source = Source([seed, 3])
    # A masked step at the start of a batch gives zeros in Keras, which a
    # regulariser of what is behind it would see.
    without = source.choice(["masks", "added"])
    limits = dataclasses.replace(CUT, **{without: False})
    network = networks.draw(source, limits)
    windows, length = source.integer(1, 3), source.integer(1, 4)
    carried = source.chance(0.6)
    given = {"validation": "none", "class_weight": None}
    if length == 1 or network.steps % length == 1:
        # With one step, labels (batch, 1, 1) and weights (batch, 1) Keras
        # multiplies the loss of each row by the weights of all rows.
        given["weights"] = "none"
    chosen = settings.draw(source, network, as_dataset=True, **given)
    chosen = dataclasses.replace(
        chosen, compiled=by_hand(chosen.compiled), rows=source.integer(2, 4)
    )

    def run():
        training.in_float64()
        data = [
            settings.data(network, chosen, seed_more=number)
            for number in range(windows)
        ]
        stock = training.build(stateful(network, chosen.rows), seed)
        model = training.build(network, seed)
        model.set_weights(stock.get_weights())
        model = ksg.SequenceModel.from_model(model, stateful=carried)
        training.compiled(stock, chosen.compiled + ", run_eagerly=True")
        method = ksg.methods.TruncatedBPTT(length)
        training.refusing(
            lambda: training.compiled(model, chosen.compiled, method=method)
        )
        found = []
        for _ in range(2):
            found += training.refusing(
                lambda: model.fit(of_windows(data), verbose=0)
            ).history["loss"]
            try:
                losses = [
                    segments(stock, network, window, length, reset)
                    for window, reset in zip(
                        data,
                        [True] + [not carried] * (windows - 1),
                        strict=True,
                    )
                ]
            except tf.errors.InvalidArgumentError as error:
                # It takes no weights of steps for outputs with more axes.
                raise training.NotInKeras(str(error)) from error
            # As the end of `fit` does, where weights are averaged.
            stock.optimizer.finalize_variable_values(stock.trainable_variables)
        same_weights(model.network, stock)
        if plain(network, chosen):
            training.compare(
                {"loss": found[-1:]},
                {"loss": [np.mean(losses)]},
                TOLERANCE,
                "history",
            )

    return Comparison(
        told(network, chosen, f"TruncatedBPTT({length})")
        + f"; windows={windows}, stateful={carried}",
        run,
    )


def by_hand(compiled):
    """Settings without what counts batches or metrics."""
    compiled = re.sub(r", (weighted_)?metrics=.*(?=, (run|jit))", "", compiled)
    return re.sub(r", steps_per_execution=2", "", compiled).replace(
        ", run_eagerly=True", ""
    )


def plain(network, chosen):
    """Whether the loss of a window is the mean of its segments' losses."""
    text = "\n".join(network.lines) + chosen.compiled
    words = ("regularizer", "Masking", "mask_zero", "reduction")
    return not any(word in text for word in words)


def of_any_length(network):
    """The same network for any number of steps."""
    timed = re.compile(r"(keras\.Input\(\()\d(?=,( \d)?\), (name|dtype))")
    lines = []
    for line in network.lines:
        given = [e for e in network.inputs if line.startswith(f"{e.name} = ")]
        if given and given[0].kind != "static":
            line = timed.sub(r"\1None", line)
        lines.append(line)
    return dataclasses.replace(network, lines=lines)


def stateful(network, rows):
    """The same network with stateful layers, for so many rows."""
    lines = [
        line.replace(
            "keras.Input((", f"keras.Input(batch_shape=({rows}, "
        ).replace(
            "return_sequences=True", "return_sequences=True, stateful=True"
        )
        for line in of_any_length(network).lines
    ]
    return dataclasses.replace(network, lines=lines)


def of_windows(data):
    """A dataset of windows, one batch each."""
    parts = [
        training.as_tuples(p for p in each if p is not None) for each in data
    ]
    first = tf.data.Dataset.from_tensors(parts[0])
    for each in parts[1:]:
        first = first.concatenate(tf.data.Dataset.from_tensors(each))
    return first


def segments(stock, network, window, length, reset):
    """Trains on the segments of a window; the mean loss of its steps."""
    if reset:
        for layer in stock.layers:
            if hasattr(layer, "reset_state"):
                layer.reset_state()
    x, y, weights = window
    static = {e.name for e in network.inputs if e.kind == "static"}
    total = 0.0
    for start in range(0, network.steps, length):
        piece = slice(start, start + length)
        names = [each.name for each in network.inputs]
        values = [
            value if name in static else value[:, piece]
            for name, value in zip(names, flat(x, names), strict=True)
        ]
        of_x = structures.arranged(network.structures[0], names, values)
        of_y = keras.tree.map_structure(lambda a, p=piece: a[:, p], y)
        of_weights = weights
        if weights is not None:
            of_weights = keras.tree.map_structure(
                lambda a, p=piece: a[:, p], weights
            )
        stock.reset_metrics()
        loss = stock.train_on_batch(of_x, of_y, of_weights)
        loss = float(np.ravel(loss)[0])
        steps = min(length, network.steps - start)
        total += loss * steps / network.steps
    return total


def flat(structure, names):
    if isinstance(structure, dict):
        return [structure[name] for name in names]
    return structure if isinstance(structure, list) else [structure]


def of_resets(seed):
    """A reset inside a window is two sequences: outputs and gradients."""
    source = Source([seed, 4])
    limits = dataclasses.replace(
        CUT, masks=False, added=False, stacks=True, joins=False
    )
    network = networks.draw(source, limits)
    chosen = settings.draw(source, network, columns=False, weights="none")
    generator = np.random.default_rng(seed)
    starts = generator.random((chosen.rows, network.steps)) < 0.3
    method = source.choice(["BPTT()", "BPTT(2)"])

    def run():
        training.in_float64()
        stock = training.build(of_any_length(network), seed)
        model = training.build(network, seed)
        model.set_weights(stock.get_weights())
        model = ksg.SequenceModel.from_model(model)
        x, y, _ = settings.data(network, chosen)
        text = by_hand(chosen.compiled) + ", run_eagerly=True"
        text = text.replace("jit_compile=False, ", "")
        training.compiled(stock, text)
        made = training.method(method)
        training.refusing(lambda: training.compiled(model, text, method=made))
        given = {"inputs": x, "reset": starts}
        found = training.refusing(lambda: model.estimate_gradients(given, y))
        outputs = dict(
            enumerate(
                keras.tree.flatten(
                    model.predict(given, batch_size=chosen.rows, verbose=0)
                )
            )
        )
        with tf.GradientTape() as tape:
            each = by_pieces(stock, network, x, starts)
            loss = stock.compute_loss(
                x, keras.tree.map_structure(tf.constant, y), each
            )
        expected = tape.gradient(loss, stock.trainable_variables)
        training.compare(
            outputs, enumerate(keras.tree.flatten(each)), TOLERANCE, "predict"
        )
        training.compare(
            {"loss": found[0]}, {"loss": loss}, TOLERANCE, "estimate"
        )
        expected = [
            tf.zeros_like(v) if g is None else tf.convert_to_tensor(g)
            for v, g in zip(stock.trainable_variables, expected, strict=True)
        ]
        training.compare(
            enumerate(found[1]), enumerate(expected), TOLERANCE, "gradients"
        )

    return Comparison(
        told(network, chosen, method)
        + f"; reset={starts.astype(int).tolist()}",
        run,
    )


def by_pieces(stock, network, x, starts):
    """Outputs of every row, its pieces run each as a sequence of its own."""
    names = [each.name for each in network.inputs]
    static = {e.name for e in network.inputs if e.kind == "static"}
    rows = []
    for row, begins in enumerate(starts):
        edges = [0, *(np.flatnonzero(begins[1:]) + 1), len(begins)]
        pieces = []
        for begin, end in zip(edges, edges[1:], strict=False):
            values = [
                v[row : row + 1]
                if name in static
                else v[row : row + 1, begin:end]
                for name, v in zip(names, flat(x, names), strict=True)
            ]
            piece = structures.arranged(network.structures[0], names, values)
            pieces.append(stock(piece, training=True))
        rows.append(joined(pieces, 1))
    return joined(rows, 0)


def joined(structures, axis):
    return keras.tree.map_structure(
        lambda *parts: tf.concat(parts, axis), *structures
    )
