"""Calls of `SequenceModel`."""

import functools

import keras_seqgrad as ksg
from tests.calls.kinds import Call, data, model, network


@functools.cache
def plain():
    return ksg.SequenceModel.from_model(network())


def ends():
    found = network()
    return {"inputs": found.inputs, "outputs": found.outputs}


def carrying(**given):
    model(stateful=True).reset_state(**given)


def batch():
    return dict(zip(("x", "y"), data(), strict=True))


MODEL = {
    "SequenceModel": Call(
        ksg.SequenceModel,
        {"network": network()},
        {
            "network": "other",
            "stateful": "flag",
            "learn_initial_state": "flag",
            "name": "path?",
        },
    ),
    "SequenceModel of inputs": Call(
        ksg.SequenceModel,
        ends(),
        {"inputs": "other", "outputs": "other", "network": "other?"},
    ),
    "SequenceModel.from_model": Call(
        ksg.SequenceModel.from_model,
        {"model": network()},
        {
            "model": "other",
            "stateful": "flag",
            "learn_initial_state": "flag",
        },
    ),
    "SequenceModel.compile": Call(
        lambda **given: plain().compile(**given),
        {"optimizer": "sgd", "loss": "mse"},
        {
            "method": "name",
            "on_bad_window": "name?",
            "example": "other?",
        },
        dear=True,
    ),
    "SequenceModel.reset_state": Call(carrying, {}, {"rows": "rows?"}),
    "SequenceModel.estimate_gradients": Call(
        lambda **given: model().estimate_gradients(**given),
        batch(),
        {
            "x": "other",
            "y": "other",
            "sample_weight": "other?",
            "seed": "integer?",
        },
    ),
    "SequenceModel.probe": Call(
        lambda **given: model().probe(**given),
        batch() | {"step": lambda window, seed: 0.0},
        {
            "step": "function",
            "x": "other",
            "y": "other?",
            "sample_weight": "other?",
            "seed": "integer?",
            "jit": "flag?",
        },
    ),
    "SequenceModel.fit": Call(
        lambda **given: model().fit(**given, verbose=0),
        batch(),
        {"class_weight": "dict?"},
        dear=True,
    ),
    "SequenceModel.train_on_batch": Call(
        lambda **given: model().train_on_batch(**given),
        batch(),
        {"class_weight": "dict?"},
    ),
}
