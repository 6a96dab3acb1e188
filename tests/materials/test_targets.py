"""Necessary conditions on a two-point correlation: real ones pass, each broken one is named."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lawful import InputError
from lawful.materials.dataset import small
from lawful.materials.fields import level_cut, random_field
from lawful.materials.statistics import RADII, correlation_map, shells, two_point
from lawful.materials.targets import (
    SIDE,
    check_target,
    is_map,
    least_violation,
    nearest_realisable,
    spectral_distance,
)

both = pytest.mark.parametrize("periodic", [True, False])
R = torch.arange(RADII).double()


def passes(images, periodic=True):
    """The statistics of images, and of the other phase, are those of a two-phase medium."""
    for x in (images, 1 - images):
        curve = two_point(x, periodic=periodic)
        check_target(curve[:, 0], curve)


def refused(phi, curve, said):
    with pytest.raises(InputError, match=said) as error:
        check_target(torch.tensor([phi]).double(), torch.as_tensor(curve).double()[None])
    assert "\n" not in str(error.value)


def decaying(phi, length=4.0):
    """A curve that nothing is wrong with."""
    return phi**2 + phi * (1 - phi) * torch.exp(-R / length)


def lattice(side, period, wide):
    """Squares of side `wide` at the points of a square lattice."""
    inside = torch.arange(side) % period < wide
    return (inside[:, None] & inside).double()


def checkers(side, wide):
    k = torch.arange(side) // wide
    return ((k[:, None] + k) % 2).double()


def lines(side, wide):
    return (torch.arange(side) // wide % 2).double().expand(side, side)


@lru_cache
def discs(side=128, radius=8.5, density=0.5):
    """Discs at random points that may overlap, on the torus."""
    far = np.minimum(np.arange(side), side - np.arange(side))
    stamp = np.hypot(far[:, None], far[None, :]) < radius
    points = np.random.default_rng(2).poisson(density / stamp.sum(), (4, side, side))
    grown = np.fft.irfft2(np.fft.rfft2(points) * np.fft.rfft2(stamp), (side, side))
    return torch.from_numpy(grown > 0.5).double()


@lru_cache
def coarsened():
    return torch.cat([part.images for part in small(64)]).double()


@both
def test_cahn_hilliard_images_pass(periodic):
    passes(coarsened()[::4], periodic)


@both
@pytest.mark.parametrize("phi", [0.1, 0.5, 0.8])
def test_independent_pixels_pass(phi, periodic):
    x = torch.rand(8, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    passes((x < phi).double(), periodic)


@both
def test_discs_pass(periodic):
    passes(discs(), periodic)


@both
@pytest.mark.parametrize("wide", [1, 2, 4, 8])
def test_checkerboards_pass(wide, periodic):
    passes(checkers(64, wide)[None], periodic)


@pytest.mark.parametrize(("side", "wide"), [(64, 1), (64, 8), (66, 3), (70, 5), (70, 7), (78, 13),
                                            (80, 20), (128, 32), (200, 50)])  # fmt: skip
def test_stripes_of_any_width_pass(side, wide):
    """Their wavelengths are none of the cell's, and may be longer than it."""
    passes(lines(side, wide)[None])


@pytest.mark.parametrize(("side", "period", "wide"), [(64, 2, 1), (70, 7, 3), (128, 32, 20)])
def test_lattices_of_squares_pass(side, period, wide):
    passes(lattice(side, period, wide)[None])


@given(
    seed=st.integers(0, 10**6),
    side=st.sampled_from([64, 96, 128]),
    length=st.floats(1.0, 20.0),
    phi=st.floats(0.05, 0.95),
)
@settings(max_examples=40, deadline=None)
def test_level_cuts_of_random_fields_pass(seed, side, length, phi):
    noise = torch.randn(1, side, side, generator=torch.Generator().manual_seed(seed))
    field = random_field(noise, torch.exp(-((R.float() / length) ** 2) / 2)[None])
    passes(level_cut(field, torch.tensor([phi])).double())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused(value):
    refused(value, decaying(0.4), "finite")
    curve = decaying(0.4)
    curve[7] = value
    refused(0.4, curve, "finite")


