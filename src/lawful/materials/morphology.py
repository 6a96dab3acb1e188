r"""Morphology of two-phase images, by exact counts in float64; code that training does not use.

The indicator :math:`\chi` is 1 in the phase that is described, and pixels have side 1. Images are
arrays of 0 and 1, rows and columns last. They are periodic; of those that are not
(`periodic=False`), only pairs and segments of pixels that lie inside are counted. Large images are
counted in parts, which is exact: beside the image of one byte per pixel four more are needed, and
what `lag_memory` says.

References: Torquato, Random Heterogeneous Materials (2002), chapter 2; Lu & Torquato, Physical
Review A 45 (1992) 922, the lineal path; Ohser & Mücklich, Statistical Analysis of Microstructures
in Materials Science (2000), Crofton's formula on lattices.
"""

from itertools import pairwise, product
from math import pi, sqrt

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import fft, ndimage, sparse

from lawful.errors import InputError

Images = Shaped[np.ndarray, "*batch rows columns"]
RADII = 32
TILE = 1024  # pixels a side of the parts that lags are counted in
PART = 2**24  # pixels of the parts that segments and components are counted in
AXES, DIAGONALS = ((0, 1), (1, 0)), ((1, 1), (1, -1))


def indicator(images: Images) -> Bool[np.ndarray, "*batch rows columns"]:
    """The images as booleans.

    Raises:
        InputError: There are values other than 0 and 1, or no pixels.
    """
    if images.size == 0:
        raise InputError(f"morphology: expected pixels, got an array of shape {images.shape}")
    if images.dtype == bool:
        return images
    x = images.astype(bool)
    if not np.array_equal(x, images):
        wrong = images[x != images].ravel()[0]
        raise InputError(f"morphology: expected pixels of 0 and 1, got {wrong:g}: binarise first")
    return x


def volume_fraction(images: Images) -> Float[np.ndarray, " *batch"]:
    """p1, the share of pixels in the phase."""
    return np.asarray(indicator(images).mean((-2, -1)))


def two_point(
    images: Images, radii: int = RADII, *, periodic: bool = True
) -> Float[np.ndarray, "*batch radius"]:
    r"""Radial two-point correlation at 0, 1, …, radii - 1, in Torquato's convention.

    .. math:: p_2(r) = \langle \chi(\mathbf x)\, \chi(\mathbf x + \mathbf r) \rangle,
        \qquad p_2(0) = p_1,\quad p_2(\infty) = p_1^2,\quad p_2'(0) = -s/\pi

    the mean over all lags whose length rounds to r, each lag's own mean taken first.

    Raises:
        InputError: There are more radii than half the period (or than the side) holds.
    """
    sides = [n if periodic else 2 * n - 1 for n in images.shape[-2:]]
    if radii < 1 or 2 * (radii - 1) > min(sides):
        raise InputError(
            f"two-point correlation: expected 1 to {min(sides) // 2 + 1} radii for an image of "
            f"{images.shape[-2]} x {images.shape[-1]} pixels, got {radii}"
        )
    down, along = (_lags(side, radii) for side in sides)
    shell = np.rint(np.hypot(*np.meshgrid(down, along, indexing="ij"))).astype(int).ravel()
    chosen = np.flatnonzero(shell < radii)
    ones = np.ones(len(chosen))
    inside = sparse.csr_array((ones, (shell[chosen], chosen)), shape=(radii, len(shell)))
    means = _counts(images, down, along, periodic) / _pairs(images, down, along, periodic)
    sums = inside @ means.reshape(-1, len(shell)).T
    return np.asarray((sums.T / inside.sum(1)).reshape(*images.shape[:-2], radii))


def lag_memory(shape: tuple[int, ...], radii: int) -> int:
    """Bytes at most that `two_point` takes for one image beside the image itself."""
    sides = [min(max(TILE, 2 * radii) + 2 * radii, n + radii) for n in shape]
    return 56 * sides[0] * sides[1] + 96 * (2 * radii + 1) ** 2


def directional_two_point(
    images: Images, axis: int, count: int = RADII, *, periodic: bool = True
) -> Float[np.ndarray, "*batch lag"]:
    """p2 at the lags 0, 1, …, count - 1 along one axis: -2 down the rows, -1 along the columns.

    Raises:
        InputError: A lag does not fit into the image.
    """
    _check_length("two-point correlation", images.shape[axis], count)
    lags, still = np.arange(count), np.zeros(1, dtype=int)
    down, along = (lags, still) if axis == -2 else (still, lags)
    means = _counts(images, down, along, periodic) / _pairs(images, down, along, periodic)
    return np.asarray(means.reshape(*images.shape[:-2], count))


