"""Draws what a network is compiled with, what it is fitted to, and how."""

import dataclasses

import numpy as np

from tests.random_models.structures import arranged

LOSSES = {
    "regression": [
        "'mse'",
        "'mae'",
        "'huber'",
        "keras.losses.LogCosh()",
        "lambda y, p: keras.ops.mean((y - p) ** 4, axis=-1)",
        "lambda y, p: keras.ops.sum(keras.ops.abs(y - p), axis=-1)",
        "keras.losses.MeanSquaredError(reduction='sum')",
        "keras.losses.MeanAbsoluteError(reduction='mean_with_sample_weight')",
    ],
    "binary": [
        "'binary_crossentropy'",
        "keras.losses.BinaryCrossentropy(label_smoothing=0.1)",
        "'mse'",
    ],
    "sparse": ["'sparse_categorical_crossentropy'"],
    "sparse logits": [
        "keras.losses.SparseCategoricalCrossentropy(from_logits=True)"
    ],
    "categorical": [
        "'categorical_crossentropy'",
        "'kl_divergence'",
        "keras.losses.CategoricalCrossentropy(label_smoothing=0.1)",
    ],
}
METRICS = {
    "regression": [
        "'mae'",
        "'mse'",
        "keras.metrics.RootMeanSquaredError()",
        "largest",
    ],
    "binary": ["'accuracy'", "keras.metrics.AUC(20, name='auc')"],
    "sparse": ["'accuracy'", "'sparse_categorical_crossentropy'"],
    "sparse logits": ["'accuracy'"],
    "categorical": ["'accuracy'", "keras.metrics.CategoricalAccuracy()"],
}
# Of a gradient that is only rounding Adam makes a step, unless epsilon is
# large beside it.
PLAIN = ["SGD(0.05{})", "SGD(0.02, momentum=0.9{})"]
OTHERS = [
    "SGD(0.02, momentum=0.9, nesterov=True{})",
    "Adam(0.01, epsilon=1e-3{})",
    "RMSprop(0.01, epsilon=1e-3{})",
    "AdamW(0.01, epsilon=1e-3{})",
    "Adagrad(0.05, epsilon=1e-3{})",
]
OPTIONS = {
    "weight_decay": (0.1, ["0.01"]),
    "use_ema": (0.1, ["True, ema_overwrite_frequency=2"]),
    "gradient_accumulation_steps": (0.1, ["2", "3"]),
    "loss_scale_factor": (0.1, ["8.0"]),
}
CLIPPING = ["clipnorm=0.5", "global_clipnorm=0.5", "clipvalue=0.1"]


@dataclasses.dataclass
class Settings:
    """How a drawn network is trained; the texts are Python."""

    compiled: str  # arguments of `compile`
    fit: dict
    rows: int
    seed: int
    weights: str  # "none", "one" or "each"
    as_dataset: bool
    validation: str  # "none", "split" or "data"
    columns: bool  # labels (batch, time, 1)
    class_weight: dict | None

    def told(self):
        fit = ", ".join(f"{n}={v!r}" for n, v in self.fit.items())
        return (
            f"compile({self.compiled}); fit({fit}); rows={self.rows}, "
            f"seed={self.seed}, weights={self.weights}, "
            f"as_dataset={self.as_dataset}, validation={self.validation}, "
            f"columns={self.columns}, class_weight={self.class_weight}"
        )


