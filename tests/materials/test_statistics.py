"""Statistics against loops over pixels, closed forms and identities."""

from functools import lru_cache
from itertools import product
from math import hypot

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lawful import InputError
from lawful.materials import statistics
from lawful.materials.statistics import (
    components,
    correlation_map,
    face_density,
    lineal_path,
    mean_chord_length,
    mean_pairwise_overlap,
    overlap_after_shift,
    radial_mean,
    shells,
    specific_surface,
    two_point,
    volume_fraction,
)

both = pytest.mark.parametrize("periodic", [True, False])
seeds = st.integers(0, 10**6)


def phases(seed, *shape):
    """Independent pixels of a random fraction, float64."""
    generator = torch.Generator().manual_seed(seed)
    share = 0.2 + 0.6 * torch.rand((), generator=generator)
    return (torch.rand(*shape, generator=generator) < share).double()


def blobs(seed, rows=24, columns=30, batch=()):
    """Smooth random phases of both kinds, of random size."""
    random = np.random.default_rng(seed)
    x = random.random((*batch, rows, columns)) < random.uniform(0.15, 0.6)
    grown = x | np.roll(x, 1, -1) | np.roll(x, 1, -2)
    return grown ^ (random.random() < 0.5)


def disc(radius, side=128, centre=(64.3, 63.6)):
    y, x = np.mgrid[:side, :side]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2