def _lags(side: int, reach: int) -> Int[np.ndarray, " lag"]:
    """The distinct signed lags of a lag map of that side, no longer than `reach`."""
    lags = np.rint(fft.fftfreq(side, 1 / side)).astype(int)
    return lags[np.abs(lags) <= reach]


def _counts(
    images: Images, down: Int[np.ndarray, " y"], along: Int[np.ndarray, " x"], periodic: bool
) -> Float[np.ndarray, "*batch y x"]:
    """Number of pairs of pixels of the phase at each lag: integers, so the rounding is exact.

    Each tile is correlated with the image as far around it as the lags reach.
    """
    x = indicator(images)
    reach = [int(np.abs(lags).max()) for lags in (down, along)]
    tiles = [range(0, n, max(TILE, 2 * r)) for n, r in zip(x.shape[-2:], reach, strict=True)]
    if len(tiles[0]) * len(tiles[1]) == 1:
        lengths = zip(x.shape[-2:], reach, strict=True)
        size = [n if periodic else fft.next_fast_len(n + r, True) for n, r in lengths]
        counts = np.rint(fft.irfft2(np.abs(fft.rfft2(x.astype(np.float64), size)) ** 2, size))
        return np.asarray(counts[..., down[:, None] % size[0], along[None, :] % size[1]])
    counts = np.zeros((*x.shape[:-2], len(down), len(along)))
    for corner in product(*tiles):
        near = [np.arange(first, min(first + places.step, n))
                for first, places, n in zip(corner, tiles, x.shape[-2:], strict=True)]  # fmt: skip
        far = [np.arange(a[0] - r, a[-1] + r + 1) for a, r in zip(near, reach, strict=True)]
        tile, wide = (_part(x, places, periodic) for places in (near, far))
        size = [fft.next_fast_len(n, True) for n in wide.shape[-2:]]
        spectrum = np.conj(fft.rfft2(tile, size))
        spectrum *= fft.rfft2(wide, size)
        found = fft.irfft2(spectrum, size)
        counts += np.rint(found[..., reach[0] + down[:, None], reach[1] + along[None, :]])
    return counts


def _part(
    x: Bool[np.ndarray, "*batch rows columns"], places: list[Int[np.ndarray, " _"]], periodic: bool
) -> Float[np.ndarray, "*batch y x"]:
    """Rows and columns of the image, which goes on beyond its edges or is 0 there."""
    within = [p % n for p, n in zip(places, x.shape[-2:], strict=True)]
    part = x[..., within[0][:, None], within[1][None, :]].astype(np.float64)
    if not periodic:
        outside = [(p < 0) | (p >= n) for p, n in zip(places, x.shape[-2:], strict=True)]
        part[..., outside[0], :] = 0
        part[..., outside[1]] = 0
    return part


def _pairs(
    images: Images, down: Int[np.ndarray, " y"], along: Int[np.ndarray, " x"], periodic: bool
) -> Float[np.ndarray, "y x"]:
    """Number of all pairs of pixels at each lag."""
    rows, columns = images.shape[-2:]
    lost = np.zeros_like if periodic else np.abs
    return np.multiply.outer(rows - lost(down), columns - lost(along)).astype(np.float64)


def _check_length(name: str, side: int, count: int) -> None:
    if not 1 <= count <= side:
        raise InputError(f"{name}: expected 1 to {side} lengths for this image, got {count}")


def lineal_path(
    images: Images, count: int = RADII, *, periodic: bool = True
) -> Float[np.ndarray, "*batch length"]:
    """Probability that a segment along an axis lies wholly in the phase; mean of both axes.

    The segment of length r joins the centres of two pixels r apart, so it covers r + 1 pixels:
    entry r is for r = 0, 1, …, count - 1, and entry 0 is p1 (Lu & Torquato 1992).

    Raises:
        InputError: A segment does not fit into the image.
    """
    _check_length("lineal path", min(images.shape[-2:]), count)
    x = indicator(images)
    both = [_segments(np.moveaxis(x, axis, -1), count, periodic) for axis in (-2, -1)]
    return np.asarray(sum(both)) / 2