def draw(source, network, **fixed):
    outputs, structure = network.outputs, network.structures[1]
    names = [output.name for output in outputs]
    compiled = {"optimizer": optimizer(source, network)}
    losses = [source.choice(LOSSES[output.task]) for output in outputs]
    if len(outputs) > 1 and source.chance(0.15):
        # An output that is only looked at.
        losses[source.integer(0, len(outputs) - 1)] = "None"
    compiled["loss"] = written(structure, names, losses)
    if len(outputs) > 1 and source.chance(0.4):
        shares = [source.choice(["0.5", "1.0", "2.0"]) for _ in names]
        if structure == "dict":  # Keras wants none where there is no loss
            pairs = zip(losses, shares, strict=True)
            shares = ["None" if loss == "None" else s for loss, s in pairs]
        compiled["loss_weights"] = written(structure, names, shares)
    for kind in ("metrics", "weighted_metrics"):
        if source.chance(0.4):
            asked = [
                "[]"
                if len(outputs) > 1 and source.chance(0.2)
                else f"[{source.choice(METRICS[o.task])}]"
                for o in outputs
            ]
            compiled[kind] = written(structure, names, asked)
    if source.chance(0.6):
        compiled["run_eagerly"] = "True"
    else:
        compiled["jit_compile"] = "False"
        if source.chance(0.4):
            compiled["steps_per_execution"] = "2"
    weights = source.choice(["none", "none", "each"])
    timed = any(output.timed for output in outputs)
    # Keras spreads weights of rows over outputs in a list, those of steps not.
    one = structure == "single" or (structure == "list" and not timed)
    one = one and len({output.places for output in outputs}) == 1
    if weights == "each" and one and source.chance(0.3):
        weights = "one"
    classes = structure == "single" and outputs[0].task in (
        "sparse",
        "sparse logits",
        "categorical",
    )
    table = None
    one = not outputs[0].timed and not outputs[0].places
    if classes and one and source.chance(0.4):
        table = {k: float(k) + 0.5 for k in range(outputs[0].features)}
    as_dataset = source.chance(0.4)
    validations = ["none", "none", "data"] + ["split"] * (not as_dataset)
    settings = Settings(
        ", ".join(f"{name}={text}" for name, text in compiled.items()),
        {"batch_size": source.integer(2, 4), "epochs": 2, "shuffle": False},
        source.integer(5, 9),
        source.integer(0, 10**6),
        weights,
        as_dataset,
        source.choice(validations),
        source.chance(0.3),
        table,
    )
    return dataclasses.replace(settings, **fixed)


def optimizer(source, network):
    # Stock Keras hands optimizers each place of a token by itself.
    kinds = PLAIN if network.embedded else [*PLAIN, *OTHERS]
    table = dict(OPTIONS)
    if network.embedded:
        # Stock Keras neither adds nor divides such slices.
        del table["gradient_accumulation_steps"], table["loss_scale_factor"]
    more = source.options(table)
    if not network.embedded and source.chance(0.25):
        more += f", {source.choice(CLIPPING)}"
    return "keras.optimizers." + source.choice(kinds).format(more)


def written(structure, names, texts):
    """Python of a structure of settings, as that of the outputs."""
    if structure == "single":
        return texts[0]
    if structure == "list":
        return f"[{', '.join(texts)}]"
    # What has none may be left out of a dict.
    pairs = [
        (name, text)
        for name, text in zip(names, texts, strict=True)
        if text not in ("None", "[]")
    ]
    return "{" + ", ".join(f"{n!r}: {t}" for n, t in pairs) + "}"


def data(network, settings, seed_more=0, steps=None):
    """(x, y, sample weights or None) of all rows."""
    generator = np.random.default_rng(settings.seed + seed_more)
    rows, steps = settings.rows, steps or network.steps
    lengths = generator.integers(1, steps + 1, rows)
    where = generator.choice(["behind", "before", "holes"])
    valid = np.arange(steps) < lengths[:, None]
    if where == "before":
        valid = valid[:, ::-1]
    elif where == "holes":
        valid = generator.random((rows, steps)) < 0.7
        valid[:, 0] = True
    x = [filled(each, valid, generator) for each in network.inputs]
    y = [
        target(output, rows, steps, settings.columns, generator)
        for output in network.outputs
    ]
    weights = None
    if settings.weights != "none":
        weights = [
            np.round(generator.random(weighed(output, rows, steps)), 1)
            for output in network.outputs
        ]
    structure = network.structures[1]
    names = [output.name for output in network.outputs]
    if settings.weights == "one":
        weights = weights[0]
    elif weights is not None:
        weights = arranged(structure, names, weights)
    inputs = [each.name for each in network.inputs]
    x = arranged(network.structures[0], inputs, x)
    return x, arranged(structure, names, y), weights


def weighed(output, rows, steps):
    """The shape of an output's sample weights, as Keras takes them."""
    return (rows, steps)[: 1 + output.timed] + (1,) * len(output.places)


def filled(given, valid, generator):
    rows, _ = valid.shape
    if given.kind == "static":
        return generator.normal(size=(rows, given.features))
    if given.kind == "tokens":
        return (generator.integers(1, 5, valid.shape) * valid).astype("int32")
    numbers = generator.normal(size=(*valid.shape, given.features))
    return numbers * valid[..., None] if given.kind == "padded" else numbers


def target(output, rows, steps, columns, generator):
    shape = (rows, steps)[: 1 + output.timed] + output.places
    if "sparse" in output.task:
        labels = generator.integers(0, output.features, shape)
        return labels[..., None] if columns else labels
    if output.task == "categorical":
        labels = generator.integers(0, output.features, shape)
        return np.eye(output.features)[labels]
    shape = (*shape, output.features)
    if output.task == "binary":
        return generator.integers(0, 2, shape).astype(float)
    return generator.normal(size=shape)
