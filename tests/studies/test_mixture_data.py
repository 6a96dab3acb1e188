"""The heavy-tailed mixture: its distribution, its symmetry, its clusters."""

import pytest
import torch
from scipy.stats import f, kstest

from lawful.errors import InputError
from lawful.studies.mixture import Mixture
from lawful.symmetry import plane_rotations
from lawful.symmetry.invariance import invariance_test

MIXTURE = Mixture()


def draw(count, seed=0, mixture=MIXTURE):
    return mixture.sample(count, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("freedom", [0.5, 2.0, 30.0])
def test_radii_are_those_of_a_student_t_distribution(freedom):
    """r² / 2 of a two-dimensional t is F(2, ν); here among points that keep to their cluster."""
    wide = Mixture(centre=1e4, freedom=freedom)
    x = draw(4000, mixture=wide).double()
    away = x[:, :2] - wide.centres.double()[wide.cluster(x)]
    away = away[away.norm(dim=1) < 1000]
    law = f(2, freedom)
    within = law.cdf(1000**2 / 2)
    assert len(away) / 4000 == pytest.approx(within, abs=0.01)
    square = away.square().sum(1) / 2
    assert kstest(square.numpy(), lambda v: law.cdf(v) / within).pvalue > 0.01
    angle = torch.atan2(away[:, 1], away[:, 0]) / (2 * torch.pi) + 0.5
    assert kstest(angle.numpy(), "uniform").pvalue > 0.01


def test_tails_have_no_mean_and_the_rest_is_constant():
    x = draw(20_000)
    assert x.shape == (20_000, 12)
    assert bool(torch.isfinite(x).all())
    assert MIXTURE.radius(x).max() > 1e6
    assert MIXTURE.radius(x).median() == pytest.approx(2.7, abs=0.3)
    assert bool((x[:, 2:] == 1).all())
    assert torch.equal(x, draw(20_000))
    assert not torch.equal(x, draw(20_000, seed=1))


def test_quarter_turns_permute_the_clusters():
    turn = plane_rotations(4, 2)
    for k in range(4):
        torch.testing.assert_close(turn.act(MIXTURE.centres, k), MIXTURE.centres.roll(-k, 0))
    x = draw(500)
    turned = plane_rotations(4, 12).act(x, 1)
    assert torch.equal(MIXTURE.cluster(turned), (MIXTURE.cluster(x) + 1) % 4)
    torch.testing.assert_close(MIXTURE.radius(turned), MIXTURE.radius(x))
    nearest = torch.cdist(x[:, :2], MIXTURE.centres)
    assert torch.equal(MIXTURE.cluster(x), nearest.argmin(1))
    torch.testing.assert_close(MIXTURE.radius(x), nearest.amin(1), rtol=1e-3, atol=1e-3)


def test_it_is_invariant_and_half_of_it_is_not():
    group = plane_rotations(4, 2)
    x = draw(300)[:, :2].asinh()
    assert invariance_test(x, group).p_value > 0.01
    assert invariance_test(x[x[:, 0] > 0], group).p_value < 0.01


@pytest.mark.parametrize("wrong", [{"centre": 0.0}, {"freedom": -1.0}, {"dimension": 1}])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=r"mixture: .*: expected (above 0|at least 2), got"):
        Mixture(**wrong)
