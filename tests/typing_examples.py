"""Users' calls as a type checker reads them; nothing here is run.

`assert_type` says what a call gives. A wrong call has a comment that expects
the checker's error, and it is an error not to find one: so what is public is
known to be typed, and by the right types.
"""

from typing import Any, assert_type

import keras
import numpy as np

import keras_seqgrad as ksg

x, y = np.ones((2, 12, 3)), np.zeros((2, 12, 1))

# --- the model -------------------------------------------------------------

network = keras.Sequential(
    [
        keras.Input((None, 3)),
        ksg.layers.LSTM(4, return_sequences=True),
        keras.layers.Dense(1),
    ]
)
model = ksg.SequenceModel.from_model(network, stateful=True)
assert_type(model, ksg.SequenceModel)
model.compile("sgd", "mse", method=ksg.methods.TruncatedBPTT(5))
model.compile("sgd", method="artbp", on_bad_window="skip", jit_compile=True)
model.compile("sgd", method=5)  # type: ignore[arg-type]
model.compile("sgd", on_bad_window="stop")  # type: ignore[arg-type]
model.fit(x, y, epochs=2, callbacks=[ksg.callbacks.WarmRestarts(0.1, 5)])
model.reset_state()
model.reset_state([True, False])
model.export_steps("folder", steps="five")  # type: ignore[arg-type]
loss, gradients = model.estimate_gradients(x, y, seed=3)
assert_type(gradients, list[Any])
assert_type(model.method, ksg.methods.Method | None)
ksg.SequenceModel(network=network, stateful="yes")  # type: ignore[arg-type]

# --- methods, laws, layers -------------------------------------------------

assert_type(ksg.methods.get("bptt"), ksg.methods.Method)
assert_type(ksg.methods.ARTBP.from_config({}), ksg.methods.ARTBP)
ksg.methods.BPTT(checkpoint_every="auto")
ksg.methods.BPTT(checkpoint_every="often")  # type: ignore[arg-type]
ksg.methods.TruncatedBPTT("ten")  # type: ignore[arg-type]
ksg.methods.ARTBP(50, alpha=None, update="window", seed=1)
ksg.methods.ARTBP(50, update="step")  # type: ignore[arg-type]
ksg.methods.FPTT(parts=10, alpha=0.1)
ksg.methods.SnAp(10, self_recurrence=1.5)  # type: ignore[arg-type]
ksg.methods.RTRL(10, budget="all")  # type: ignore[arg-type]
ksg.methods.UORO(10, seed=0.5)  # type: ignore[arg-type]
ksg.methods.SyntheticGradients(10, "linear", scale=1.0)
ksg.methods.AlternatingGradients(10, switch_epochs=[5, 10])
ksg.methods.RegularizedInversion(0.1, propagation="all")  # type: ignore[arg-type]
ksg.methods.TargetPropagation(10, scheme="admm", rounds=2)
ksg.methods.TargetPropagation(10, scheme="sgd")  # type: ignore[arg-type]
ksg.optimizers.FPTT(keras.optimizers.Adam(), alpha="all")  # type: ignore[arg-type]

assert_type(ksg.truncation.Random(50).cut_probability(1), np.ndarray)
ksg.truncation.Fixed(None)  # type: ignore[arg-type]
ksg.layers.GRU(4, truncation=ksg.truncation.Random(50, alpha=4.0))
ksg.layers.SimpleRNN("four")  # type: ignore[arg-type]
ksg.layers.RNN([keras.layers.LSTMCell(4)], truncation=10)
ksg.layers.LRU(4, truncation="ten")  # type: ignore[arg-type]
ksg.layers.QRNNCell(4, pooling="max")  # type: ignore[arg-type]
ksg.layers.MinGRUCell(4, candidate="positive")
outputs, state = ksg.ops.linear_scan(x, x, x[:, 0], method="chunked")
ksg.ops.linear_scan(x, x, x[:, 0], method="fast")  # type: ignore[arg-type]
ksg.ops.rnn(3, x, x[:, 0])  # type: ignore[arg-type]
ksg.ops.lstm(x)  # type: ignore[call-arg]
ksg.synthesizers.dense(8, hidden="all")  # type: ignore[arg-type]

# --- data ------------------------------------------------------------------

corpus = ksg.data.text.get("stdlib", limit=1000)
assert_type(corpus, ksg.data.text.Corpus)
assert_type(corpus.train, np.ndarray)
ksg.data.text.load("book.txt", level="line")  # type: ignore[arg-type]
ksg.data.stream(corpus.train, batch_size=2, window=ksg.truncation.Random(9))
ksg.data.stream(corpus.train, 2, window="all")  # type: ignore[arg-type]
assert_type(ksg.data.bucket_lengths([3, 4, 9], count=2), list[int])
assert_type(ksg.data.rejoin(x, 2, 24), np.ndarray)
assert_type(ksg.data.text.Tokenizer(object()).encode("text"), np.ndarray)
assert_type(ksg.data.text.Vocabulary("ab").decode([0, 1]), str)
assert_type(ksg.data.tasks.copy(10), ksg.data.tasks.RepeatCopy)
ksg.data.tasks.Adding(50).dataset(batch_size="all")  # type: ignore[arg-type]
ksg.data.tasks.MarkedSymbol(100, delay=40)  # type: ignore[arg-type]

# --- diagnostics, callbacks ------------------------------------------------

found = ksg.diagnostics.compare_gradients(model, x, y, ["bptt"], repeats=3)
assert_type(found, ksg.diagnostics.GradientComparison)
assert_type(found["bptt"].cosine, float)
ksg.diagnostics.compare_gradients(model, x, y, 3)  # type: ignore[arg-type]
profile = ksg.diagnostics.influence_profile(model, x, y, max_lag=5)
assert_type(ksg.diagnostics.suggest_truncation_length(profile), int)
assert_type(ksg.diagnostics.advise(model, x, y), ksg.diagnostics.Advice)
spectrum = ksg.diagnostics.state_jacobian_spectrum(model, x)
assert_type(spectrum.largest, dict[str, float])
at = ksg.diagnostics.boundary_gradients(model, x, y)
assert_type(at.relative_error, float)
ksg.callbacks.GradientDiagnostics("logs", (x, y), every="all")  # type: ignore[arg-type]
ksg.callbacks.BackupAndRestore("backup", save_freq=100)
ksg.callbacks.BackupAndRestore("backup", save_freq="hour")  # type: ignore[arg-type]
ksg.callbacks.AdaptTruncation(0.1, lengths=10)  # type: ignore[arg-type]
ksg.callbacks.AverageWeights(mode="both")  # type: ignore[arg-type]
