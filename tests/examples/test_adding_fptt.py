import pytest

from tests.examples import script


@pytest.fixture(scope="module")
def example():
    return script.load("adding_fptt")


@pytest.mark.slow
def test_quick_run(example, tmp_path, capsys, eagerly):
    arguments = ["--quick", "--batches", "3", "--test", "50", "--no-jit"]
    arguments += ["--length", "8"]
    arguments += ["--arms", "equal", "parts", "code", "--out", str(tmp_path)]
    results = example.main(arguments)
    printed = capsys.readouterr().out
    assert "T = 8, 4 parts, alpha 0.5" in printed
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    for name, batches in [("equal", 12), ("parts", 3), ("code", 3)]:
        [run] = results[name]
        # The arms make the same number of updates.
        assert (run["batches"][-1], run["updates"]) == (batches, 12)
        assert len(run["error"]) == 4 and run["error"][-1] < run["error"][0]
    assert results["parts"][0]["error"] != results["code"][0]["error"]


@pytest.mark.slow
def test_parts_learn_and_a_strong_regulariser_holds_them_back(
    example, tmp_path
):
    """The finding of docs/methods/fptt.md, at a small part of the size."""
    arguments = ["--length", "8", "--units", "16", "--parts", "4"]
    arguments += ["--batches", "90", "--epochs", "1", "--batch-size", "32"]
    arguments += ["--learning-rate", "0.03", "--out", str(tmp_path)]
    results = example.main([*arguments, "--arms", "parts", "code"])
    error = {name: run["error"][-1] for name, [run] in results.items()}
    assert error["parts"] < 0.05
    assert error["code"] > 0.1


def test_more_epochs_than_batches_are_refused(example, capsys):
    with pytest.raises(SystemExit):
        example.parse(["--batches", "10", "--epochs", "20"])
    message = "--epochs must be at most --batches. Received: 20 and 10"
    assert message in capsys.readouterr().err