@pytest.mark.parametrize("phi", [0.0, 1.0, -0.1, 1.2])
def test_a_phase_that_is_nothing_or_all_is_refused(phi):
    refused(phi, torch.full((RADII,), phi), "0 < volume fraction < 1")


def test_p2_at_zero_other_than_the_fraction_is_refused():
    refused(0.4, decaying(0.41), r"p2\(0\) = 0.41 and volume fraction 0.4")
    check_target(torch.tensor([0.4]).double(), decaying(0.4)[None])


def test_p2_above_the_fraction_is_refused():
    curve = decaying(0.4)
    curve[5] = 0.41
    refused(0.4, curve, r"at most the volume fraction.*p2\(5\) = 0.41")


@pytest.mark.parametrize(("phi", "low"), [(0.3, -0.01), (0.5, -0.01), (0.8, 0.58)])
def test_p2_below_its_least_is_refused(phi, low):
    curve = decaying(phi)
    curve[9] = low
    refused(phi, curve, rf"at least max\(0, 2 phi - 1\).*p2\(9\) = {low}")


def test_the_triangle_inequality_is_named():
    """Two pixels apart the phases differ oftener than twice as often as one pixel apart."""
    curve = torch.full((RADII,), 0.25)
    curve[:3] = torch.tensor([0.5, 0.48, 0.3])
    refused(0.5, curve, "triangle inequality.*between 0, 1 and 2 pixels it is broken by 0.16")
    boxcar = 0.25 + 0.25 * (R < 10)
    refused(0.5, boxcar, "triangle inequality")


@pytest.mark.parametrize("phi", [0.5, 0.6])
def test_a_negative_spectrum_is_named(phi):
    """A triangle wave over the radius: subadditive, so that only the spectrum is wrong."""
    wave = (R % 16 - 8).abs() / 4 - 1
    refused(phi, phi**2 + (1 - phi) ** 2 * wave + (R == 0) * (phi - phi**2 - (1 - phi) ** 2),
            "spectrum of p2 - phi.2 is non-negative")  # fmt: skip


def test_one_bad_target_among_good_ones_is_found():
    curves = torch.stack([decaying(0.4), decaying(0.4), decaying(0.4)])
    phi = torch.full((3,), 0.4).double()
    check_target(phi, curves)
    curves[2, 3] = 0.5
    with pytest.raises(InputError, match="at most the volume fraction"):
        check_target(phi, curves)


@pytest.mark.parametrize("shape", ["exponential", "gaussian", "sum", "hole"])
def test_correlations_in_closed_form_are_at_no_distance(shape):
    """On a shell mean of them: the radial value at an integer is not quite that mean."""
    far = torch.fft.fftfreq(SIDE, 1 / SIDE).double()
    r = (far[:, None].square() + far.square()).sqrt()
    lag_map = {
        "exponential": torch.exp(-r / 3),
        "gaussian": torch.exp(-(r**2) / 20),
        "sum": 0.3 * torch.exp(-r / 2) + 0.7 * torch.exp(-(r**2) / 30),
        "hole": torch.exp(-(r**2) / 40) * torch.special.bessel_j0(0.6 * r),
    }[shape]
    curve = lag_map.flatten() @ shells((SIDE, SIDE), RADII)
    assert spectral_distance(0.4, 0.16 + 0.24 * curve) < 1e-5


@given(seed=st.integers(0, 10**6), share=st.floats(0.0, 0.6))
@settings(max_examples=15, deadline=None)
def test_fields_of_any_values_are_at_no_distance(seed, share):
    """The spectrum of p2 less the square of the mean is that of the field itself."""
    x = torch.rand(1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)).double()
    x = (1 - share) * x + share * x.roll((1, 2), (1, 2))
    assert spectral_distance(float(x.mean()), two_point(x)[0]) < 1e-9


