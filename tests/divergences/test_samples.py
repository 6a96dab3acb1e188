"""Divergences between samples: closed forms of Gaussians, optimal transport on the line."""

import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from lawful import InputError, LawfulWarning
from lawful.divergences import (
    MMD,
    Energy,
    Gaussian,
    Polynomial,
    RationalQuadratic,
    Sinkhorn,
    samples,
)

N, M = 3000, 0.9
LEVELS = (torch.arange(N, dtype=torch.float64) + 0.5) / N
Y = torch.special.ndtri(LEVELS)[:, None]
X = M + Y


def test_gaussian_kernel_of_gaussians():
    x, y = X[1::3], Y[1::3]  # quantiles again
    for s in (0.5, 1.0, 3.0):
        scale = math.sqrt(s**2 / (s**2 + 2))
        exact = 2 * scale * (1 - math.exp(-(M**2) / (2 * (s**2 + 2))))
        # The samples are quantiles, so a diagonal term of one over their number remains.
        assert float(MMD(Gaussian((s,)))(x, y)) == pytest.approx(exact, abs=3 / len(x))
    both = MMD(Gaussian((0.5, 3.0)))(x, y)
    apart = MMD(Gaussian((0.5,)))(x, y) + MMD(Gaussian((3.0,)))(x, y)
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


def entropic(m, s, t, weight):
    """Entropic transport of N(m, s²) to N(0, t²) at cost ‖x - y‖² / 2 (Janati et al. 2020)."""
    d = math.sqrt(4 * s**2 * t**2 + weight**2)
    rest = weight * (1 - math.log(2 * weight)) + weight * math.log(d + weight)
    return (m**2 + s**2 + t**2 - d + rest) / 2


@pytest.mark.parametrize("blur", [0.1, 0.5, 2.0])
def test_sinkhorn_is_the_closed_form_of_gaussians(blur):
    within = sum(entropic(0, s, s, blur**2) for s in (1.0, 0.6))
    exact = entropic(M, 1.0, 0.6, blur**2) - within / 2
    assert float(Sinkhorn(blur)(X[5::10], 0.6 * Y[5::10])) == pytest.approx(exact, rel=1e-2)


def test_sinkhorn_is_optimal_transport_on_the_line():
    x, y = X[::10], 0.6 * Y[::10]
    exact = float((x - y).square().mean()) / 2  # both are sorted
    assert float(Sinkhorn(blur=0.05)(x, y)) == pytest.approx(exact, rel=1e-2)
    assert abs(float(Sinkhorn(blur=0.5)(x, x))) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sinkhorn_by_default_moves_masses_between_far_clusters(dtype):
    """Where a fixed number of updates a weight leaves most of the mass unmoved."""
    spots = torch.tensor([0.0, 1.0], dtype=dtype)
    x, y = (spots.repeat_interleave(torch.tensor(n))[:, None] for n in ([30, 10], [10, 30]))
    x.requires_grad_()
    value = Sinkhorn()(x, y)
    assert float(value.detach()) == pytest.approx(0.25, rel=5e-3)  # half the mass, at cost 1 / 2
    (slope,) = torch.autograd.grad(value, x)
    exact = torch.where(x < 0.5, -2 / 3, 0.0).to(dtype) / 40  # two thirds of the left go right
    torch.testing.assert_close(slope, exact, atol=2e-4, rtol=0)


def test_sinkhorn_leaves_the_mode_of_gradients_alone():
    with torch.no_grad():
        assert not Sinkhorn()(X[::300], Y[::300]).requires_grad
        assert not torch.is_grad_enabled()


def ring(count, random):
    """Eight narrow Gaussians on a circle."""
    angle = torch.randint(8, (count, 1), generator=random) * math.pi / 4
    return 2 * torch.cat([angle.cos(), angle.sin()], 1) + 0.02 * torch.randn(
        count, 2, generator=random
    )


