"""Calls of diagnostics."""

import keras_seqgrad as ksg
from tests.calls.kinds import Call, data, model, profile


def batch(method="bptt"):
    x, y = data()
    return {"model": model(method), "x": x, "y": y}


WINDOW = {"x": "other", "y": "other", "sample_weight": "other?"}
DIAGNOSTICS = {
    "diagnostics.advise": Call(
        ksg.diagnostics.advise,
        batch(),
        {
            "model": "other",
            "memory": "bytes?",
            "tolerance": "share",
            "verbose": "flag",
        }
        | WINDOW,
        dear=True,
    ),
    "diagnostics.boundary_gradients": Call(
        ksg.diagnostics.boundary_gradients,
        batch(ksg.methods.SyntheticGradients(2)),
        {"model": "other"} | WINDOW,
        dear=True,
    ),
    "diagnostics.compare_gradients": Call(
        ksg.diagnostics.compare_gradients,
        batch() | {"repeats": 3},
        {
            "model": "other",
            "methods": "name?",
            "repeats": "count",
            "groups": "function?",
            "checkpoint_every": "count?",
            "seed": "seed",
        }
        | WINDOW,
        dear=True,
    ),
    "diagnostics.influence_profile": Call(
        ksg.diagnostics.influence_profile,
        batch() | {"max_lag": 2},
        {"model": "other", "max_lag": "count", "targets": "count"} | WINDOW,
        dear=True,
    ),
    "diagnostics.state_jacobian_spectrum": Call(
        ksg.diagnostics.state_jacobian_spectrum,
        {"model": model(), "x": data()[0]},
        {"model": "other", "x": "other", "count": "count"},
        dear=True,
    ),
    "diagnostics.suggest_truncation_length": Call(
        ksg.diagnostics.suggest_truncation_length,
        {"profile": profile(), "lengths": [2, 4]},
        {
            "profile": "other",
            "tolerance": "share",
            "stride": "count?",
            "lengths": "other?",
            "signed": "flag",
        },
    ),
    "diagnostics.InfluenceProfile.tail": Call(
        profile().tail,
        {"lag": 2},
        {"lag": "index", "layer": "name"},
    ),
    "diagnostics.InfluenceProfile.beyond": Call(
        profile().beyond,
        {"lag": 2},
        {"lag": "index", "layer": "name"},
    ),
    "diagnostics.InfluenceProfile.gradient_norm": Call(
        profile().gradient_norm, {}, {"layer": "name", "signed": "flag"}
    ),
    "diagnostics.InfluenceProfile.bias_bound": Call(
        profile().bias_bound,
        {"length": 2},
        {
            "length": "count",
            "stride": "count?",
            "layer": "name",
            "signed": "flag",
        },
    ),
    "diagnostics.InfluenceProfile.relative_bias": Call(
        profile().relative_bias,
        {"length": 2},
        {"length": "count", "stride": "count?", "layer": "name"},
    ),
}