def stripes(width, rows=24, columns=48):
    return np.broadcast_to(np.arange(columns) // width % 2, (rows, columns)).copy()


def checkerboard(side=24):
    return np.indices((side, side)).sum(0) % 2


RADIUS, DENSITY = 12.5, 0.8  # of the discs, and mean number of discs over a point


@lru_cache
def discs():
    """Overlapping discs at Poisson points (the Boolean model), periodic; the discs are phase 1."""
    side, count, random = 512, 16, np.random.default_rng(3)
    far = np.minimum(np.arange(side), side - np.arange(side))
    stamp = np.fft.rfft2(np.hypot(far[:, None], far[None, :]) < RADIUS)
    rate = DENSITY / (np.hypot(far[:, None], far[None, :]) < RADIUS).sum()
    seeds_ = random.poisson(rate, (count, side, side))
    return np.fft.irfft2(np.fft.rfft2(seeds_) * stamp, (side, side)) > 0.5


def union_area(r):
    """Area of two discs of RADIUS at distance r, over that of one (Torquato 2002, eq. 5.30)."""
    t = np.clip(r / (2 * RADIUS), 0, 1)
    return 2 - 2 / np.pi * (np.arccos(t) - t * np.sqrt(1 - t**2))


def within_error(found, exact, floor=0.0):
    """The mean over realisations is within 4 standard errors of the closed form."""
    found = np.asarray(found)
    error = found.std(0, ddof=1) / np.sqrt(len(found))
    np.testing.assert_array_less(np.abs(found.mean(0) - exact), 4 * error + floor)


def test_two_point_of_overlapping_discs():
    r = np.arange(40)
    void = np.exp(-DENSITY * union_area(r))
    within_error(two_point(~discs(), 40), void, 2e-3)
    phi = 1 - np.exp(-DENSITY)
    within_error(two_point(discs(), 40), 1 - 2 * (1 - phi) + void, 2e-3)


def test_lineal_path_of_overlapping_discs():
    void = np.exp(-DENSITY * (1 + 2 * np.arange(40) / (np.pi * RADIUS)))
    within_error(lineal_path(~discs(), 40), void, 1.5e-3)


def test_surface_and_chord_of_overlapping_discs():
    """Changes of phase over one pixel and over a diagonal, by the closed form of p2."""
    void = np.exp(-DENSITY * union_area(np.array([0, 1, np.sqrt(2)])))
    axis, diagonal = void[0] - void[1], (void[0] - void[2]) / np.sqrt(2)
    assert face_density(discs()).mean() == pytest.approx(4 * axis, rel=0.01)
    four = np.pi / 2 * (axis + diagonal)
    assert specific_surface(discs()).mean() == pytest.approx(four, rel=0.01)
    assert mean_chord_length(~discs()).mean() == pytest.approx(void[0] / axis, rel=0.01)
    smooth = 2 * DENSITY / RADIUS * np.exp(-DENSITY)  # without pixels
    assert four == pytest.approx(smooth, rel=0.03)


def test_independent_pixels():
    x = np.random.default_rng(0).random((40, 64, 64)) < 0.7
    p2 = two_point(x, 20)
    within_error(p2, np.r_[0.7, np.full(19, 0.49)])
    within_error(two_point(x, 20, periodic=False), np.r_[0.7, np.full(19, 0.49)])
    for periodic in (True, False):
        within_error(lineal_path(x, 8, periodic=periodic), 0.7 ** np.arange(1, 9))


@both
def test_checkerboard(periodic):
    x = checkerboard()
    lag_map = correlation_map(x, 12, periodic=periodic)
    for line in (lag_map[:12, 0], lag_map[0, :12]):
        np.testing.assert_allclose(line, 0.5 * (np.arange(12) % 2 == 0), atol=2e-16)
    np.testing.assert_array_equal(lineal_path(x, 4, periodic=periodic), [0.5, 0, 0, 0])
    assert components(x, periodic=periodic) == x.sum()
    assert mean_chord_length(x, periodic=periodic) == 1
    assert face_density(x, periodic=periodic) == 2
    lag = np.add.outer(np.arange(-12, 12), np.arange(-12, 12))
    length = np.rint(np.hypot(*np.mgrid[-12:12, -12:12]))
    exact = [0.5 * (lag[length == r] % 2 == 0).mean() for r in range(13)]
    np.testing.assert_allclose(two_point(x, 13), exact, atol=1e-15)


@pytest.mark.parametrize("width", [1, 2, 3, 4, 6])
def test_stripes(width):
    x = stripes(width)
    r = np.arange(24)
    triangle = np.abs(width - r % (2 * width)) / (2 * width)
    lag_map = correlation_map(np.vstack([x, x]))
    np.testing.assert_allclose(lag_map[0, :24], triangle, atol=1e-15)
    np.testing.assert_allclose(lag_map[range(24), range(24)], triangle, atol=1e-15)
    np.testing.assert_allclose(lag_map[:24, 0], 0.5, atol=1e-15)
    across = np.maximum(width - r, 0) / (2 * width)
    np.testing.assert_allclose(lineal_path(x, 24), (across + 0.5) / 2, atol=1e-15)
    assert face_density(x) == pytest.approx(1 / width)
    four = np.pi / 8 * (1 + np.sqrt(2)) / width
    assert specific_surface(x) == pytest.approx(four)
    assert 0.948 < four * width < 0.949  # the least of all directions
    assert mean_chord_length(x) == pytest.approx(2 * width)  # the chords along cannot end
    assert components(x) == 48 // (2 * width)


@both
@pytest.mark.parametrize(("radius", "error"), [(5, 0.03), (12, 0.015), (30, 0.007)])
def test_surface_of_a_disc(radius, error, periodic):
    exact = 2 * np.pi * radius / 128**2
    found = specific_surface(disc(radius), periodic=periodic)
    assert found == pytest.approx(exact, rel=error + 0.02 * (not periodic))
    assert face_density(disc(radius)) == pytest.approx(4 / np.pi * exact, rel=error)


def test_four_directions_depend_less_on_the_direction_of_the_interface():
    y, x = np.mgrid[:128, :128] - 63.7
    ratio = {2: [], 4: []}
    for angle in np.linspace(0, np.pi / 2, 19):
        u, v = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        bar = (np.abs(u) < 45) & (np.abs(v) < 6)
        ratio[2].append(np.pi / 4 * face_density(bar) / (204 / 128**2))
        ratio[4].append(specific_surface(bar) / (204 / 128**2))
    assert np.ptp(ratio[4]) < 0.11
    assert np.ptp(ratio[2]) > 0.25


@both
@pytest.mark.parametrize("shape", [(16, 16), (15, 18), (11, 23)])
def test_two_point_is_a_loop_over_shifts(periodic, shape):
    x = blobs(5, *shape) > 0
    rows, columns = shape
    radii = 1 + min(shape) // 2
    heights = range(-(rows // 2), (rows + 1) // 2) if periodic else range(1 - rows, rows)
    widths = range(-(columns // 2), (columns + 1) // 2) if periodic else range(1 - columns, columns)
    means, lag_map = [[] for _ in range(rows + columns)], correlation_map(x, periodic=periodic)
    for dy in heights:
        for dx in widths:
            pairs = x & np.roll(x, (-dy, -dx), (0, 1))
            if not periodic:
                pairs = pairs[max(0, -dy) : rows - max(0, dy), max(0, -dx) : columns - max(0, dx)]
            means[round(np.hypot(dy, dx))].append(pairs.mean())
            assert float(lag_map[dy, dx]) == pytest.approx(pairs.mean(), abs=1e-14)
    exact = [np.mean(shell) for shell in means[:radii]]
    np.testing.assert_allclose(two_point(x, radii, periodic=periodic), exact, atol=1e-14)
    whole = radial_mean(lag_map, radii)
    np.testing.assert_allclose(two_point(x, radii, periodic=periodic), whole, atol=1e-14)


@both
def test_lineal_path_is_a_loop_over_segments(periodic):
    x = blobs(2, 9, 13) > 0
    for count in range(1, 10):
        found = lineal_path(x, count, periodic=periodic)[-1]
        shares = []
        for lines in (x, x.T):
            starts = range(lines.shape[1] - (0 if periodic else count - 1))
            inside = [np.take(lines, range(s, s + count), 1, mode="wrap").all(1) for s in starts]
            shares.append(np.mean(inside))
        assert found == pytest.approx(np.mean(shares), abs=1e-14)


@both
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_fields_in_either_precision_have_the_counted_correlation(seed, periodic):
    x = torch.from_numpy(blobs(seed, 20, 32, (3,)))
    counted = two_point(x, 11, periodic=periodic)
    assert counted.dtype == torch.float64
    for kind, near in ((torch.float64, 1e-14), (torch.float32, 3e-7)):
        found = two_point(x.to(kind), 11, periodic=periodic)
        assert found.dtype == kind
        np.testing.assert_allclose(found, counted, atol=near)


@both
def test_volumes_are_counted_like_images(periodic):
    x = blobs(7, 6, 7, (5,))
    lag_map = correlation_map(x, periodic=periodic, dims=3)
    for lag in product(range(-2, 3), repeat=3):
        pairs = x & np.roll(x, [-n for n in lag], (0, 1, 2))
        if not periodic:
            pairs = pairs[tuple(slice(max(0, -n), m - max(0, n))
                                for n, m in zip(lag, x.shape, strict=True))]  # fmt: skip
        assert float(lag_map[lag]) == pytest.approx(pairs.mean(), abs=1e-14)
    assert two_point(x, 3, periodic=periodic, dims=3).shape == (3,)


@both
def test_a_layered_volume_has_the_figures_of_its_layers(periodic):
    """Every layer is the same image, so that no path ends along the first axis."""
    image = blobs(3, 12, 12)
    x = np.repeat(image[None], 12, 0)
    plane, volume = {"periodic": periodic}, {"periodic": periodic, "dims": 3}
    path = lineal_path(image, 6, **plane)
    exact = (2 * path + volume_fraction(image)) / 3
    np.testing.assert_allclose(lineal_path(x, 6, **volume), exact, atol=1e-14)
    assert face_density(x, **volume) == pytest.approx(face_density(image, **plane))
    longer = mean_chord_length(image, **plane) * 1.5
    assert mean_chord_length(x, **volume) == pytest.approx(longer)
    assert components(x, **volume) == components(image, **plane)


@both
def test_gradients(periodic):
    x = torch.rand(2, 6, 7, generator=torch.Generator().manual_seed(3)).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: two_point(v, 4, periodic=periodic), x)
    assert torch.autograd.gradgradcheck(lambda v: two_point(v, 4, periodic=periodic), x)


@pytest.mark.parametrize("shape", [(20, 20), (21, 34), (19, 19)])
def test_shells_are_disjoint_means_over_rings(shape):
    weights = shells(shape, 10)
    np.testing.assert_allclose(weights.sum(0), 1.0)
    assert int(((weights > 0).sum(1) > 1).sum()) == 0
    image = weights.T.unflatten(1, shape)
    for r in range(10):
        places = [(y % shape[0], x % shape[1]) for y in range(-9, 10) for x in range(-9, 10)
                  if round(hypot(y, x)) == r]  # fmt: skip
        assert all(float(image[r, y, x]) == pytest.approx(1 / len(places)) for y, x in places)
        assert int((image[r] > 0).sum()) == len(places)


@both
def test_many_radii_are_the_same_means(periodic, monkeypatch):
    x = phases(3, 2, 40, 50)
    few = two_point(x, 21, periodic=periodic)
    monkeypatch.setattr(statistics, "DENSE", 0)
    np.testing.assert_allclose(two_point(x, 21, periodic=periodic), few, atol=1e-14)


FIGURES = {
    "volume fraction": volume_fraction,
    "two-point": lambda x: two_point(x, 10),
    "lineal path": lambda x: lineal_path(x, 10),
    "surface": specific_surface,
    "faces": face_density,
    "chord": mean_chord_length,
    "components": components,
}


@pytest.mark.parametrize("name", FIGURES)
@given(seed=seeds, down=st.integers(0, 23), along=st.integers(0, 29))
@settings(max_examples=15, deadline=None)
def test_shifts_turns_and_reflections_change_nothing(name, seed, down, along):
    figure, x = FIGURES[name], blobs(seed)
    exact = figure(x)
    for moved in (np.roll(x, (down, along), (0, 1)), np.rot90(x), x[::-1], x.T):
        np.testing.assert_allclose(figure(moved), exact, rtol=1e-14)


@pytest.mark.parametrize("name", FIGURES)
def test_a_batch_is_its_images_and_any_number_type_will_do(name):
    x = blobs(3, batch=(2, 3))
    found = FIGURES[name](x)
    assert found.shape[:2] == (2, 3)
    for alone in (x[1, 2], x[1, 2].astype(np.uint8), x[1, 2] > 0):
        np.testing.assert_allclose(found[1, 2], FIGURES[name](alone), rtol=1e-14)


@both
@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_complement_and_elementary_relations(seed, periodic):
    x = blobs(seed)
    p1, p2 = volume_fraction(x), two_point(x, 10)
    np.testing.assert_allclose(two_point(~x, 10), 1 - 2 * p1 + p2, atol=1e-14)
    surface = [specific_surface(y, periodic=periodic) for y in (x, ~x)]
    assert surface[0] == pytest.approx(surface[1], rel=1e-14)
    p2, path = two_point(x, 10, periodic=periodic), lineal_path(x, 10, periodic=periodic)
    assert float(p2[0]) == pytest.approx(p1, rel=1e-14)
    assert path[0] == pytest.approx(p1, rel=1e-14)
    if periodic:
        assert (np.diff(path) <= 1e-15).all()
        second = np.diff(path, 2)
        assert (second >= -1e-15).all()  # number of chords, hence not negative
        lag_map = correlation_map(x, 10).numpy()
        assert (path <= (lag_map[:10, 0] + lag_map[0, :10]) / 2 + 1e-15).all()


def test_components_wrap_round_both_edges():
    x = np.zeros((12, 15), dtype=int)
    x[[0, 0, -1, -1], [0, -1, 0, -1]] = 1  # the four corners
    x[5, :2] = x[5, -2:] = 1
    x[:3, 7] = x[-2:, 7] = 1
    x[8, 4] = x[9, 5] = 1  # corners do not connect
    assert components(x) == 5
    assert components(x, periodic=False) == 4 + 2 + 2 + 2
    ring = np.zeros((12, 12), dtype=int)
    ring[4] = ring[:, 4] = 1
    assert components(ring) == components(ring, periodic=False) == 1
    assert components(1 - ring) == 1
    assert components(1 - ring, periodic=False) == 4
    assert components(np.zeros((9, 9))) == 0
    assert components(np.ones((9, 9))) == 1


@both
def test_one_phase(periodic):
    none, full = np.zeros((12, 12)), np.ones((12, 12))
    for x, value in ((none, 0.0), (full, 1.0)):
        np.testing.assert_allclose(two_point(x, 7, periodic=periodic), value, atol=1e-15)
        np.testing.assert_array_equal(lineal_path(x, 7, periodic=periodic), np.full(7, value))
        assert specific_surface(x, periodic=periodic) == 0
    assert mean_chord_length(none, periodic=periodic) == 0
    assert mean_chord_length(full, periodic=periodic) == np.inf


@given(seed=seeds, down=st.integers(0, 23), along=st.integers(0, 29))
@settings(max_examples=10, deadline=None)
def test_overlap_finds_the_shift(seed, down, along):
    x, y = (torch.from_numpy(blobs(seed + k)) for k in range(2))
    moved = x.roll((down, along), (0, 1))
    assert float(overlap_after_shift(x, moved)) == pytest.approx(1, abs=1e-12)
    scores = [
        np.corrcoef(x.flatten(), y.roll((i, j), (0, 1)).flatten())[0, 1]
        for i in range(24)
        for j in range(30)
    ]
    assert float(overlap_after_shift(x, y)) == pytest.approx(max(scores), abs=1e-6)
    assert float(overlap_after_shift(y, x)) == pytest.approx(max(scores), abs=1e-6)


def test_diversity():
    x = torch.from_numpy(np.random.default_rng(0).random((20, 64, 64)) < 0.4)
    copies = torch.stack([x[0].roll(k, 0) for k in range(20)])
    assert mean_pairwise_overlap(copies, 30) == pytest.approx(1)
    assert mean_pairwise_overlap(x, 30) < 0.1
    assert mean_pairwise_overlap(x, 30, 5) == mean_pairwise_overlap(x, 30, 5)
    assert mean_pairwise_overlap(x, 30, 5) != mean_pairwise_overlap(x, 30, 6)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: lineal_path(np.full((8, 8), 0.3), 4), "got 0.3: binarise first"),
        (lambda: lineal_path(np.full((8, 8), np.nan), 4), "got nan"),
        (lambda: two_point(np.full((8, 8), 3), 4), "got 3: binarise first"),
        (lambda: volume_fraction(np.zeros((0, 8))), r"shape \(0, 8\)"),
        (lambda: two_point(np.ones((8, 9)), 6), "1 to 5 radii.*8 x 9 pixels, got 6"),
        (lambda: two_point(np.ones((8, 9)), 9, periodic=False), "1 to 8 radii"),
        (lambda: lineal_path(np.ones((8, 9)), 9), "1 to 8 lengths"),
    ],
)
def test_mistakes(call, said):
    with pytest.raises(InputError, match=said):
        call()


@both
@pytest.mark.parametrize("tile", [7, 16])
@given(seed=seeds)
@settings(max_examples=10, deadline=None)
def test_parts_of_an_image_count_the_same(periodic, tile, seed):
    """Large images are counted in tiles, to the last pair of pixels."""
    x = blobs(seed, 40, 33)
    functions = (
        lambda: two_point(x, 4, periodic=periodic),
        lambda: correlation_map(x, 3, periodic=periodic),
    )
    whole = [function() for function in functions]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "TILE", tile)
        parts = [function() for function in functions]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)