CLOSE = {
    "normals of a line": lambda random: torch.randn(2, 256, 1, generator=random),
    "normals of a plane": lambda random: torch.randn(2, 256, 2, generator=random),
    "ring": lambda random: torch.stack([ring(256, random), ring(256, random)]),
    "coincident": lambda random: torch.randint(3, (2, 64, 2), generator=random).float(),
    "images": lambda random: torch.rand(2, 16, 1, 8, 8, generator=random),
    "far out": lambda random: 1000 + torch.randn(2, 64, 2, generator=random),
    "small": lambda random: 1e-5 * torch.randn(2, 64, 2, generator=random),
}
ENTRIES = [MMD(k) for k in (Energy(), Gaussian(), RationalQuadratic(), Polynomial())]


@pytest.mark.parametrize("entry", [*ENTRIES, Sinkhorn(0.2)], ids=str)
@pytest.mark.parametrize("case", CLOSE)
def test_single_precision_has_the_values_and_gradients_of_double(case, entry):
    x, y = CLOSE[case](torch.Generator().manual_seed(0))
    values, slopes = [], []
    for dtype in (torch.float32, torch.float64):
        fake = y.to(dtype).requires_grad_()
        value = entry(x.to(dtype), fake)
        assert value.dtype == dtype
        values.append(float(value.detach()))
        slopes.append(torch.autograd.grad(value, fake)[0].double())
    assert values[0] == pytest.approx(values[1], rel=1e-6, abs=1e-30)
    assert float((slopes[0] - slopes[1]).norm()) <= 1e-6 * float(slopes[1].norm())


@pytest.mark.parametrize("case", CLOSE)
def test_energy_gradients_are_those_of_plain_differences(case):
    x, y = (z.double().flatten(1) for z in CLOSE[case](torch.Generator().manual_seed(0)))
    units = lambda a, b: torch.nn.functional.normalize(a[:, None] - b[None], dim=2, eps=1e-9)  # noqa: E731
    exact = 2 * units(y, x).mean(1) / len(y) - 2 * units(y, y).sum(1) / (len(y) * (len(y) - 1))
    for dtype in (torch.float32, torch.float64):
        fake = y.to(dtype).requires_grad_()
        (slope,) = torch.autograd.grad(MMD()(x.to(dtype), fake), fake)
        assert float((slope - exact).norm()) <= 1e-6 * float(exact.norm())


def test_the_energy_distance_grows_with_the_scale():
    x, y = X[::100], Y[::100]
    for scale in (1e-9, 1e9):
        torch.testing.assert_close(MMD()(scale * x, scale * y), scale * MMD()(x, y))


def test_distances_do_not_depend_on_the_origin():
    x, y = (torch.randint(-64, 64, (2, 40, 2), generator=torch.Generator().manual_seed(0)) / 64
            ).double()  # fmt: skip
    for entry in (MMD(), MMD(RationalQuadratic()), Sinkhorn(0.2)):
        moved = entry(x + 2**24, y + 2**24)  # without rounding
        torch.testing.assert_close(moved, entry(x, y), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", ["ring", "normals of a plane"])
def test_sinkhorn_by_default_is_near_the_converged_value(case, monkeypatch):
    x, y = CLOSE[case](torch.Generator().manual_seed(0))[:, :64]
    updates = []
    count = lambda *given: updates.append(0) or softmin(*given)  # noqa: E731
    softmin = samples._softmin
    monkeypatch.setattr(samples, "_softmin", count)
    value = float(Sinkhorn(0.3)(x, y))
    assert len(updates) < 2 * 3 * 600  # of two potentials, for three pairs of sets
    exact = float(Sinkhorn(0.3, tolerance=1e-4)(x, y))
    assert value == pytest.approx(exact, rel=5e-3)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_sinkhorn_says_where_it_stops_before_the_marginals_are_right(kind, monkeypatch):
    monkeypatch.setattr(samples, "ROUNDS", 1)
    x, y = torch.randn(2, 16, 2, generator=torch.Generator().manual_seed(0)).to(kind)
    with pytest.warns(LawfulWarning, match="sinkhorn: marginals off by .* after 1 updates"):
        Sinkhorn(0.3, tolerance=1e-6)(x, y)


def test_the_entropys_weight_is_lowered_step_by_step(monkeypatch):
    """A hundred updates at each reach what a thousand at the last weight alone do not."""
    random = torch.Generator().manual_seed(0)
    x, y = ring(96, random).double(), ring(96, random).double()
    cost = (x[:, None] - y[None]).square().sum(2) / 2
    exact = float(cost[linear_sum_assignment(cost)].mean())
    monkeypatch.setattr(samples, "ROUNDS", 100)
    assert float(Sinkhorn()(x, y)) == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("kernel", [Energy(), Gaussian(), RationalQuadratic(), Polynomial()])
def test_kernels_have_second_derivatives(kernel):
    x, y = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(0)).double()
    assert torch.autograd.gradgradcheck(lambda fake: MMD(kernel)(x, fake), y.requires_grad_())


