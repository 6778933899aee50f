"""Weights are the network's; the rest is saved with them where it fits."""

import h5py
import keras
import pytest

import keras_seqgrad as ksg
from keras_seqgrad.state import beside
from tests import zoo
from tests.state.test_by_rows import FIT, TOTAL, windows
from tests.test_saving import assert_equal

METHODS = {
    "tbptt": lambda: ksg.methods.TruncatedBPTT(3),
    "artbp": lambda: ksg.methods.ARTBP(3, seed=1),
    "dni": lambda: ksg.methods.SyntheticGradients(3, "linear"),
    "alternating": lambda: ksg.methods.AlternatingGradients(
        3, "linear", switch_epochs=[1]
    ),
    "inversion": lambda: ksg.methods.RegularizedInversion(
        0.5, propagation="learned", seed=1
    ),
}


def model_of(method="tbptt", stateful=True, network=None, **options):
    network = network or zoo.network("simple_rnn")
    model = ksg.SequenceModel.from_model(network, stateful=stateful, **options)
    method = METHODS[method]() if isinstance(method, str) else method
    model.compile("adam", "mse", method=method)
    return model


def trained(*args, **options):
    """A model after a batch, whose state is not fresh."""
    model = model_of(*args, **options)
    model.train_on_batch(*zoo.data(4))
    return model


def kept(model):
    """Numbers of all that a model keeps beside its weights."""
    return [v.numpy() for v in beside.variables(model)]


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_weights_are_those_of_the_network(method, capsys):
    model = trained(method)
    model.evaluate(*zoo.data(4), verbose=0)
    model.predict_on_batch(zoo.data(4)[0])
    network = model.network
    assert model.layers == network.layers
    assert_equal(model.get_weights(), network.get_weights())
    assert len(model.variables) == len(network.variables)
    assert model.non_trainable_weights == []
    assert model.count_params() == network.count_params()
    # Two moments of Adam's a weight, the rate and the count.
    assert len(model.optimizer.variables) == 2 * len(network.weights) + 2
    model.summary()
    assert "state" not in capsys.readouterr().out
    assert len(kept(model)) > 5


def test_a_learned_initial_state_is_a_weight():
    model = trained(learn_initial_state=True)
    extra = model.count_params() - model.network.count_params()
    assert extra == 3  # units of the layer
    assert len(model.trainable_weights) == len(model.network.weights) + 1


def test_a_subclass_shows_its_own_layers():
    class Own(ksg.SequenceModel):
        def __init__(self):
            super().__init__(stateful=True)
            self.cell = keras.layers.GRUCell(3)
            self.cell.build((None, 2))

        def initial_state(self, batch_size):
            return self.cell.get_initial_state(batch_size)

        def call_segment(self, inputs, state, training=False):
            output, state = self.cell(inputs[:, 0], state)
            return output[:, None], state

    model = Own()
    model.predict_on_batch(zoo.data(4)[0])
    assert model.layers == [model.cell]
    assert_equal(model.get_weights(), model.cell.get_weights())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tbptt", "artbp", "dni"])
def test_weights_go_from_any_model_to_any_other(method):
    old = trained("artbp")
    for stateful in (False, True):
        new = model_of(method, stateful)
        new.fit(*zoo.data(4), batch_size=1, shuffle=False, verbose=0)
        before = kept(new)
        new.set_weights(old.get_weights())
        assert_equal(new.network.get_weights(), old.network.get_weights())
        assert_equal(kept(new), before)


class Between(keras.callbacks.Callback):
    """Predicts and evaluates other numbers of rows after every epoch."""

    def on_epoch_end(self, epoch, logs=None):
        x, y = zoo.data(4)
        self.model.predict(x[: 1 + epoch % 2], verbose=0)
        self.model.evaluate(x[:1], y[:1], verbose=0)


@pytest.mark.slow
def test_the_best_weights_come_back_whatever_runs_between():
    x, y = map(windows, zoo.data(TOTAL))
    model = model_of()
    found = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: found.append(model.get_weights())
    )
    # The loss falls, and its highest value is wanted: the first epoch's.
    stopping = keras.callbacks.EarlyStopping(
        "loss", mode="max", patience=2, restore_best_weights=True
    )
    both = [keep, Between(), stopping]
    model.fit(x, y, **FIT, epochs=5, callbacks=both)
    assert len(found) == 3
    assert_equal(model.get_weights(), found[0])
    plain = model_of()
    plain.fit(x, y, **FIT, epochs=3)
    assert_equal(plain.get_weights(), found[2])


# --- files of weights -------------------------------------------------------


def saved(model, folder):
    path = str(folder / "model.weights.h5")
    model.save_weights(path)
    return path


def unlike(*arguments, **options):
    """A model in another state than `trained` ones."""
    model = model_of(*arguments, **options)
    model.train_on_batch(*zoo.data(4, seed=1))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_all_that_is_kept_comes_with_the_weights(method, tmp_path):
    old = trained(method)
    old.predict_on_batch(zoo.data(4)[0])
    new = unlike(method)
    new.load_weights(saved(old, tmp_path))
    assert_equal(kept(new), kept(old)[: len(kept(new))])
    losses = [model.train_on_batch(*zoo.data(4)) for model in (new, old)]
    assert losses[0] == losses[1]
    assert_equal(new.get_weights(), old.get_weights())
    assert_equal(kept(new), kept(old)[: len(kept(new))])


