"""Two-point correlations against loops over shifts, closed forms and identities."""

from functools import lru_cache
from math import exp, hypot, pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lawful import InputError
from lawful.materials.correlation import (
    correlation_map,
    directional_two_point,
    radial_mean,
    shell_spectra,
    shells,
    two_point,
)

both = pytest.mark.parametrize("periodic", [True, False])
seeds = st.integers(0, 10**6)
SHAPES = [(12, 12), (9, 9), (10, 13), (15, 8)]


def phases(seed, *shape):
    """Independent pixels of a random fraction; binary, float64."""
    generator = torch.Generator().manual_seed(seed)
    share = 0.2 + 0.6 * torch.rand((), generator=generator)
    return (torch.rand(*shape, generator=generator) < share).double()


def stripes(width, side=48):
    """Vertical stripes of equal phases."""
    return (torch.arange(side) // width % 2).double().expand(side, side).clone()


def lags(size, periodic):
    """Signed lags along an axis: each once round the torus, or all that fit."""
    return range(-(size // 2), (size + 1) // 2) if periodic else range(1 - size, size)


def mean_product(x, down, along, periodic):
    """Mean of x(p) x(p + lag) over all pixels p, or over those whose partner is inside."""
    rows, columns = x.shape
    moved = x.roll((-down, -along), (0, 1))
    pairs = x * moved
    if not periodic:
        pairs = pairs[max(0, -down) : rows - max(0, down), max(0, -along) : columns - max(0, along)]
    return float(pairs.mean())


def looped(x, radii, periodic):
    """Means over the lags whose length rounds to each radius, by a loop over shifts."""
    means = [[] for _ in range(radii)]
    for down in lags(x.shape[0], periodic):
        for along in lags(x.shape[1], periodic):
            if (r := round(hypot(down, along))) < radii:
                means[r].append(mean_product(x, down, along, periodic))
    return torch.tensor([np.mean(shell) for shell in means]).double()


def exactly(found, expected, atol=1e-12):
    expected = torch.as_tensor(expected, dtype=found.dtype)
    torch.testing.assert_close(found, expected.expand_as(found), rtol=0, atol=atol)


@both
@pytest.mark.parametrize("shape", SHAPES)
def test_the_map_is_a_loop_over_shifts(shape, periodic):
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(1)).double()
    found = correlation_map(x, periodic=periodic)
    rows, columns = found.shape
    assert found.shape == (shape if periodic else tuple(2 * n - 1 for n in shape))
    for down in lags(shape[0], periodic):
        for along in lags(shape[1], periodic):
            exact = mean_product(x, down, along, periodic)
            assert float(found[down % rows, along % columns]) == pytest.approx(exact, abs=1e-13)


@both
@pytest.mark.parametrize("shape", SHAPES)
def test_the_curve_is_a_loop_over_shifts(shape, periodic):
    x = phases(2, *shape)
    radii = 1 + (min(shape) // 2 if periodic else min(shape) - 1)
    exactly(two_point(x, radii, periodic=periodic), looped(x, radii, periodic))


def test_a_checkerboard_is_one_half_on_even_lags():
    x = (torch.arange(24)[:, None] + torch.arange(24)) % 2.0
    lag = torch.arange(24)[:, None] + torch.arange(24)
    exactly(correlation_map(x.double()), 0.5 * (lag % 2 == 0))
    for direction in ((1, 0), (0, -1)):
        exactly(directional_two_point(x.double(), direction, 20), 0.5 * (torch.arange(20) % 2 == 0))
    exactly(directional_two_point(x.double(), (1, 1), 20), 0.5)
    # Eight lags round to 1, four of them even; twelve to 2, four of them even.
    exactly(two_point(x.double(), 3), [1 / 2, 1 / 4, 1 / 6])


@pytest.mark.parametrize("width", [1, 2, 3, 4, 6, 8])
def test_stripes_are_a_triangle_wave_across(width):
    x, r = stripes(width), torch.arange(24)
    triangle = (width - r % (2 * width)).abs().double() / (2 * width)
    exactly(directional_two_point(x, (0, 1), 24), triangle)
    exactly(directional_two_point(x, (1, 1), 24), triangle)
    exactly(directional_two_point(x, (1, 0), 24), 0.5)
    exactly(correlation_map(x)[7, :24], triangle)


@both
def test_independent_pixels_forget_their_neighbours(periodic):
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(40, 64, 64, generator=generator) < 0.7).double()
    found = two_point(x, 20, periodic=periodic)
    error = found.std(0) / 40**0.5
    exact = torch.tensor([0.7] + [0.49] * 19).double()
    assert bool(((found.mean(0) - exact).abs() < 4.5 * error).all())


RADIUS, DENSITY, SIDE = 9.5, 0.8, 128  # of the discs, mean number of discs over a point


@lru_cache
def discs():
    """Discs at Poisson points that may overlap, on the torus; float64, the discs are phase 1."""
    far = np.minimum(np.arange(SIDE), SIDE - np.arange(SIDE))
    stamp = np.hypot(far[:, None], far[None, :]) < RADIUS
    points = np.random.default_rng(4).poisson(DENSITY / stamp.sum(), (64, SIDE, SIDE))
    grown = np.fft.irfft2(np.fft.rfft2(points) * np.fft.rfft2(stamp), (SIDE, SIDE))
    return torch.from_numpy(grown > 0.5).double()


@both
def test_overlapping_discs_have_the_closed_form_of_the_boolean_model(periodic):
    """exp(-density x area of two discs at distance r) for the void (Torquato 2002, section 5.1)."""
    r = np.arange(32)
    t = np.clip(r / (2 * RADIUS), 0, 1)
    union = 2 - 2 / pi * (np.arccos(t) - t * np.sqrt(1 - t**2))
    void = torch.from_numpy(np.exp(-DENSITY * union))
    p1 = 1 - exp(-DENSITY)
    for x, exact in ((1 - discs(), void), (discs(), 2 * p1 - 1 + void)):
        found = two_point(x, 32, periodic=periodic)
        error = found.std(0) / len(x) ** 0.5
        assert bool(((found.mean(0) - exact).abs() < 4 * error + 2e-3).all())


@both
@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_at_zero_it_is_the_volume_fraction_and_nowhere_above(seed, periodic):
    x = phases(seed, 3, 14, 17)
    found = two_point(x, 8, periodic=periodic)
    exactly(found[:, 0], x.mean((1, 2)))
    if periodic:
        assert bool((found <= found[:, :1] + 1e-12).all())
        assert bool((found >= (2 * found[:, :1] - 1).clamp_min(0) - 1e-12).all())


@given(seed=seeds)
@settings(max_examples=15, deadline=None)
def test_the_other_phase_has_one_minus_twice_p1_more(seed):
    x = phases(seed, 3, 14, 17)
    exactly(two_point(1 - x, 8), 1 - 2 * x.mean((1, 2))[:, None] + two_point(x, 8))


@given(seed=seeds, down=st.integers(0, 12), along=st.integers(0, 15))
@settings(max_examples=15, deadline=None)
def test_shifts_turns_and_reflections_change_nothing(seed, down, along):
    x = phases(seed, 13, 16)
    moved = x.roll((down, along), (0, 1))
    exactly(correlation_map(moved), correlation_map(x))
    for periodic in (True, False):
        exact = two_point(x, 7, periodic=periodic)
        for k in range(4):
            turned = x.rot90(k, (0, 1))
            for other in (turned, turned.flip(0)):
                exactly(two_point(other, 7, periodic=periodic), exact)


@both
@pytest.mark.parametrize("direction", [(0, 1), (1, 0), (-1, 0), (1, 1), (1, -1), (2, 1), (-1, 3)])
def test_directions_are_rolls(direction, periodic):
    x = phases(5, 2, 17, 20)
    count = 6
    found = directional_two_point(x, direction, count, periodic=periodic)
    exact = [
        [mean_product(image, k * direction[0], k * direction[1], periodic) for k in range(count)]
        for image in x
    ]
    exactly(found, torch.tensor(exact, dtype=torch.float64))


def test_directions_that_do_not_fit_are_refused():
    x = torch.ones(8, 10)
    with pytest.raises(InputError, match=r"direction \(0, 0\) has no length"):
        directional_two_point(x, (0, 0), 3)
    exactly(directional_two_point(x, (0, 1), 10, periodic=False), 1.0, 1e-6)
    for direction, count in (((0, 1), 11), ((1, 0), 9), ((-2, 1), 5)):
        with pytest.raises(InputError, match=f"{count} lags along .* leave the image"):
            directional_two_point(x, direction, count, periodic=False)
    assert directional_two_point(x, (0, 1), 25).shape == (25,)  # on the torus nothing ends


def test_more_radii_than_half_the_image_are_refused():
    assert two_point(torch.ones(10, 12), 6).shape == (6,)
    with pytest.raises(InputError, match="7 radii need at least 12 pixels a side, got 10 x 12"):
        two_point(torch.ones(10, 12), 7)
    assert two_point(torch.ones(10, 12), 10, periodic=False).shape == (10,)
    with pytest.raises(InputError, match="11 radii"):
        two_point(torch.ones(10, 12), 11, periodic=False)


@pytest.mark.parametrize("shape", [(20, 20), (21, 34), (19, 19)])
def test_shells_are_disjoint_means_over_rings(shape):
    weights = shells(*shape, 10)
    exactly(weights.sum(1), 1.0)
    assert int(((weights > 0).sum(0) > 1).sum()) == 0
    image = weights.unflatten(1, shape)
    exactly(image[0, 0, 0], 1.0)
    for r in range(1, 10):
        places = [(y % shape[0], x % shape[1]) for y in range(-9, 10) for x in range(-9, 10)
                  if round(hypot(y, x)) == r]  # fmt: skip
        assert all(float(image[r, y, x]) == pytest.approx(1 / len(places)) for y, x in places)
        assert int((image[r] > 0).sum()) == len(places)


@given(seed=seeds)
@settings(max_examples=10, deadline=None)
@pytest.mark.parametrize("shape", [(20, 20), (20, 25), (21, 34)])
def test_spectra_of_shells_give_the_curve_without_the_map(shape, seed):
    """Parseval: the sum over a shell is the sum over frequencies of spectrum and power."""
    x = torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).double()
    spectra = shell_spectra(*shape, 8)
    exactly(spectra[:, 0, 0], 1.0)
    exactly(spectra[0], 1.0)
    assert float(spectra.abs().max()) <= 1 + 1e-12
    power = torch.fft.fft2(x).abs().square() / x.numel() ** 2
    half = shape[1] // 2 + 1
    share = torch.full((half,), 2.0).double()  # frequencies and their mirror images
    share[0] = 1.0
    if shape[1] % 2 == 0:
        share[-1] = 1.0
    found = (spectra * power[:, :half] * share).sum((1, 2))
    exactly(found, two_point(x, 8))
    exactly(radial_mean(correlation_map(x), 8), found)


@both
def test_gradients(periodic):
    x = torch.rand(2, 6, 7, generator=torch.Generator().manual_seed(3)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: two_point(v, 4, periodic=periodic), x)
    assert torch.autograd.gradgradcheck(lambda v: two_point(v, 4, periodic=periodic), x)


@both
def test_single_precision_is_near_double(periodic):
    x = phases(7, 4, 64, 64)
    found = two_point(x.float(), 32, periodic=periodic)
    assert found.dtype == torch.float32
    exactly(found.double(), two_point(x, 32, periodic=periodic), 3e-7)


@both
def test_leading_axes_are_batches(periodic):
    x = phases(8, 2, 3, 12, 15)
    found = two_point(x, 6, periodic=periodic)
    assert found.shape == (2, 3, 6)
    exactly(found[1, 2], two_point(x[1, 2], 6, periodic=periodic))
