"""Draws methods, as the Python that makes them."""

GUESSES = {
    "synthesizer": (0.5, ["'linear'", "'dense'", "'elementwise'"]),
    "bootstrap": (0.2, ["0.5"]),
    "auxiliary": (0.2, ["0.1"]),
    "condition": (0.2, ["'next_input'"]),
    "lambda_": (0.3, ["0.7"]),
    "synthesizer_optimizer": (0.1, ["'sgd'"]),
}
# Name -> the first argument, where K is a length, and options by their chance.
METHODS = {
    "BPTT": (["", "K", "'auto'"], {}),
    "TruncatedBPTT": (["K"], {"stride": (0.4, ["1", "2"])}),
    "ARTBP": (
        ["K, seed=1", "K, seed=1, per_row=True", "K, seed=1, update='cut'"],
        {"alpha": (0.3, ["None", "6.0"]), "hazard": (0.3, ["0.5"])},
    ),
    "SyntheticGradients": (["K"], GUESSES | {"inject": (0.2, ["True"])}),
    "AlternatingGradients": (
        ["K"],
        GUESSES | {"switch_epochs": (1, ["[1]"])},
    ),
    "FPTT": (
        ["2", "3", "length=K"],
        {
            "alpha": (0.3, ["0.1"]),
            "beta": (0.3, ["0.8"]),
            "form": (0.3, ["'code'"]),
            "regularize": (0.2, ["False"]),
            "rho": (0.2, ["0.1"]),
            "average": (0.4, ["'evaluate'", "None"]),
        },
    ),
    "RegularizedInversion": (
        ["0.3, 0.5", "0.3, propagation='learned', seed=1"],
        {"local": (0.3, ["False"]), "max_growth": (0.3, ["0.9"])},
    ),
    "TargetPropagation": (
        ["K, 'penalty'", "K, 'lagrangian'", "K, 'admm'"],
        {
            "parameter_steps": (0.5, ["1"]),
            "start": (0.3, ["'parallel'", "'zero'"]),
            "state_optimizer": (0.2, ["'sgd'"]),
        },
    ),
    "SnAp": (["K"], {"self_recurrence": (0.3, ["False"])}),
    "RTRL": (["K"], {}),
    "UORO": (["K, seed=1"], {}),
}
# The recurrent layers that a method takes, where it does not take all.
KINDS = {
    "RegularizedInversion": ("SimpleRNN", "GRU"),
    "SnAp": ("LSTM", "GRU", "SimpleRNN", "MinGRU", "MinLSTM", "LRU", "QRNN")
    + ("CausalConv1D",),
}


def draw(source):
    """The text of a method and the limits that it sets a network."""
    name = source.choice(list(METHODS))
    firsts, options = METHODS[name]
    first = source.choice(firsts).replace("K", str(source.integer(2, 4)))
    more = source.options(options)
    more = more if first else more.removeprefix(", ")
    limits = {}
    if name in KINDS:
        limits["kinds"] = KINDS[name]
    if name == "TargetPropagation":
        limits["added"] = False
    return f"ksg.methods.{name}({first}{more})", limits