@pytest.mark.slow
@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("method", ["tbptt", "inversion", "dni"])
def test_what_does_not_fit_is_left_out(method, stateful, tmp_path, recwarn):
    """Another method, no carried state, or other rows on their way."""
    old = trained("artbp")
    path = saved(old, tmp_path)
    new = model_of(method, stateful)
    x, y = zoo.data(4, seed=3)
    new.train_on_batch(x[:2], y[:2])
    before = kept(new)
    new.load_weights(path)
    assert_equal(kept(new), before)
    assert not [w for w in recwarn if w.category is UserWarning]
    assert_equal(new.get_weights(), old.get_weights())
    new.train_on_batch(x[:2], y[:2])


def test_the_network_must_fit(tmp_path):
    path = saved(trained(), tmp_path)
    other = model_of(network=zoo.network("lstm"))
    with pytest.raises(ValueError, match="could not be loaded"):
        other.load_weights(path)
    other.load_weights(path, skip_mismatch=True)


def synthesizer(width):
    def make(size):
        return keras.Sequential(
            [
                keras.Input((size,)),
                keras.layers.Dense(4, "tanh"),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(width),
                keras.layers.Dense(size),
            ]
        )

    return ksg.methods.SyntheticGradients(3, make)


@pytest.mark.slow
def test_the_state_of_a_method_is_taken_as_a_whole_or_not_at_all(tmp_path):
    """The first layers of the synthesisers would fit, the second not."""
    path = saved(trained(synthesizer(2)), tmp_path)
    same, other = unlike(synthesizer(2)), unlike(synthesizer(5))
    state = other.method_state
    moving = [*state.variables, *state.parts["synthesis"].moving]
    before = [v.numpy() for v in moving]
    for model in same, other:
        model.load_weights(path)
    assert_equal([v.numpy() for v in moving], before)
    expected = trained(synthesizer(2))
    assert_equal(kept(same), kept(expected))
    assert same.train_on_batch(*zoo.data(4)) == expected.train_on_batch(
        *zoo.data(4)
    )
    assert_equal(kept(same), kept(expected))


def test_files_keep_their_form(tmp_path):
    """Names in files that there are: these must be found again."""
    model = trained("dni", network=zoo.network("gru", dropout=0.5))
    with h5py.File(saved(model, tmp_path)) as file:
        found = []
        file.visit(found.append)
    synthesis = "layers/method_state/parts/synthesis/"
    assert {
        "vars/running_0",
        "carried/carried_state/vars/0",
        "carried/carried_state/vars/1",
        "layers/sequential/layers/gru/cell/vars/0",
        "layers/sequential/layers/dense/vars/1",
        f"{synthesis}network/layers/dense/vars/0",
        f"{synthesis}optimizer/vars/0",
        "optimizer/vars/0",
    } <= set(found)
    doubled = [name for name in found if name.startswith("method_state/")]
    assert not doubled


@pytest.mark.slow
@pytest.mark.parametrize("method", ["artbp", "dni"])
def test_a_backup_in_the_middle_of_an_epoch(method, tmp_path):
    """As from a model saved at the same batch."""
    x, y = map(windows, zoo.data(2 * TOTAL))

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations) >= stop:
                self.model.save(tmp_path / "model.keras")
                raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(
            str(tmp_path / "backup"), save_freq=1, delete_checkpoint=False
        )

    network = zoo.network("simple_rnn", dropout=0.5)
    model = model_of(method, network=network)
    model.fit(x[:3], y[:3], **FIT)
    stop = 6 * int(model.optimizer.iterations)  # the second batch of epoch 1
    model = model_of(method, network=zoo.network("simple_rnn", dropout=0.5))
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, **FIT, epochs=2, callbacks=[backup(), Interrupt()])
    expected = keras.models.load_model(tmp_path / "model.keras")
    assert_equal(kept(expected), kept(model))
    found = model_of(method, network=zoo.network("simple_rnn", dropout=0.5))
    states = []
    begin = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: states.append(kept(found))
    )
    one = found.fit(x, y, **FIT, epochs=2, callbacks=[backup(), begin])
    assert one.epoch == [1]
    assert_equal(states[0], kept(model))
    other = expected.fit(x, y, **FIT, epochs=2, initial_epoch=1)
    assert one.history == other.history
    assert_equal(found.get_weights(), expected.get_weights())


def counted(first, method):
    """Two layers that Keras has counted up to some number."""
    network = keras.Sequential([keras.Input((None, zoo.FEATURES))])
    for place in range(2):
        name = f"gru_{first + place}"
        network.add(
            keras.layers.GRU(2, return_sequences=True, seed=place, name=name)
        )
    network.add(keras.layers.Dense(2))
    model = ksg.SequenceModel.from_model(network, stateful=True)
    model.compile("sgd", "mse", method=method, run_eagerly=True)
    return model


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        lambda: ksg.methods.SyntheticGradients(3, "linear"),
        lambda: ksg.methods.UORO(3, seed=1),
    ],
    ids=["synthetic gradients", "uoro"],
)
def test_layers_counted_further_take_each_its_own(method, tmp_path):
    """A network that is made once more: its layers have other numbers."""
    x, y = zoo.data(4)
    model = counted(9, method())
    model.train_on_batch(x, y)
    model.save_weights(tmp_path / "saved.weights.h5")
    again = counted(1, method())
    again.load_weights(tmp_path / "saved.weights.h5")
    for each in model, again:
        each.optimizer.learning_rate = 0.0
    expected, found = (m.estimate_gradients(x, y)[1] for m in (model, again))
    zoo.assert_same(found, expected, tolerance=1e-6)
