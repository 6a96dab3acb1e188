"""Exact counts, the correlation of a level cut against closed forms, and fields against targets."""

from math import pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import multivariate_normal

from lawful.materials.fields import (
    latent_correlation,
    level_cut,
    pixel_count,
    radial_interpolation,
    random_field,
)
from lawful.materials.statistics import two_point


def bivariate(g, phi):
    """P(both of a Gaussian pair of correlation g exceed the level that a share phi exceeds)."""
    level = ndtri(phi)
    return float(multivariate_normal.cdf([level, level], cov=[[1, g], [g, 1]]))


@given(
    fractions=st.lists(st.floats(0, 1), min_size=1, max_size=4),
    levels=st.integers(1, 40),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=60, deadline=None)
def test_a_cut_has_exactly_its_count_among_ties_too(fractions, levels, seed):
    phi = torch.tensor(fractions).double()
    generator = torch.Generator().manual_seed(seed)
    field = torch.randint(levels, (len(phi), 5, 7), generator=generator).double()
    cut = level_cut(field, phi)
    assert cut.unique().tolist() in ([0.0], [1.0], [0.0, 1.0])
    assert torch.equal(cut.sum((1, 2)).long(), (35 * phi).round().long())
    for values, chosen in zip(field, cut > 0, strict=True):
        if 0 < chosen.sum() < 35:
            assert values[chosen].min() >= values[~chosen].max()


def test_a_cut_at_nothing_and_at_everything():
    field = torch.randn(2, 8, 8)
    cut = level_cut(field, torch.tensor([0.0, 1.0]))
    assert cut[0].sum() == 0
    assert cut[1].sum() == 64
    assert pixel_count(torch.tensor([0.0, 0.5, 1.0]), 9).tolist() == [0, 4, 9]


def test_ties_are_taken_in_the_order_of_memory():
    cut = level_cut(torch.tensor([[1.0, 2.0, 1.0, 1.0]]), torch.tensor([0.75]))
    assert cut.tolist() == [[1, 1, 1, 0]]


def test_the_latent_correlation_at_one_half_is_a_sine():
    rho = torch.linspace(-1, 1, 41).double()[None]
    g = latent_correlation(0.25 + 0.25 * rho, torch.tensor([0.5]).double())
    torch.testing.assert_close(g, torch.sin(pi / 2 * rho), rtol=0, atol=1e-6)


@pytest.mark.parametrize("phi", [0.3, 0.55, 0.7])
def test_the_latent_correlation_inverts_the_bivariate_normal_law(phi):
    g = np.linspace(-0.3, 0.95, 26)
    p2 = torch.tensor([[bivariate(value, phi) for value in g]]).double()
    found = latent_correlation(p2, torch.tensor([phi]).double())
    np.testing.assert_allclose(found[0].numpy(), g, atol=2e-3)


def test_values_out_of_reach_give_the_ends():
    g = latent_correlation(torch.tensor([[-1.0, 2.0]]).double(), torch.tensor([0.4]).double())
    torch.testing.assert_close(g, torch.tensor([[-1.0, 1.0]]).double())


def test_interpolation_passes_through_the_curve_and_falls_off():
    weights = radial_interpolation((20, 30), 6)
    curve = torch.tensor([1.0, 0.8, 0.5, 0.3, 0.2, 0.1])
    image = (curve @ weights).unflatten(0, (20, 30))
    torch.testing.assert_close(image[0, :6], curve)
    torch.testing.assert_close(image[[-1, -5], 0], curve[[1, 5]])
    assert float(image[10, 15]) < 1e-3
    assert torch.equal(image[1:], image[1:].flip(0))


@pytest.mark.parametrize("shape", [(16, 16), (17, 24), (33, 20), (101, 101), (16, 17, 18)])
@pytest.mark.parametrize("blur", [0.0, 1.5])
def test_fields_of_any_size_have_mean_zero_and_unit_variance(shape, blur):
    curve = torch.exp(-(torch.arange(8) / 3.0).square() / 2)
    noise = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    field = random_field(noise, curve.expand(3, -1), blur=blur)
    assert field.shape == noise.shape
    torch.testing.assert_close(field.flatten(1).mean(1), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(field.flatten(1).square().mean(1), torch.ones(3), rtol=1e-4, atol=0)


def test_a_blurred_field_is_smoother():
    curve = torch.exp(-torch.arange(8.0)).expand(4, -1)
    noise = torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(0))
    plain, blurred = random_field(noise, curve), random_field(noise, curve, blur=1.5)
    assert blurred.diff(dim=2).square().mean() < 0.3 * plain.diff(dim=2).square().mean()


@pytest.mark.parametrize("phi", [0.3, 0.5])
def test_cut_fields_have_the_two_point_correlation_asked_for(phi):
    # A Gaussian is a correlation. Large fields, for an exact count narrows p2 by about 1/area; the
    # kinks of the interpolated curve put 1 % of the variance into noise, felt most at r = 1.
    curve = np.exp(-((np.arange(16) / 3.0) ** 2) / 2)
    target = torch.tensor([[bivariate(min(g, 1 - 1e-9), phi) for g in curve]]).double()
    fraction = torch.full((16,), phi)
    g = latent_correlation(target.float(), torch.tensor([phi]))
    noise = torch.randn(16, 256, 256, generator=torch.Generator().manual_seed(3))
    cut = level_cut(random_field(noise, g.expand(16, -1)), fraction)
    along = torch.stack([(cut * cut.roll(r, 2)).mean() for r in range(16)]).double()
    torch.testing.assert_close(along[:3], target[0, :3], rtol=0, atol=6e-3)
    torch.testing.assert_close(along[3:], target[0, 3:], rtol=0, atol=2e-3)
    assert float(two_point(cut, 8)[:, 0].mean()) == pytest.approx(phi, abs=1e-5)


def test_each_field_has_its_own_blur():
    noise = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(4)).double()
    curve = torch.exp(-torch.arange(16.0).square() / 30).double().expand(3, -1)
    widths = torch.tensor([0.0, 1.0, 1.5]).double()
    together = random_field(noise, curve, blur=widths)
    for i, width in enumerate(widths.tolist()):
        alone = random_field(noise[i : i + 1], curve[:1], blur=width)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-12)