def waves():
    """Radial mean of cos(k x) for every k of the cell, by its lags."""
    steps = 2 * torch.pi * torch.arange(SIDE).double() / SIDE
    phase = torch.arange(SIDE).double()
    cosines = torch.cos(steps[: SIDE // 2 + 1, None] * phase)  # a quarter of the waves is enough
    weights = shells((SIDE, SIDE), RADII).T.unflatten(1, (SIDE, SIDE))
    return torch.einsum("ryx,ky,lx->rkl", weights, cosines, cosines).flatten(1)


@pytest.mark.parametrize("seed", range(4))
def test_the_distance_of_a_curve_off_the_cone_is_the_length_of_its_normal(seed):
    """n is normal to the cone of non-negative spectra at the wave that n is orthogonal to."""
    columns = waves()
    tilt = torch.randn(RADII, generator=torch.Generator().manual_seed(seed)).double()
    tilt -= tilt.mean()  # so that a constant is not the wave
    along = tilt @ columns
    best = int(along.argmax())
    normal = tilt - along[best] * (R == 0)  # every wave is 1 at the origin
    assert best > 0
    assert float((normal @ columns).max()) < 1e-12
    curve = 0.16 + 0.2 * columns[:, best]
    assert spectral_distance(0.4, curve) < 1e-9
    found = spectral_distance(0.4, curve + 0.03 * normal)
    assert found == pytest.approx(0.03 * float(normal.norm()) / RADII**0.5, rel=1e-6)


@pytest.mark.parametrize("side", [33, 48, 96])
def test_pictures_of_few_large_things_have_a_target_nearby(side):
    """Their zero-padded estimates are no medium's; what is taken for them passes every check."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    disc = (x - side / 2).square() + (y - side / 3).square() < (side / 4) ** 2
    for picture in (x < side // 2, disc, (x + y) % 21 < 8, (x < side // 2) & (y < side // 3)):
        radii = min(32, side)
        estimate = two_point(picture.double(), radii, periodic=False)
        found = nearest_realisable(estimate)
        check_target(estimate[:1], found[None])
        assert float(found[0]) == float(estimate[0])
        assert float((found - estimate).square().mean().sqrt()) < 0.1
        torch.testing.assert_close(nearest_realisable(found), found, rtol=0, atol=1e-6)


def structures(width, side=64, count=3, phi=0.4, seed=0):
    """Level cuts of smooth fields: the width is that of their correlation, in pixels."""
    noise = torch.randn(count, side, side, generator=torch.Generator().manual_seed(seed))
    rho = torch.exp(-(torch.arange(32.0) ** 2) / (2 * width**2)).expand(count, -1)
    return level_cut(random_field(noise, rho, blur=1.0), torch.full((count,), phi)).double()


@pytest.mark.parametrize("width", [3.0, 8.0, 20.0])
def test_no_image_is_nearer_to_a_target_than_the_bound(width):
    for target in two_point(structures(width, side=128)):
        least = least_violation(target, 64)
        for other in (3.0, 8.0, 20.0):
            phi = float(target[0])
            found = two_point(structures(other, count=4, phi=phi, seed=1))
            assert float((found - target).square().mean(1).sqrt().min()) >= least - 1e-4


@pytest.mark.parametrize("width", [3.0, 8.0, 20.0])
def test_an_images_own_correlation_is_within_reach(width):
    for target in two_point(structures(width)):
        assert least_violation(target, 64) < 1e-9


def test_structures_larger_than_the_image_are_out_of_its_reach():
    """A target that falls off to phi^2 far beyond half of 64 pixels, within half of 256."""
    target = 0.16 + 0.24 * torch.exp(-torch.arange(32.0).double() / 60)
    assert least_violation(target, 64) > 1e-2
    assert least_violation(target, 128) < 0.1 * least_violation(target, 64)


def test_a_map_of_lags_is_no_set_of_curves():
    images = structures(4.0, count=32)
    for image in images[:3]:
        whole = correlation_map(image[None])[0]
        assert is_map(whole[:RADII, :RADII])  # a quarter
        small = correlation_map(image[None, :RADII, :RADII])[0]
        assert is_map(small)
        assert is_map(small.roll((RADII // 2, RADII // 2), (0, 1)))
    curves = two_point(images)
    assert not is_map(curves)
    assert not is_map(curves[:1].expand(RADII, -1))
    for low, high in ((0.3, 0.6), (0.02, 0.1), (0.7, 0.9)):
        phi = torch.linspace(high, low, RADII).double()[:, None]
        for length in (2, 6, 30):
            curves = phi**2 + phi * (1 - phi) * torch.exp(-torch.arange(32.0).double() / length)
            assert not is_map(curves)