def _segments(
    x: Bool[np.ndarray, "*batch line pixel"], count: int, periodic: bool
) -> Float[np.ndarray, "*batch length"]:
    """Share of the segments of 1, 2, …, count pixels along the last axis that are in the phase."""
    lines, side = x.shape[-2:]
    found = np.zeros((*x.shape[:-2], count))
    step = max(1, PART * lines // x.size)
    for first in range(0, lines, step):
        part = np.ascontiguousarray(x[..., first : first + step, :])
        ends = np.concatenate([part, part[..., : count - 1]], -1) if periodic else part
        inside = part
        for r in range(count):
            starts = side if periodic else side - r
            inside = inside[..., :starts] & ends[..., r : r + starts]
            found[..., r] += np.count_nonzero(inside, (-2, -1))
    segments = side if periodic else side - np.arange(count)
    return found / (lines * segments)


def face_density(images: Images, *, periodic: bool = True) -> Float[np.ndarray, " *batch"]:
    """Number of pixel faces between the phases per pixel: the length of the *pixelated* interface.

    It exceeds the specific surface of what the image shows, on average by 4/π.
    """
    return _change_sum(indicator(images), AXES, periodic)


def specific_surface(
    images: Images, *, periodic: bool = True, directions: int = 4
) -> Float[np.ndarray, " *batch"]:
    r"""Length of the interface per area, by the Cauchy–Crofton formula in 2 or 4 directions.

    A curve of length L meets the lines of direction θ and offset p in n points, and

    .. math:: L = \tfrac12 \int_0^\pi \! d\theta \int n(\theta, p)\, dp

    With :math:`N_k` the changes of phase from pixel to pixel in direction k, per pixel, lines a
    pixel apart along the axes and :math:`1/\sqrt2` along the diagonals, and equal angles:

    .. math:: s_2 = \tfrac\pi4 (N_- + N_|), \qquad
        s_4 = \tfrac\pi8 \bigl(N_- + N_| + (N_/ + N_\backslash)/\sqrt2\bigr)

    Both are exact for interfaces of all directions in equal share, such as circles. A straight
    interface gives between 0.785 and 1.111 of its length with 2 directions, and between 0.948 and
    1.026 with 4. Features of one pixel are not resolved.

    Arguments:
        directions: 2 (axes) or 4 (and diagonals).

    Raises:
        InputError: Another number of directions.
    """
    x = indicator(images)
    axes = _change_sum(x, AXES, periodic)
    if directions == 2:
        return np.asarray(pi / 4 * axes)
    if directions == 4:
        return np.asarray(pi / 8 * (axes + _change_sum(x, DIAGONALS, periodic) / sqrt(2)))
    raise InputError(f"specific surface: expected 2 or 4 directions, got {directions}")


def _change_sum(
    x: Bool[np.ndarray, "*batch rows columns"], steps: tuple[tuple[int, int], ...], periodic: bool
) -> Float[np.ndarray, " *batch"]:
    """Share of the pairs of pixels a step apart that differ, summed over the steps."""
    changes = (x ^ np.roll(x, (-down, -along), (-2, -1)) for down, along in steps)
    if periodic:
        return np.asarray(sum(change.mean((-2, -1)) for change in changes))
    rows, columns = x.shape[-2:]
    cut = [(slice(rows - d), slice(max(0, -a), columns - max(0, a))) for d, a in steps]
    return np.asarray(
        sum(change[..., r, c].mean((-2, -1)) for change, (r, c) in zip(changes, cut, strict=True))
    )


def chord_counts(images: Images, *, periodic: bool = True) -> Int[np.ndarray, " length"]:
    """Number of chords of 0, 1, 2, … pixels of the phase along both axes, over all images.

    A chord is a run of pixels that ends in the other phase on both sides: chords cut by the edge
    of an image that is not periodic, and lines wholly in the phase, are left out.
    """
    x = indicator(images)
    lines = [np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis]) for axis in (-2, -1)]
    return np.bincount(
        np.concatenate([_runs(line, periodic) for line in lines]), minlength=max(x.shape[-2:]) + 1
    )


