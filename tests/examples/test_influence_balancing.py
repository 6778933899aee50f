import pytest

from tests.examples import script

EXACT = 24.0


@pytest.fixture(scope="module")
def example():
    return script.load("influence_balancing")


@pytest.mark.slow
def test_truncation_fails_and_random_cuts_with_weights_do_not(
    example, tmp_path, capsys
):
    arguments = ["--quick", "--repeats", "500", "--updates", "1400"]
    arguments += ["--out", str(tmp_path)]
    results = example.main(arguments)
    outcomes = {name: outcome for name, (*_, outcome) in results.items()}
    assert outcomes == {
        "TBPTT 10": "diverged",
        "TBPTT 100": "diverged",
        "TBPTT 200": "converged",
        "cuts 16, no weights": "diverged",
        "ARTBP 16": "converged",
    }
    for length in (10, 100, 200):
        expected = -4.0 * example.TASK.truncated_sensitivity(length)
        gradient = results[f"TBPTT {length}"][0]
        assert gradient == pytest.approx(expected, rel=1e-3)
    # 500 pieces give a standard error of about 9 with weights, 1 without.
    assert results["ARTBP 16"][0] == pytest.approx(EXACT, abs=20)
    assert results["cuts 16, no weights"][0] == pytest.approx(-23, abs=4)
    for name in ("TBPTT 200", "ARTBP 16"):
        assert results[name][1] == pytest.approx(-1 / 6, abs=1e-5)
    assert (tmp_path / "theta.png").stat().st_size > 10_000
    assert "exact gradient at the start +24.00" in capsys.readouterr().out


def test_outcome(example):
    def outcome(theta):
        trajectory = example.Trajectory()
        trajectory.theta = [0.5, theta]
        return example.outcome(trajectory)

    assert outcome(-0.1667) == "converged"
    assert outcome(0.4) == outcome(1.0) == "undecided"
    assert outcome(10.0) == outcome(float("nan")) == "diverged"


def test_too_few_updates_are_refused(example, capsys):
    with pytest.raises(SystemExit):
        example.parse(["--updates", "10"])
    message = "--updates must be 100 or more and --repeats 2 or more. Received"
    assert message in capsys.readouterr().err
