"""What layers, options and readouts there are to draw from."""

ACTIVATIONS = ["tanh", "relu", "sigmoid", "softsign", "elu", "linear", "gelu"]
GATES = ["sigmoid", "hard_sigmoid", "tanh"]
PENALTIES = ["'l2'", "keras.regularizers.L1(0.01)"]
CONSTRAINTS = ["'max_norm'", "'unit_norm'", "'non_neg'"]
PLACES = ["kernel", "recurrent", "bias"]
# What ends a task: activation of the readout, and whether it is per class.
TASKS = {
    "regression": None,
    "binary": "sigmoid",
    "sparse": "softmax",
    "sparse logits": None,
    "categorical": "softmax",
}
STATES = {"LSTM": 2, "GRU": 1, "SimpleRNN": 1}
LINEAR = {
    "LRU": {"output_size": (0.3, ["2, use_feedthrough=False"])},
    "MinGRU": {
        "candidate": (0.3, ["'positive'"]),
        "use_bias": (0.2, ["False"]),
    },
    "MinLSTM": {
        "candidate": (0.3, ["'positive'"]),
        "use_bias": (0.2, ["False"]),
    },
    "QRNN": {"window": (0.5, ["1", "3"]), "pooling": (0.4, ["'f'"])},
    "RGLRU": {"heads": (0.3, ["2"])},
    "CausalConv1D": {
        "kernel_size": (1.0, ["1", "2", "2", "3"]),
        "activation": (0.5, ["'tanh'"]),
        "use_bias": (0.2, ["False"]),
    },
}
