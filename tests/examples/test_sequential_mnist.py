import numpy as np
import pytest

from tests.examples import script


@pytest.fixture(scope="module")
def example():
    return script.load("sequential_mnist")


def write_idx(path, array):
    head = [0, 0, 8, array.ndim]
    sizes = np.array(array.shape, ">i4").tobytes()
    path.write_bytes(bytes(head) + sizes + array.astype("uint8").tobytes())


@pytest.fixture
def digits(tmp_path):
    """Images of which the label can be read: their brightness."""
    generator = np.random.default_rng(0)
    for prefix, count in ("train", 600), ("t10k", 100):
        labels = generator.integers(0, 10, count)
        images = np.tile(20 * labels[:, None, None], (1, 28, 28))
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte", images)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", labels)
    return tmp_path


@pytest.mark.parametrize("permuted", [False, True])
def test_quick_run(example, digits, permuted, capsys):
    arguments = ["--quick", "--data", str(digits), "--out", str(digits / "out")]
    arguments += ["--no-jit", "--batch-size", "64", "--learning-rate", "0.02"]
    arguments += ["--pixels", "98"]
    arguments += ["--permuted", "--arms", "equal"] if permuted else []
    results = example.main(arguments)
    printed = capsys.readouterr().out
    order = "permuted" if permuted else "in order"
    assert f"8 steps of 98 pixels, {order}, 512 images, 4 parts" in printed
    assert results["equal"][0]["accuracy"][-1] > 0.3
    if not permuted:
        updates = {name: run["updates"] for name, [run] in results.items()}
        assert updates == {"bptt": 16, "equal": 64, "parts": 64, "fptt": 64}
        assert results["parts"][0]["loss"] != results["fptt"][0]["loss"]
    assert (digits / "out" / "curves.png").stat().st_size > 10_000


def test_pixels_that_do_not_divide_an_image_are_refused(example, capsys):
    with pytest.raises(SystemExit):
        example.parse(["--pixels", "5"])
    assert "must divide 784. Received: 5" in capsys.readouterr().err
