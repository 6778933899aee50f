import keras
import numpy as np
import pytest

from tests.examples import script


@pytest.fixture(scope="module")
def example():
    return script.load("marked_symbol")


def test_every_arm_is_made_and_gates_keep_long(example):
    settings = example.parse([])
    task = example.ksg.data.tasks.MarkedSymbol(example.WINDOW, (40, 50))
    for cell, place, sign in (
        ("gru", 0, 1),
        ("lstm", 1, 1),
        ("min_gru", 0, -1),
    ):
        settings.cell = cell
        names = example.ARMS if cell == "gru" else ["TBPTT(40)"]
        for name in names:
            arm = example.ARMS[name]
            model = example.make_model(arm, task, settings, seed=0)
            layer = model.layers[0]
            assert layer.trainable == (name != "readout")
            units = slice(32 * place, 32 * place + 32)
            bias = np.reshape(layer.cell.bias, (-1, layer.cell.bias.shape[-1]))
            keeps = sign * bias[0, units]
            assert 0 <= keeps.min() and keeps.max() <= np.log(60)
            assert keeps.max() > np.log(20)
    keras.utils.clear_session()


def test_drawn_windows_are_the_same_stream(example):
    settings = example.parse(["--steps", "2000"])
    task = example.ksg.data.tasks.MarkedSymbol(example.WINDOW, (40, 50))
    arm = example.ARMS["ARTBP(20), drawn"]
    windows, steps = example.make_windows(arm, task, settings, 0)
    assert steps == 20 and len(list(windows)) == 100
    drawn, asked = [], []
    for x, y, weight in windows.take(30):
        mask = x["mask"].numpy()[0]
        count = mask.sum()
        # A question counts as in any window, all else not at all.
        question = x["inputs"].numpy()[..., -1]
        np.testing.assert_allclose(weight, question * count / 20, rtol=1e-6)
        drawn.append(x["inputs"].numpy()[:, :count])
        asked.append(y.numpy()[:, :count])
    drawn, asked = (np.concatenate(part, axis=1) for part in (drawn, asked))
    plain = example.ARMS["BPTT"]
    windows, steps = example.make_windows(plain, task, settings, 0)
    assert steps == example.WINDOW and len(windows) == 10
    x, y = (
        np.concatenate(part, axis=1)
        for part in list(zip(*windows.as_numpy_iterator(), strict=True))[:2]
    )
    np.testing.assert_array_equal(drawn, x[:, : drawn.shape[1]])
    np.testing.assert_array_equal(asked, y[:, : asked.shape[1]])


@pytest.mark.slow
def test_traces_learn_what_truncation_of_their_memory_does_not(
    example, tmp_path, capsys
):
    """Shorter delays than the default's, so that it takes less time."""
    arguments = ["--steps", "6000", "--every", "1000", "--delay", "20", "24"]
    arguments += ["--units", "8", "--learning-rate", "0.03"]
    arguments += ["--arms", "SnAp(10)", "TBPTT(20)", "--out", str(tmp_path)]
    traced, cut = example.main(arguments)
    assert traced["kept"] == 8 * 5 * 10 + 3 * 8 * (10 + 8 + 2)
    assert cut["kept"] == 8 * 5 * 20
    assert traced["updates"] == 600 and cut["updates"] == 300
    assert traced["learnt_at"] is not None and cut["learnt_at"] is None
    assert traced["accuracy"] > 0.95 > 0.5 > cut["accuracy"]
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000
    assert "SnAp(10)" in capsys.readouterr().out
