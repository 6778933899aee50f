"""Is my truncation length long enough? The code of the tutorial, in one piece.

    python examples/truncation_length.py    # a few minutes on one core

See docs/tutorials/truncation_length.md for what it prints and what that means.
Pictures and TensorBoard's logs go to runs/truncation_length.
"""

import pathlib

import keras

import keras_seqgrad as ksg

LENGTH, WINDOW, ROWS = 20, 200, 32
CHARACTERS, EPOCHS = 400_000, 2
OUT = pathlib.Path("runs/truncation_length")
OUT.mkdir(parents=True, exist_ok=True)

corpus = ksg.data.text.get("stdlib")
text, valid = corpus.train[:CHARACTERS], corpus.valid
bits = ksg.data.text.bits
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def make_network():
    kinds = len(corpus.vocabulary)
    return keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(kinds, 32, name="embedding"),
            keras.layers.LSTM(128, return_sequences=True, name="lstm"),
            keras.layers.Dense(kinds, name="dense"),
        ]
    )


keras.utils.set_random_seed(0)
network = make_network()
network.compile(keras.optimizers.Adam(3e-3), loss)
network.fit(ksg.data.stream(text, ROWS, LENGTH), epochs=EPOCHS, verbose=0)
score = network.evaluate(ksg.data.stream(valid, ROWS, LENGTH), verbose=0)
print(f"plain Keras: {bits(score):.3f} bits a character")

windows = ksg.data.stream(text, ROWS, WINDOW)
validation = ksg.data.stream(valid, ROWS, WINDOW)


def wrap(network, method):
    model = ksg.SequenceModel.from_model(network, stateful=True)
    optimizer = keras.optimizers.Adam(3e-3)
    model.compile(optimizer, loss, method=method, jit_compile=True)
    return model


model = wrap(network, ksg.methods.TruncatedBPTT(LENGTH))
score = model.evaluate(validation, verbose=0)
print(f"the same weights, state carried on: {bits(score):.3f}")

x, y = next(iter(validation))
LENGTHS = (10, 20, 50, 100)


def reach(model):
    profile = ksg.diagnostics.influence_profile(model, x, y, WINDOW // 2)
    biases = {k: round(profile.relative_bias(k), 3) for k in LENGTHS}
    print(f"falls by {profile.decay_rates['lstm']:.3f} a step")
    print("bias estimated at these lengths:", biases)
    for tolerance in (0.2, 0.1, 0.05):
        length = ksg.diagnostics.suggest_truncation_length(profile, tolerance)
        print(f"advised for a bias of {tolerance}: {length} steps")
    return profile


fresh = wrap(make_network(), ksg.methods.TruncatedBPTT(LENGTH))
reach(fresh)

reach(model)

methods = {f"TBPTT {k}": ksg.methods.TruncatedBPTT(k) for k in LENGTHS}
methods["ARTBP 20"] = ksg.methods.ARTBP(20)
methods["BPTT"] = ksg.methods.BPTT()


def whole(variable):
    return "network"


compare = ksg.diagnostics.compare_gradients
print(compare(fresh, x, y, methods, groups=whole))

print(compare(model, x, y, methods, groups=whole))

diagnostics = ksg.callbacks.GradientDiagnostics(
    OUT / "logs", (x, y), every=len(windows), max_share=None
)
history = model.fit(
    windows,
    epochs=2 * EPOCHS,
    validation_data=validation,
    shuffle=False,
    verbose=0,
    callbacks=[diagnostics],
).history
print("validation:", [round(bits(each), 3) for each in history["val_loss"]])
print("bias:", [round(each, 3) for each in history["gradient_bias"]])

profile = reach(model)
profile.plot(OUT / "influence.png")

found = compare(model, x, y, methods)
found.plot(OUT / "gradients.png")
print({name: round(found[name].relative_bias, 3) for name in methods})


def train(length, stride=None):
    keras.utils.set_random_seed(1)
    method = ksg.methods.TruncatedBPTT(length, stride)
    model = wrap(make_network(), method)
    model.fit(windows, epochs=2 * EPOCHS, shuffle=False, verbose=0)
    score = bits(model.evaluate(validation, verbose=0))
    updates = int(model.optimizer.iterations)
    print(f"{method}: {updates} updates, {score:.3f} bits")


for length in (10, 50, 100):
    train(length)

for length in (50, 100):
    train(length, stride=10)
