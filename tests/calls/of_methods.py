"""Calls of methods and callbacks."""

import keras_seqgrad as ksg
from tests.calls.kinds import Call

METHODS = {
    "methods.BPTT": Call(ksg.methods.BPTT, {}, {"checkpoint_every": "count?"}),
    "methods.TruncatedBPTT": Call(
        ksg.methods.TruncatedBPTT,
        {"length": 4},
        {"length": "count", "stride": "count?"},
    ),
    "methods.ARTBP": Call(
        ksg.methods.ARTBP,
        {"mean_length": 4},
        {
            "mean_length": "above 2",
            "alpha": "above 2?",
            "per_row": "flag",
            "cuts": "name",
            "seed": "seed?",
            "update": "name",
            "checkpoint_every": "count?",
            "hazard": "share?",
        },
    ),
    "methods.RTRL": Call(
        ksg.methods.RTRL, {"length": 4}, {"length": "count", "budget": "count"}
    ),
    "methods.SnAp": Call(
        ksg.methods.SnAp,
        {"length": 4},
        {"length": "count", "self_recurrence": "flag"},
    ),
    "methods.UORO": Call(
        ksg.methods.UORO, {"length": 4}, {"length": "count", "seed": "seed?"}
    ),
    "methods.FPTT": Call(
        ksg.methods.FPTT,
        {"parts": 2},
        {
            "parts": "count",
            "alpha": "above 0",
            "beta": "share",
            "form": "name",
            "regularize": "flag",
            "weight": "0 or above",
            "rho": "share or 0",
            "part_loss": "function",
            "average": "name?",
        },
    ),
    "methods.FPTT of a length": Call(
        ksg.methods.FPTT, {"length": 2}, {"length": "count"}
    ),
    "methods.FPTT.authors": Call(
        ksg.methods.FPTT.authors,
        {"parts": 2},
        {"parts": "count", "alpha": "above 0", "beta": "share"},
    ),
    "methods.RegularizedInversion": Call(
        ksg.methods.RegularizedInversion,
        {"target_rate": 0.1, "regularization": 1.0},
        {
            "target_rate": "above 0",
            "regularization": "above 0",
            "propagation": "name",
            "local": "flag",
            "margin": "share",
            "inverse_optimizer": "name",
            "noise": "0 or above",
            "seed": "seed?",
            "max_growth": "above 0?",
        },
    ),
    "methods.TargetPropagation": Call(
        ksg.methods.TargetPropagation,
        {"block": 2, "scheme": "admm"},
        {
            "block": "count",
            "scheme": "name",
            "penalty": "above 0",
            "parameter_steps": "count",
            "state_steps": "count?",
            "rounds": "count?",
            "start": "name",
            "state_optimizer": "name",
            "state_rate": "above 0",
            "multiplier_form": "name",
            "multiplier_rate": "above 0?",
            "multipliers_from": "index",
        },
    ),
    "methods.get": Call(
        ksg.methods.get,
        {"identifier": "bptt"},
        {"identifier": "name"},
        {"identifier": "method"},
    ),
}
GUESSING = {
    "length": "count",
    "synthesizer": "function?",
    "scale": "0 or above",
    "bootstrap": "0 or above",
    "auxiliary": "0 or above",
    "condition": "name",
    "synthesizer_optimizer": "name?",
    "synthesizer_rate": "0 or above",
    "lambda_": "share or 0",
}
METHODS |= {
    "methods.SyntheticGradients": Call(
        ksg.methods.SyntheticGradients,
        {"length": 4},
        GUESSING | {"inject": "flag"},
    ),
    "methods.AlternatingGradients": Call(
        ksg.methods.AlternatingGradients,
        {"length": 4},
        GUESSING | {"switch_epochs": "other?"},
    ),
}

CALLBACKS = {
    "callbacks.AdaptTruncation": Call(
        ksg.callbacks.AdaptTruncation,
        {"tolerance": 0.1, "lengths": [2, 4]},
        {
            "tolerance": "share",
            "lengths": "other",
            "probe": "other?",
            "every": "count?",
            "max_lag": "count?",
            "targets": "count",
            "signed": "flag",
        },
    ),
    "callbacks.AverageWeights": Call(
        ksg.callbacks.AverageWeights,
        {},
        {"mode": "name", "reset_multipliers": "flag"},
    ),
    "callbacks.BackupAndRestore": Call(
        ksg.callbacks.BackupAndRestore,
        {"backup_dir": "backups"},
        {
            "backup_dir": "path",
            "save_freq": "count",
            "double_checkpoint": "flag",
            "delete_checkpoint": "flag",
        },
    ),
    "callbacks.GradientDiagnostics": Call(
        ksg.callbacks.GradientDiagnostics,
        {"log_dir": "logs", "probe": (1, 2)},
        {
            "log_dir": "path",
            "probe": "other",
            "every": "count",
            "repeats": "count",
            "methods": "name?",
            "max_share": "share?",
            "max_lag": "index?",
            "images": "flag",
            "memory_limit": "above 0?",
            "card": "dict?",
            "groups": "function?",
            "checkpoint_every": "count?",
        },
    ),
    "callbacks.WarmRestarts": Call(
        ksg.callbacks.WarmRestarts,
        {"learning_rate": 3.0, "cycle": 2},
        {
            "learning_rate": "above 0",
            "cycle": "count",
            "growth": "name",
            "minimum": "0 or above",
        },
    ),
    "callbacks.WarmRestarts.rate": Call(
        lambda **given: ksg.callbacks.WarmRestarts(3.0, 2).rate(**given),
        {"epoch": 1},
        {"epoch": "index"},
    ),
    "callbacks.WarmRestarts.restarts": Call(
        lambda **given: ksg.callbacks.WarmRestarts(3.0, 2).restarts(**given),
        {"epochs": 3},
        {"epochs": "index"},
    ),
}