def _runs(lines: Bool[np.ndarray, "line pixel"], periodic: bool) -> Int[np.ndarray, " chord"]:
    """Lengths of the runs that end in the other phase on both sides."""
    side = lines.shape[1]
    if periodic:  # turn each line so that it begins in the other phase
        lines = lines[~lines.all(1)]
        turn = (np.arange(side) + lines.argmin(1)[:, None]) % side
        lines = np.take_along_axis(lines, turn, 1)
    edges = np.diff(np.pad(lines, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    starts, ends = np.nonzero(edges == 1)[1], np.nonzero(edges == -1)[1]
    whole = np.full(len(starts), True) if periodic else (starts > 0) & (ends < side)
    return (ends - starts)[whole]


def mean_chord_length(images: Images, *, periodic: bool = True) -> Float[np.ndarray, " *batch"]:
    r"""Mean chord of the phase along both axes in pixels, without bias by the image's edge.

    .. math:: \langle \ell \rangle = p_1 / \nu = \pi p_1 / s_2

    with ν the chords that begin per pixel of a line: half the changes of phase (Torquato 2002,
    chapter 2). Infinite without an interface; zero without the phase.
    """
    p1, changes = volume_fraction(images), face_density(images, periodic=periodic) / 2
    some = np.divide(2 * p1, changes, out=np.full_like(p1, np.inf), where=changes > 0)
    return np.asarray(np.where(p1 > 0, some, 0.0))


def components(images: Images, *, periodic: bool = True) -> Int[np.ndarray, " *batch"]:
    """Number of connected components of the phase; pixels that share a face are connected."""
    x = indicator(images)
    counts = [_components(image, periodic) for image in x.reshape(-1, *x.shape[-2:])]
    return np.array(counts, dtype=int).reshape(x.shape[:-2])


def _components(x: Bool[np.ndarray, "rows columns"], periodic: bool) -> int:
    """Labels of strips of rows, joined where strips, and opposite edges, touch."""
    rows, columns = x.shape
    step, count = max(1, PART // columns), 0
    edges, joined = [], []
    for first in range(0, rows, step):
        labels, found = ndimage.label(x[first : first + step], output=np.int64)
        labels[labels > 0] += count
        count += found
        edges.append((labels[0].copy(), labels[-1].copy()))
        if periodic:
            joined.append((labels[:, 0].copy(), labels[:, -1].copy()))
    joined += [(above[1], below[0]) for above, below in pairwise(edges)]
    joined += [(edges[0][0], edges[-1][1])] if periodic else []
    if not joined or not count:
        return count
    a, b = (np.concatenate(side) for side in zip(*joined, strict=True))
    touch = (a > 0) & (b > 0)
    graph = sparse.coo_array(
        (np.ones(int(touch.sum()), dtype=bool), (a[touch] - 1, b[touch] - 1)), shape=(count, count)
    )
    return int(sparse.csgraph.connected_components(graph, directed=False)[0])


def overlap_after_shift(
    a: Shaped[np.ndarray, "rows columns"], b: Shaped[np.ndarray, "rows columns"]
) -> float:
    r"""Correlation coefficient of two indicators, the largest over all periodic shifts.

    .. math:: \max_{\mathbf s} \frac{\langle a(\mathbf x)\, b(\mathbf x + \mathbf s) \rangle
        - p_a p_b}{\sqrt{p_a (1 - p_a)\, p_b (1 - p_b)}}

    1 for copies, however shifted. An image of one phase has no coefficient: 1 with its equal, 0
    with others. Independent images have a positive one, that of their best shift: compare it with
    the same figure of reference images.
    """
    x, y = indicator(a).astype(np.float64), indicator(b).astype(np.float64)
    variance = x.var() * y.var()
    if variance == 0:
        return float(np.array_equal(x, y))
    shape = x.shape
    products = np.rint(fft.irfft2(np.conj(fft.rfft2(x)) * fft.rfft2(y), shape)).max() / x.size
    return float((products - x.mean() * y.mean()) / sqrt(variance))


def mean_pairwise_overlap(
    images: Shaped[np.ndarray, "batch rows columns"], pairs: int = 500, seed: int = 0
) -> float:
    """Mean of `overlap_after_shift` over random pairs: small for a diverse set.

    All pairs are taken where there are no more than `pairs`.

    Raises:
        InputError: There are fewer than two images, or no pair is asked for.
    """
    count = len(images)
    if count < 2 or pairs < 1:
        raise InputError(f"overlap: expected 2 images and 1 pair, got {count} and {pairs}")
    if count * (count - 1) // 2 <= pairs:
        chosen = [(i, j) for i, j in product(range(count), repeat=2) if i < j]
    else:
        random = np.random.default_rng(seed)
        first = random.integers(count, size=pairs)
        second = (first + random.integers(1, count, size=pairs)) % count
        chosen = list(zip(first.tolist(), second.tolist(), strict=True))
    return float(np.mean([overlap_after_shift(images[i], images[j]) for i, j in chosen]))


def duplicates(images: Shaped[np.ndarray, "batch rows columns"]) -> int:
    """Number of images that equal an earlier one, pixel for pixel."""
    packed = np.packbits(indicator(images).reshape(len(images), -1), axis=1)
    return len(images) - len({row.tobytes() for row in packed})