GRID = {
    "unequal numbers": (torch.rand(5, 1, 4, 4), torch.rand(3, 1, 4, 4), None),
    "numbers, not vectors": (torch.rand(5), torch.rand(4), None),
    "half precision": (torch.rand(5, 3).half(), torch.rand(5, 3).half(), None),
    "two precisions": (torch.rand(5, 3).double(), torch.rand(5, 3), None),
    "integers": (torch.zeros(5, 3, dtype=torch.uint8), torch.rand(5, 3), "torch.uint8"),
    "another shape": (torch.rand(5, 2, 2), torch.rand(5, 4), "equal samples"),
    "one entry for all": (torch.rand(5, 1), torch.rand(5, 4), "equal samples"),
    "none": (torch.rand(0, 3), torch.rand(5, 3), "a side"),
    "no batch": (torch.tensor(1.0), torch.tensor(2.0), "a side"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("case", GRID)
@pytest.mark.parametrize("entry", [*ENTRIES, Sinkhorn(0.5)], ids=str)
def test_every_shape_and_type_works_or_is_refused(case, entry):
    real, fake, words = GRID[case]
    if words is None:
        value = entry(real, fake)
        assert value.dtype == fake.dtype
        flat = (z.double().reshape(len(z), -1) for z in (real, fake))
        assert float(value) == pytest.approx(float(entry(*flat)), rel=1e-3, abs=1e-3)
    else:
        with pytest.raises(InputError, match=words):
            entry(real, fake)


def test_blocks_bound_the_memory_of_kernels_and_change_nothing(monkeypatch, largest):
    x, y = X[::10], Y[::10]
    for entry in ENTRIES:
        whole = entry(x, y)
        monkeypatch.setattr(samples, "BLOCK", 32)
        with largest:
            torch.testing.assert_close(entry(x, y), whole, rtol=1e-12, atol=1e-14)
        monkeypatch.undo()
    assert largest.most <= 5 * 32 * len(x)  # five kernels of different shapes at once


def test_misuse_is_named():
    with pytest.raises(InputError, match="2 or more a side"):
        MMD()(X[:1], Y)
    with pytest.raises(InputError, match="kernel scales"):
        Gaussian(())
    with pytest.raises(InputError, match="sinkhorn blur: expected at least 1e-100, got 0"):
        Sinkhorn(blur=0.0)


def test_far_from_the_origin_and_collapsed_batches():
    x, y = X[::30].float(), Y[::30].float()
    for entry in (MMD(RationalQuadratic()), MMD(Energy()), Sinkhorn(0.1)):
        torch.testing.assert_close(entry(x + 1000, y + 1000), entry(x, y), rtol=2e-2, atol=2e-3)
    point = torch.ones(5, 3)
    assert float(Sinkhorn()(point, point)) == pytest.approx(0.0, abs=1e-6)
    assert bool(torch.isnan(Sinkhorn()(point, point * torch.nan)))
