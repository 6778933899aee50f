import json

import numpy as np
import pytest

from benchmarks import learned
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


def run(example, folder, *arguments):
    common = ["--quick", "--data", str(folder), "--out", str(folder / "out")]
    common += ["--no-jit", "--batch-size", "64", "--learning-rate", "0.02"]
    return example.main([*common, "--pixels", "98", *arguments])


def last_reports(results):
    return {name: found["reports"][-1] for name, [found] in results.items()}


def test_quick_run(example, digits, capsys):
    results = run(example, digits, "--permuted", "--arms", "equal")
    printed = capsys.readouterr().out
    assert "8 steps of 98 pixels, permuted, 512 images, 4 parts" in printed
    last = last_reports(results)["equal"]
    assert last["accuracy"] > 0.3
    assert (last["epochs"], last["updates"]) == (2.0, 64)
    [picture] = (digits / "out").glob("*.png")
    assert picture.stat().st_size > 10_000


@pytest.mark.slow
def test_every_arm(example, digits, capsys, eagerly):
    """Of two batches, once."""
    few = "--images", "128", "--epochs", "1"
    last = last_reports(run(example, digits, *few))
    printed = capsys.readouterr().out
    assert "8 steps of 98 pixels, in order, 128 images, 4 parts" in printed
    updates = {name: report["updates"] for name, report in last.items()}
    assert updates == {"bptt": 2} | dict.fromkeys(example.ARMS[1:], 8)
    losses = {last[name]["loss"] for name in example.ARMS}
    assert len(losses) == 5


@pytest.mark.slow
def test_a_run_goes_on_where_it_stopped(example, digits, capsys):
    """In rounds of a quarter, one of them cut short by the clock."""
    arguments = "--arms", "parts", "--every", "128", "--decay"
    [first] = run(example, digits, *arguments, "--seconds", "1e-6")["parts"]
    # One batch of four parts, and the test all the same.
    [report] = first["reports"]
    assert (report["updates"], report["epochs"]) == (4, 0.125)
    assert report["rate"] == pytest.approx(0.02 / 1000)
    path = digits / "out" / "in_order_parts_0.json"
    assert json.loads(path.read_text()) == first
    [again] = run(example, digits, *arguments, "--seconds", "1e-6")["parts"]
    assert again == first
    [more] = run(example, digits, *arguments)["parts"]
    assert more["reports"][0] == report
    assert [r["updates"] for r in more["reports"]] == [4, *range(12, 61, 8)]
    rates = [0.02 / 10**falls for falls in (0, 0, 0, 1, 1, 2, 2)]
    found = [r["rate"] for r in more["reports"][1:]]
    assert found == pytest.approx(rates)
    with pytest.raises(SystemExit, match="of another run: units. Delete it"):
        run(example, digits, *arguments, "--units", "3")
    capsys.readouterr()
    learned.main(["--only", "pixels", "--results", str(digits / "out")])
    end = f"{100 * more['reports'][-1]['accuracy']:.2f}"
    shown = capsys.readouterr().out
    assert "| parts without the regulariser | 1 | 60 | " in shown
    assert shown.rstrip().endswith(f" | {end} |")


def test_pixels_that_do_not_divide_an_image_are_refused(example, capsys):
    with pytest.raises(SystemExit):
        example.parse(["--pixels", "5"])
    assert "must divide 784. Received: 5" in capsys.readouterr().err
