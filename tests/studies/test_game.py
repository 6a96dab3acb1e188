"""The computed study of the linear game."""

import pytest

from lawful.studies import linear_samples, linear_verdicts
from lawful.studies.linear_samples import DIMENSION, MOTIF, play
from lawful.studies.linear_verdicts import UNEXPECTED, bounds, case, verdicts


def test_every_verdict_is_borne_out_and_every_radius_has_two_sources():
    rows = verdicts()
    assert len(rows) == 9
    assert all(row.holds != UNEXPECTED for row in rows)
    cases = [entry for row in rows for entry in row.cases]
    assert len(cases) > 30
    assert max(abs(entry.radius - entry.closed) for entry in cases) < 1e-8


def test_a_wrong_method_would_change_the_verdicts(monkeypatch):
    from lawful.games import methods

    wrong = {**linear_verdicts.METHODS, "extragradient": methods.Simultaneous()}
    monkeypatch.setattr(linear_verdicts, "METHODS", wrong)
    assert any(row.holds == UNEXPECTED for row in verdicts())


def test_figures_of_the_facts():
    """μ = 4: extragradient diverges at η = 0.3 and converges at 0.2."""
    assert case("extragradient", 0.3, weight=4.0).radius > 1
    assert case("extragradient", 0.2, weight=4.0).radius < 1
    found = {(b.method, b.critic, b.weight): b.computed for b in bounds((4.0,))}
    assert found["three-way", "standard", 4.0] == pytest.approx(0.25, abs=1e-4)
    assert found["three-way", "projected", 4.0] == pytest.approx(0.5, abs=1e-4)


@pytest.fixture(scope="module")
def played():
    pairs = (("extragradient", "projected"), ("extragradient", "standard"),
             ("simultaneous", "projected"))  # fmt: skip
    return {pair: play(*pair, steps=1200) for pair in pairs}


def test_sampled_extragradient_with_the_projected_critic_is_within_the_sampling_error(played):
    found = played["extragradient", "projected"]
    assert found.on[-1] < found.on_error
    assert found.to_data < found.off_error
    # Of v itself no more is known than the data's mean tells.
    assert found.off[-1] < found.data_error + found.off_error / 2
    assert found.to_v > 1  # Pv ≠ m
    # The last iterate keeps the error of a batch: sqrt(12 / 100) = 0.35.
    assert 0.1 < found.last_to_data < 1.0


def test_the_standard_critic_goes_to_the_data_and_simultaneous_steps_away(played):
    standard = played["extragradient", "standard"]
    assert standard.to_v < 0.25
    assert standard.on[-1] > 1
    wild = played["simultaneous", "projected"]
    assert wild.off[-1] > 1e3
    assert wild.on[-1] < wild.on_error


def test_the_game_is_the_one_asked_for():
    assert (DIMENSION, MOTIF) == (16, 4)
    other = play("optimistic", "projected", steps=30, seed=3)
    same = play("optimistic", "projected", steps=30, seed=3)
    assert other == same
    assert linear_samples.Played.__dataclass_fields__["on_error"].default == pytest.approx(
        (4 / 1000) ** 0.5
    )
