"""The linear InvNet game: matrices, closed forms, the facts that the theory rests on."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lawful import InputError
from lawful.theory.linear_game import (
    METHODS,
    LinearGame,
    invnet_game,
    linearise,
    stability_bound,
)
from lawful.training.rules import alternating, consensus, extragradient, lookahead, optimistic

D = 6


def game(motif, weight, critic, seed=0):
    random = np.random.default_rng(seed)
    mean, values = random.normal(size=(2, D))
    return invnet_game(np.arange(D) < motif, weight, mean, values, critic)


UNDAMPED = game(0, 1.0, "standard")


def rho(method, step, on=UNDAMPED):
    """Of a method of the table by its name, or of a rule."""
    if isinstance(method, str):
        return METHODS[method].update(on, step).spectral_radius()
    return linearise(method, on, step).spectral_radius()


@pytest.mark.parametrize("critic", ["standard", "projected"])
@given(
    weight=st.floats(0.1, 6.0), step=st.floats(0.02, 1.5), motif=st.integers(0, D),
    name=st.sampled_from(sorted(METHODS)),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_radii_of_whole_matrices_are_those_of_the_blocks(critic, weight, step, motif, name):
    found = rho(name, step, game(motif, weight, critic))
    closed = METHODS[name].spectral_radius(step, weight, critic, motif=motif, dimension=D)
    # An eigenvalue of multiplicity two is known to half the digits only.
    assert found == pytest.approx(closed, rel=2e-7)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("critic", ["standard", "projected"])
@pytest.mark.parametrize("weight", [0.5, 1.0, 3.0, 6.0])
@pytest.mark.parametrize("motif", [2, D])
def test_bounds_in_closed_form_are_the_computed_ones(name, critic, weight, motif):
    closed = METHODS[name].bound(weight, critic, motif=motif, dimension=D)
    if closed is None:
        pytest.skip("no closed form")
    found = stability_bound(game(motif, weight, critic), METHODS[name].update)
    assert found == pytest.approx(closed, abs=1e-6)


def test_equilibria():
    random = np.random.default_rng(0)
    mean, motif = random.normal(size=(2, D))
    p = np.arange(D) < 2
    standard, projected = (game(2, 3.0, c).equilibrium() for c in ("standard", "projected"))
    np.testing.assert_allclose(standard[:D], mean, atol=1e-12)
    np.testing.assert_allclose(standard[D:], np.where(p, 3.0 * (mean - motif), 0), atol=1e-12)
    np.testing.assert_allclose(projected[:D], np.where(p, motif, mean), atol=1e-12)
    np.testing.assert_allclose(projected[D:], 0, atol=1e-12)


def test_facts_of_the_undamped_block():
    assert rho("simultaneous", 0.3) == pytest.approx(math.sqrt(1 + 0.09))
    assert rho(alternating(), 1.7) == pytest.approx(1.0)
    assert rho(alternating(), 2.1) > 1.1
    assert rho(extragradient(), 0.1) == pytest.approx(0.99504, abs=5e-6)
    assert rho(extragradient(), math.sqrt(0.5)) == pytest.approx(math.sqrt(0.75))
    assert all(rho(extragradient(0.5), s) > 1 for s in (0.01, 0.3, 1.0))
    assert rho("heun", 0.4) == pytest.approx(math.sqrt(1 + 0.4**4 / 4))
    assert rho(lookahead(), 0.5) == pytest.approx(0.647, abs=5e-4)
    assert rho(lookahead(), 0.9) > 1
    for gamma in (0.6, 1.0, 2.0):  # extrapolation of γ: stable below 2γ / (1 + γ²)
        bound = 2 * gamma / (1 + gamma**2)
        for step in (0.98 * bound, 1.02 * bound):
            stable = rho(extragradient(gamma / step), step) < 1
            assert stable == (step < bound)
            assert (rho(consensus(gamma), step) < 1) == (step < bound)


def test_a_singular_value_above_one_does_not_mean_divergence():
    update = METHODS["simultaneous"].update(game(D, 1.0, "standard"), 0.5)
    assert update.spectral_radius() == pytest.approx(0.866, abs=5e-4)
    assert update.largest_singular_value() == pytest.approx(1.151, abs=5e-4)


def test_iterates_converge_as_fast_as_the_radius_says():
    update = linearise(extragradient(), game(2, 1.0, "projected"), 0.5)
    path = update.trajectory(np.ones(2 * D), 400)
    end = path[-1]
    error = np.linalg.norm(path[:200] - end, axis=1)
    rate = (error[150] / error[50]) ** (1 / 100)
    assert rate == pytest.approx(update.spectral_radius(), abs=1e-3)
    np.testing.assert_allclose(end[:D], game(2, 1.0, "projected").equilibrium()[:D], atol=1e-9)
    assert end[D] == 1.0  # the critic on the motif never moves


def test_the_quotient_leaves_the_rest_of_the_spectrum():
    update = METHODS["simultaneous"].update(game(2, 0.7, "projected"), 0.3)
    whole = np.sort(np.abs(np.linalg.eigvals(update.matrix)))
    rest = np.sort(np.abs(np.linalg.eigvals(update.reduced)))
    np.testing.assert_allclose(whole, np.sort(np.concatenate([rest, [1.0, 1.0]])), atol=1e-9)


def test_a_readers_own_game():
    own = LinearGame(np.array([[2.0]]), critic=np.array([[1.0]]), pull=np.array([3.0]))
    np.testing.assert_allclose(own.equilibrium(), [-0.75, -1.5])
    assert rho("simultaneous", 0.2, own) < 1
    assert METHODS["simultaneous"].update(own, 0.2).converges()
    runs_away = LinearGame(np.zeros((1, 1)), pull=np.ones(1))
    with pytest.raises(InputError, match="no point is stationary"):
        runs_away.equilibrium()
    update = METHODS["simultaneous"].update(runs_away, 0.1)
    assert update.spectral_radius() == 0.0
    assert not update.converges()
    for scale in (1e-3, 1.0, 1e4):  # bounds scale with the game
        large = LinearGame(scale * np.eye(2), push=1e8 * np.ones(2))
        assert stability_bound(large, METHODS["extragradient"].update) * scale == pytest.approx(1.0)
        assert stability_bound(large, METHODS["simultaneous"].update) == 0.0
        np.testing.assert_allclose(large.equilibrium()[:2], -1e8 / scale, rtol=1e-9)
    assert LinearGame([[1.0]]).size == 2
    with pytest.raises(InputError, match="coupling is not finite"):
        LinearGame([[np.nan]])
    with pytest.raises(InputError, match=r"expected mean \(2,\), got \(3,\)"):
        invnet_game([True, False], 1.0, np.ones(3), np.ones(2))
    with pytest.raises(InputError, match=r"expected generator \(1, 1\), got \(2, 2\)"):
        LinearGame(np.ones((1, 1)), np.eye(2))
    with pytest.raises(InputError, match="must be symmetric"):
        LinearGame(np.ones((1, 2)), np.array([[1.0, 2.0], [0.0, 1.0]]))
    with pytest.raises(InputError, match="a rule without memory"):
        linearise(lookahead(optimistic()), own, 0.1)
