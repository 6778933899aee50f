"""A model and a cell of your own, trained by any method: a template.

    python examples/subclassing.py                    # truncated BPTT
    python examples/subclassing.py --method artbp     # random cuts, unbiased
    python examples/subclassing.py --compare bptt tbptt artbp

The cell is a minimal gated unit (Zhou et al., 2016. Minimal gated unit for
recurrent neural networks. arXiv:1603.09420):

    f = sigmoid(x W_f + h U_f + b_f)
    h <- (1 - f) h + f tanh(x W + (f h) U + b)

It learns the characters of Python's standard library. Every epoch prints bits
a character and the cosine of the method's gradient with the exact one; the end,
how good the gradients of the methods in `--compare` are. `--out` gets the logs
for TensorBoard, and the model, which is loaded again.
"""

import keras
import numpy as np
from common import Parser

import keras_seqgrad as ksg

QUICK = {"limit": 20_000, "epochs": 1, "units": 16, "window": 40, "length": 10}


@keras.saving.register_keras_serializable("examples")
class MinimalGatedCell(keras.layers.Layer):
    """One step, as Keras asks of any cell: (x, [h]) -> (output, [h])."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, shape):
        n, add = self.units, self.add_weight
        self.kernel = add((shape[-1], 2 * n), name="kernel")
        self.gate = add((n, n), "orthogonal", name="gate")
        self.recurrent = add((n, n), "orthogonal", name="recurrent")
        self.bias = add((2 * n,), "zeros", name="bias")
        # The gate begins near 1 / 4: the unit forgets slowly.
        self.bias.assign(np.repeat([-1.0, 0.0], n))

    def call(self, inputs, states, training=False):
        [h] = states
        from_input = keras.ops.matmul(inputs, self.kernel) + self.bias
        for_gate, for_new = keras.ops.split(from_input, 2, axis=-1)
        f = keras.ops.sigmoid(for_gate + keras.ops.matmul(h, self.gate))
        new = keras.ops.tanh(for_new + keras.ops.matmul(f * h, self.recurrent))
        h = (1 - f) * h + f * new
        return h, [h]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("examples")
class CharacterModel(ksg.SequenceModel):
    """Two functions make a model: where it starts, and how it goes on."""

    def __init__(self, size, units, **kwargs):
        super().__init__(**kwargs)
        self.size, self.units = size, units
        self.embed = keras.layers.Embedding(size, 32)
        # Under XLA in time linear in the steps, which keras.layers.RNN is not.
        self.rnn = ksg.layers.RNN(
            MinimalGatedCell(units), return_sequences=True, return_state=True
        )
        self.read_out = keras.layers.Dense(size)

    def initial_state(self, batch_size):
        # One tensor here; any nest of them, also of weights, will do.
        return keras.ops.zeros((batch_size, self.units))

    def call_segment(self, inputs, state, training=False):
        hidden, state = self.rnn(
            self.embed(inputs), initial_state=state, training=training
        )
        return self.read_out(hidden), state

    def get_config(self):
        config = super().get_config()
        return {**config, "size": self.size, "units": self.units}


def make_methods(length):
    return {
        "bptt": ksg.methods.BPTT(),
        "tbptt": ksg.methods.TruncatedBPTT(length),
        "artbp": ksg.methods.ARTBP(length),
        "dni": ksg.methods.SyntheticGradients(length),
    }


def print_epoch(epoch, logs):
    print(
        f"epoch {epoch + 1}: {ksg.data.text.bits(logs['loss']):.3f} bits a "
        f"character, validation {ksg.data.text.bits(logs['val_loss']):.3f}; "
        f"cosine with the exact gradient {logs['gradient_cosine']:.3f}",
        flush=True,
    )


def parse(argv):
    parser = Parser(
        __doc__,
        "runs/subclassing",
        quick=("a small model, a few seconds", QUICK),
    )
    add, count, names = parser.add_argument, parser.count, list(make_methods(2))
    add("--method", choices=names, default="tbptt")
    # A synthesiser guesses nothing before it has been trained.
    add("--compare", choices=names[:3], nargs="*", default=["tbptt", "artbp"])
    count("--length", 20, "steps between cuts")
    count("--window", 200, "steps of a window")
    count("--limit", 400_000, "characters to train on")
    count("--units", 128)
    count("--epochs", 5)
    add("--seed", type=int, default=0)
    return parser.parse(argv)


def main(argv=None):
    settings = parse(argv)
    keras.utils.set_random_seed(settings.seed)
    corpus = ksg.data.text.get("stdlib")
    windows, validation = (
        ksg.data.stream(tokens, 16, settings.window)
        for tokens in (corpus.train[: settings.limit], corpus.valid)
    )
    methods = make_methods(settings.length)
    # The state of every row goes on from window to window.
    model = CharacterModel(
        len(corpus.vocabulary), settings.units, stateful=True
    )
    model.compile(
        keras.optimizers.Adam(3e-3, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        method=methods[settings.method],
        jit_compile=settings.jit,
    )
    probe = next(iter(validation))
    model.fit(
        windows,
        epochs=settings.epochs,
        validation_data=validation,
        shuffle=False,
        verbose=0,
        callbacks=[
            ksg.callbacks.GradientDiagnostics(
                settings.out / "logs",
                probe,
                every=len(windows),
                max_share=None,
            ),
            keras.callbacks.LambdaCallback(on_epoch_end=print_epoch),
        ],
    )
    compared = {name: methods[name] for name in settings.compare}
    compared[settings.method] = model.method
    print(ksg.diagnostics.compare_gradients(model, *probe, compared))
    model.save(settings.out / "model.keras")
    loaded = keras.models.load_model(settings.out / "model.keras")
    # Windows one after another give what the whole text gives at once.
    rows = np.concatenate([x for x, _ in validation], axis=1)
    whole, _ = loaded.call_segment(rows, loaded.initial_state(len(rows)))
    parts = model.predict(validation.map(lambda x, y: x), verbose=0)
    parts = np.concatenate(np.split(parts, len(validation)), axis=1)
    print(f"loaded: largest difference {np.abs(whole - parts).max():.1g}")


if __name__ == "__main__":
    main()
