"""What the settings of target propagation may be."""

from keras_seqgrad.methods.target_propagation import multipliers
from keras_seqgrad.methods.target_propagation.lagrangian import (
    STATE_OPTIMIZERS,
)
from keras_seqgrad.tensors import arguments

KNOWN = {
    "scheme": ("penalty", "lagrangian", "admm"),
    "start": ("forward", "parallel", "zero"),
    "state_optimizer": STATE_OPTIMIZERS,
    "multiplier_form": tuple(multipliers.FORMS),
}
# What only schemes with multipliers have, and its defaults.
MULTIPLIED = {
    "rounds": None,
    "multiplier_form": "textbook",
    "multiplier_rate": None,
    "multipliers_from": 0,
}


def refuse_unknown(given):
    """Refuses names that stand for nothing."""
    for name, known in KNOWN.items():
        arguments.choice(given[name], name, known)


def refuse_without_effect(given):
    """Refuses settings that do nothing in the scheme."""
    scheme = given["scheme"]
    if scheme != "admm" and given["state_steps"] is not None:
        raise ValueError(
            f"With scheme={scheme!r} the targets move with every "
            "update of the parameters: leave `state_steps` out, or set "
            f'scheme="admm". Received: state_steps={given["state_steps"]!r}'
        )
    idle = {
        name: given[name]
        for name, default in MULTIPLIED.items()
        if given[name] != default
    }
    if scheme == "penalty" and idle:
        raise ValueError(
            'scheme="penalty" has no multipliers, and one round: leave '
            f"{', '.join(map(repr, idle))} out, or set "
            f'scheme="lagrangian" or "admm". Received: {idle}'
        )
    if scheme != "penalty" and given["rounds"] == 1:
        raise ValueError(
            "Multipliers begin at 0 with every window and first act in "
            "its second round. Expected rounds=2 or more, received "
            'rounds=1. Set scheme="penalty" to have no multipliers.'
        )
