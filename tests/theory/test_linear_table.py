"""The computed study of the linear game."""

import pytest

from lawful import InputError
from lawful.theory import linear_table
from lawful.theory.linear_table import METHODS, bounds, case, claims, play, sampling_errors


def test_every_claim_is_borne_out_and_every_radius_has_two_sources():
    rows = claims()
    assert rows
    assert all(claim.holds for claim, _ in rows)
    cases = [entry for _, own in rows for entry in own]
    assert len(cases) > 30
    assert max(abs(entry.radius - entry.closed) for entry in cases) < 1e-8


def test_a_wrong_method_would_change_the_verdicts(monkeypatch):
    wrong = {**METHODS, "extragradient": METHODS["simultaneous"]}
    monkeypatch.setattr(linear_table, "METHODS", wrong)
    assert not all(claim.holds for claim, _ in claims())


def test_figures_of_the_facts():
    """μ = 4: extragradient diverges at η = 0.3 and converges at 0.2."""
    assert case("extragradient", 0.3, weight=4.0).radius > 1
    assert case("extragradient", 0.2, weight=4.0).radius < 1
    found = {row["critic"]: row for row in bounds((4.0,)) if row["method"] == "three-way"}
    for critic, bound in (("standard", 0.25), ("projected", 0.5)):
        assert found[critic]["closed"] == pytest.approx(bound, abs=1e-4)
        assert found[critic]["computed"] == pytest.approx(bound, abs=1e-4)


@pytest.fixture(scope="module")
def played():
    pairs = (("extragradient", "projected"), ("extragradient", "standard"),
             ("simultaneous", "projected"))  # fmt: skip
    return {pair: play(*pair, steps=440 if "sim" in pair[0] else 800) for pair in pairs}


def test_sampled_extragradient_with_the_projected_critic_is_within_the_sampling_error(played):
    found = played["extragradient", "projected"]
    on, off = sampling_errors(1_000)
    assert found["on"][-1] < on
    assert found["off"][-1] < off
    assert found["to_v"] > 1  # Pv ≠ m
    # The last iterate keeps the error of a batch, √(12 / 100) = 0.35.
    assert 0.1 < found["last"] < 1.0


def test_the_standard_critic_goes_to_the_data_and_simultaneous_steps_away(played):
    standard = played["extragradient", "standard"]
    assert standard["to_v"] < sum(sampling_errors(1_000))
    assert standard["on"][-1] > 1
    wild = played["simultaneous", "projected"]
    assert wild["off"][-1] > 1e3
    assert wild["on"][-1] < sampling_errors(1_000)[0]


def test_of_fixed_data_only_their_mean_is_learnt():
    found = play("extragradient", "projected", data=200, steps=800, seed=1)
    assert found["to_data"] < sampling_errors(200)[1] / 3
    assert found["data_error"] > found["to_data"]
    assert found["off"][-1] == pytest.approx(found["data_error"], abs=found["to_data"])


def test_play_is_seeded_and_refuses_what_it_does_not_know():
    one, two = (play("optimistic", "projected", steps=30, seed=3) for _ in range(2))
    assert one == two
    for rule, critic in (("zigzag", "projected"), ("optimistic", "projectd")):
        with pytest.raises(InputError, match="no rule"):
            play(rule, critic)
