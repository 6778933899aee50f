import pytest

from tests.examples import script

EXACT = 24.0


@pytest.fixture(scope="module")
def example():
    return script.load("influence_balancing")


@pytest.mark.slow
def test_truncation_fails_and_random_cuts_with_weights_do_not(
    example, tmp_path, monkeypatch, capsys
):
    """All arms but the shortest, which is as wrong as the one of 100."""
    arms = [run for run in example.runs() if run.name != "TBPTT 10"]
    monkeypatch.setattr(example, "runs", lambda: arms)
    arguments = ["--quick", "--updates", "760", "--learning-rate", "0.001"]
    arguments += ["--repeats", "40", "--seed", "1", "--out", str(tmp_path)]
    results = example.compare_pieces(example.parse(arguments))
    outcomes = {name: outcome for name, (*_, outcome) in results.items()}
    assert outcomes == {
        "TBPTT 100": "diverged",
        "TBPTT 200": "converged",
        "cuts 16, no weights": "diverged",
        "ARTBP 16": "converged",
    }
    for length in (100, 200):
        expected = -4.0 * example.TASK.truncated_sensitivity(length)
        gradient = results[f"TBPTT {length}"][0]
        assert gradient == pytest.approx(expected, rel=1e-3)
    # 40 pieces give a standard error of about 30 with weights, 5 without.
    assert results["ARTBP 16"][0] == pytest.approx(EXACT, abs=20)
    assert results["cuts 16, no weights"][0] == pytest.approx(-23, abs=4)
    for name in ("TBPTT 200", "ARTBP 16"):
        assert results[name][1] == pytest.approx(-1 / 6, abs=1e-5)
    assert (tmp_path / "theta.png").stat().st_size > 10_000
    assert "exact gradient at the start +24.00" in capsys.readouterr().out


@pytest.mark.slow
def test_influence_carried_forward_is_right_with_an_update_every_step(
    example, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(example, "ONLINE_RATES", (1e-4,))
    arguments = ["--steps", "6000", "--out", str(tmp_path)]
    results = example.compare_online(example.parse(arguments))
    outcomes = {key: outcome for key, (*_, outcome) in results.items()}
    assert outcomes["RTRL", 1e-4] == "converged"
    # What its own unit brings back, half of what it was, misleads, too.
    assert outcomes["SnAp", 1e-4] == outcomes["TBPTT", 1e-4] == "diverged"
    assert results["RTRL", 1e-4][0] == pytest.approx(-1 / 6, abs=1e-5)
    assert results["RTRL", 1e-4][1] == 1000
    # Right in the mean over signs, one draw of them needs smaller steps.
    assert outcomes["UORO", 1e-4] == "diverged"
    assert (tmp_path / "every_step.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "an update every step, 6000 steps" in printed


def test_settled(example):
    trajectory = example.Trajectory()
    trajectory.updates = [0, 100, 200, 300]
    for theta, expected in (
        ([0.5, -1 / 6, 0.5, -1 / 6], 300),
        ([0.5, -1 / 6, -1 / 6, -1 / 6], 100),
        ([0.5, -1 / 6, -1 / 6, 0.5], None),
        ([0.5, -1 / 6, -1 / 6, float("nan")], None),
    ):
        trajectory.theta = theta
        assert example.settled(trajectory) == expected


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
    with pytest.raises(SystemExit):
        example.parse(["--steps", "150"])
    message = "--steps must be a multiple of 100. Received: 150"
    assert message in capsys.readouterr().err
