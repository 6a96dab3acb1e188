"""Divergences between samples: closed forms of Gaussians, optimal transport on the line."""

import math

import pytest
import torch

from lawful import InputError
from lawful.divergences import MMD, Energy, Gaussian, Polynomial, RationalQuadratic, Sinkhorn

N, M = 3000, 0.9
LEVELS = (torch.arange(N, dtype=torch.float64) + 0.5) / N
Y = torch.special.ndtri(LEVELS)[:, None]
X = M + Y


def test_gaussian_kernel_of_gaussians():
    for s in (0.5, 1.0, 3.0):
        scale = math.sqrt(s**2 / (s**2 + 2))
        exact = 2 * scale * (1 - math.exp(-(M**2) / (2 * (s**2 + 2))))
        # The samples are quantiles, so a diagonal term of 1/N remains.
        assert float(MMD(Gaussian((s,)))(X, Y)) == pytest.approx(exact, abs=3 / N)
    both = MMD(Gaussian((0.5, 3.0)))(X, Y)
    apart = MMD(Gaussian((0.5,)))(X, Y) + MMD(Gaussian((3.0,)))(X, Y)
    torch.testing.assert_close(both, apart)


def test_energy_kernel_is_the_distance_of_distribution_functions():
    z = torch.linspace(-9, 9, 20001, dtype=torch.float64)
    cdf = torch.special.ndtr
    exact = 2 * torch.trapezoid((cdf(z) - cdf(z - M)).square(), z)
    assert float(MMD(Energy())(X, Y)) == pytest.approx(float(exact), abs=3 / N)


def test_polynomial_kernel_compares_moments():
    x, y = X[::10], Y[::10]
    exact = (x.mean() - y.mean()) ** 2  # degree 1 is the squared distance of the means
    found = MMD(Polynomial(1))(x, y)
    assert float(found) == pytest.approx(float(exact), abs=0.02)


@pytest.mark.parametrize("kernel", [Gaussian(), RationalQuadratic(), Energy(), Polynomial()])
def test_the_estimate_is_unbiased(kernel):
    random = torch.Generator().manual_seed(0)
    values = torch.stack(
        [MMD(kernel)(*torch.randn(2, 24, 2, generator=random).double()) for _ in range(400)]
    )
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(400)


@pytest.mark.parametrize("kernel", [Gaussian(), RationalQuadratic(), Energy(), Polynomial()])
def test_descending_it_moves_samples_to_the_data(kernel):
    fake = Y[::100].clone().requires_grad_()
    MMD(kernel)(X[::100], fake).backward()
    assert float(fake.grad.mean()) < 0  # the data lie to the right


def test_sinkhorn_is_optimal_transport_on_the_line():
    x, y = X[::10], 0.6 * Y[::10]
    exact = float((x - y).square().mean()) / 2  # both are sorted
    assert float(Sinkhorn(blur=0.01, scaling=0.9)(x, y)) == pytest.approx(exact, rel=1e-2)
    assert abs(float(Sinkhorn(blur=0.5)(x, x))) < 1e-6


def test_misuse_is_named():
    with pytest.raises(InputError, match="two samples a side"):
        MMD()(X[:1], Y)
    with pytest.raises(InputError, match="kernel scales"):
        Gaussian(())
    with pytest.raises(InputError, match="blur > 0"):
        Sinkhorn(blur=0.0)


def test_far_from_the_origin_and_collapsed_batches():
    x, y = X[::30].float(), Y[::30].float()
    for entry in (MMD(RationalQuadratic()), MMD(Energy()), Sinkhorn(0.1)):
        torch.testing.assert_close(entry(x + 1000, y + 1000), entry(x, y), rtol=2e-2, atol=2e-3)
    point = torch.ones(5, 3)
    assert float(Sinkhorn()(point, point)) == pytest.approx(0.0, abs=1e-6)
    assert bool(torch.isnan(Sinkhorn()(point, point * torch.nan)))
