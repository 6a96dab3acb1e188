"""Symmetrized functions are symmetric; symmetrized samples are invariant; the test tells."""

import pytest
import torch
from torch import nn

from lawful.errors import InputError
from lawful.symmetry import invariance
from lawful.symmetry.group import permutations, plane_rotations
from lawful.symmetry.invariance import invariance_test
from lawful.symmetry.planar import planar
from lawful.symmetry.symmetrize import (
    Symmetrized,
    canonicalize,
    equivariance_error,
    invariance_error,
    orbit_samples,
    randomize,
)


def mlp(inputs, outputs):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Linear(16, outputs)).double()


def test_group_mean_makes_a_function_invariant():
    group = plane_rotations(6, 5)
    x = torch.randn(7, 5, dtype=torch.float64)
    f = mlp(5, 1)
    assert invariance_error(f, x, group)[1:].min() > 1e-3
    s = Symmetrized(f, group)
    assert invariance_error(s, x, group).max() < 1e-13
    torch.testing.assert_close(Symmetrized(s, group)(x), s(x))  # a projection
    torch.testing.assert_close(s(x), torch.stack([f(y) for y in group.orbit(x)]).mean(0))


def test_group_mean_makes_a_function_equivariant():
    group = permutations([(1, 2, 0), (1, 0, 2)])
    x = torch.randn(7, 3, dtype=torch.float64)
    f = mlp(3, 3)
    assert equivariance_error(f, x, group, group).max() > 1e-3
    s = Symmetrized(f, group, group)
    assert equivariance_error(s, x, group, group).max() < 1e-13
    torch.testing.assert_close(Symmetrized(s, group, group)(x), s(x))


def test_one_pass_and_a_pass_an_element_agree():
    group = plane_rotations(4, 5)
    x, f = torch.randn(7, 5, dtype=torch.float64), mlp(5, 5)
    shifted = Symmetrized(lambda y, by: f(y) + by, group, group)
    torch.testing.assert_close(shifted(x, 0.0), Symmetrized(f, group, group)(x))


def test_error_is_of_every_element():
    group = planar("D4")
    x = torch.randn(2, 1, 4, 4)
    errors = invariance_error(lambda y: y.flip(-1).sum(-1).cumsum(-1), x, group)
    assert errors.shape == (8,)
    assert errors[0] == 0
    assert errors[4] < 1e-5 < errors[1]  # sums of rows do not see a reflection


def test_random_elements_are_uniform_and_seeded():
    group = planar("C4")
    x = torch.arange(4.0).reshape(1, 1, 2, 2).expand(4000, 1, 2, 2)
    y = randomize(x, group, torch.Generator().manual_seed(0))
    assert torch.equal(y, randomize(x, group, torch.Generator().manual_seed(0)))
    corner = y[:, 0, 0, 0].long().bincount(minlength=4) / 4000
    assert (corner - 0.25).abs().max() < 4 * (0.25 * 0.75 / 4000) ** 0.5


@pytest.mark.parametrize("name", ["C2", "C4", "D2", "D4"])
def test_canonical_images_are_one_of_each_orbit(name):
    group = planar(name)
    x = torch.rand(5, 2, 6, 6)
    y = canonicalize(x, group)
    for g in range(group.order):
        assert torch.equal(canonicalize(group.act(x, g), group), y)
    assert (group.orbit(x) - y).flatten(2).abs().amax(2).amin(0).max() == 0


def test_orbit_samples_are_closed_under_the_group():
    group = planar("D4")
    x = torch.randn(3, 1, 4, 4)
    rows = orbit_samples(x, group).flatten(1)
    for g in range(group.order):
        turned = group.act(orbit_samples(x, group), g).flatten(1)
        assert torch.cdist(turned, rows).amin(1).max() == 0


def skewed(count, seed):
    x = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return x * torch.tensor([1.5, 1.0]) + torch.tensor([0.4, 0.0])


def test_invariant_laws_give_uniform_p_values():
    group = plane_rotations(4, 2)
    p = []
    for seed in range(60):
        x = randomize(skewed(40, seed), group, torch.Generator().manual_seed(seed))
        p.append(invariance_test(x, group, draws=199, seed=seed).p_value)
    ordered = torch.tensor(p).sort().values
    uniform = torch.arange(1, 61) / 60
    assert (ordered - uniform).abs().max() < 1.63 / 60**0.5  # Kolmogorov, 1 %


def test_other_laws_are_found_out():
    group = plane_rotations(4, 2)
    found = invariance_test(skewed(200, 0), group)
    assert found.p_value == pytest.approx(0.001)
    assert found.statistic > 3 * found.typical
    assert (found.count, found.draws) == (200, 999)


def radius(x):
    return x.square().sum(1, keepdim=True)


def test_features_must_see_the_difference():
    group = plane_rotations(4, 2)
    blind = invariance_test(skewed(200, 0), group, features=radius)
    assert blind.p_value == 1.0
    seeing = invariance_test(skewed(200, 0), group, features=lambda x: x[:, :1])
    assert seeing.p_value < 0.01


def test_a_sample_of_invariant_points_is_invariant():
    x = torch.ones(20, 1, 4, 4)
    assert invariance_test(x, planar("D4")).p_value == 1.0


def test_blocks_bound_the_memory_of_the_test_and_change_nothing(monkeypatch, largest):
    group = plane_rotations(4, 2)
    x = skewed(150, 0)
    whole = invariance_test(x, group, draws=99)
    monkeypatch.setattr(invariance, "BLOCK", 4_000)
    with largest:
        parts = invariance_test(x, group, draws=99)
    assert (parts.p_value, parts.count, parts.draws) == (whole.p_value, whole.count, whole.draws)
    assert parts.statistic == pytest.approx(whole.statistic, rel=1e-12)
    assert parts.typical == pytest.approx(whole.typical, rel=1e-12)
    assert largest.most <= 100 * 150  # the choices; a square over all orbits has 360,000 entries


@pytest.mark.parametrize("name", ["D4", "C4"])
def test_the_statistic_is_its_definition(name):
    """The kernel distance of chosen samples to all orbits, by hand."""
    group = planar(name)
    x = torch.rand(7, 1, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points, whole = x.flatten(1), orbit_samples(x, group).flatten(1)
    apart = lambda a, b: (a[:, None] - b[None]).norm(dim=2).mean()  # noqa: E731
    exact = 2 * apart(points, whole) - apart(points, points) - apart(whole, whole)
    assert invariance_test(x, group, draws=1).statistic == pytest.approx(float(exact), rel=1e-10)


@pytest.mark.parametrize("x", [torch.zeros(1, 2), torch.full((4, 2), float("nan"))])
def test_invariance_test_refuses(x):
    with pytest.raises(InputError, match="invariance test"):
        invariance_test(x, plane_rotations(4, 2))


def test_rounding_does_not_tell_equal_choices_apart():
    group = planar("D4")
    x = torch.rand(40, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert invariance_test(group.orbit(x).mean(0), group).p_value == 1.0


@pytest.mark.parametrize("function", [canonicalize, invariance_test])
def test_what_needs_an_exact_action_refuses_another(function):
    with pytest.raises(InputError, match="C8 interpolates"):
        function(torch.rand(4, 1, 8, 8), planar("C8"))
