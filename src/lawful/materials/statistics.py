r"""Statistics of two-phase images: two-point correlation, lineal path, surface, chords, components.

The indicator :math:`\chi` is 1 in the phase that is described, and pixels have side 1. Torquato's
two-point correlation is

.. math:: p_2(\mathbf r) = \langle \chi(\mathbf x)\, \chi(\mathbf x + \mathbf r) \rangle,
    \qquad p_2(0) = p_1,\quad p_2(\infty) = p_1^2,\quad p_2'(0) = -s/\pi

with the volume fraction :math:`p_1` and the surface s: nothing is subtracted or divided. The radial
curve at the integer r is the mean over all lags whose length rounds to r, each lag's own mean taken
first. Images are periodic; of those that are not (`periodic=False`) only pairs and segments of
pixels that lie inside are counted.

The correlation of a floating-point field has a gradient; that of truth values or whole numbers is
counted exactly, in float64. Large images are counted in parts: beside an image of one byte per
pixel five more are needed, and what `lag_memory` says.

References: Torquato, Random Heterogeneous Materials (2002), chapter 2; Lu & Torquato, Physical
Review A 45 (1992) 922, the lineal path; Ohser & Mücklich, Statistical Analysis of Microstructures
in Materials Science (2000), Crofton's formula on lattices.
"""

from functools import lru_cache
from itertools import product
from math import pi, prod, sqrt
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from scipy import ndimage, sparse
from scipy.fft import next_fast_len
from torch import Tensor

from lawful.errors import InputError

Fields = Shaped[Tensor | np.ndarray, "*batch_and_space"]
Images = Shaped[Tensor | np.ndarray, "*batch rows columns"]
Fraction = Float[Tensor, " batch"]  # p1
Curve = Float[Tensor, "batch radius"]  # p2 at 0, 1, 2, … pixels
Radial = Float[Tensor, " radius"]
Field = Float[Tensor, "batch *space"]
Samples = Float[Tensor, "batch 1 *space"]
RADII = 32
DENSE = 64  # radii at most whose means are a product with a matrix
WINDOW = 2  # times the lags asked for, of a period that all lags are taken of
TILE = 1024  # pixels a side of the parts that lags are counted in


def two_point(
    x: Fields, radii: int = RADII, *, periodic: bool = True, dims: int = 2
) -> Float[Tensor, "*batch radius"]:
    """The radial two-point correlation at 0, 1, …, radii - 1 of fields in [0, 1].

    Arguments:
        dims: Axes of space, the last ones.

    Raises:
        InputError: There are more radii than half the period (or than the side) holds.
    """
    return radial_mean(correlation_map(x, radii, periodic=periodic, dims=dims), radii, dims=dims)


def correlation_map(
    x: Fields, radii: int | None = None, *, periodic: bool = True, dims: int = 2
) -> Float[Tensor, "*batch_and_lags"]:
    """p2 by direction; the lag (dy, dx) stands at (dy, dx) modulo the size of the map.

    Arguments:
        radii: Lags that are as long as that along any axis may be left out; None for all.

    Raises:
        InputError: There are more radii than half the period (or than the side) holds, or whole
            numbers other than 0 and 1.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        array = np.asarray(x)
        array = array if array.dtype.kind == "f" else indicator(array)
        x = torch.from_numpy(np.ascontiguousarray(array))
    space = tuple(x.shape[-dims:])
    whole = [n if periodic else 2 * n - 1 for n in space]
    if not 1 <= (radii or 1) <= min(whole) // 2 + 1:
        raise InputError(
            f"two-point correlation: expected 1 to {min(whole) // 2 + 1} radii for an image of "
            f"{' x '.join(map(str, space))} pixels, got {radii}"
        )
    # All lags of a small period at once are cheaper than a part of them.
    reach = max(whole) if radii is None else radii * (WINDOW if periodic else 1)
    size = tuple(n if n < 2 * reach else 2 * (radii or n) - 1 for n in whole)
    sums = _lag_sums(x, [_lags(n).to(x.device) for n in size], periodic)
    return sums / (prod(space) if periodic else pairs(space, size).to(sums))


@lru_cache(maxsize=16)
def pairs(space: tuple[int, ...], size: tuple[int, ...]) -> Float[Tensor, "*lags"]:
    """Number of pairs of pixels inside an image at each lag of a map of so many lags."""
    along = [n - _lags(count).abs().double() for n, count in zip(space, size, strict=True)]
    return torch.stack(torch.meshgrid(*along, indexing="ij")).prod(0)


def _lags(size: int) -> Int[Tensor, " size"]:
    """The signed lag at each index of a map of that size."""
    return torch.fft.fftfreq(size, 1 / size, dtype=torch.float64).round().long()


def _lag_sums(x: Tensor, lags: list[Int[Tensor, " _"]], periodic: bool) -> Tensor:
    """Sum over the image of x(s) x(s + lag) at each lag: exact where the values are whole.

    Each tile of a large image is correlated with the image as far around it as the lags reach.
    """
    exact, axes = not x.is_floating_point(), tuple(range(-len(lags), 0))
    reach, space = [int(lag.abs().max()) for lag in lags], x.shape[-len(lags) :]
    if max(space) <= TILE:
        size = [n if periodic else next_fast_len(n + r, True)
                for n, r in zip(space, reach, strict=True)]  # fmt: skip
        spectrum = torch.fft.rfftn(x.double() if exact else x, s=size, dim=axes)
        power = torch.view_as_real(spectrum).square().sum(-1)
        sums = torch.fft.irfftn(power, s=size, dim=axes)
        for axis, n, lag in zip(axes, size, lags, strict=True):
            sums = sums if len(lag) == n else sums.index_select(axis, lag % n)
        return sums.round() if exact else sums
    wide, steps = _surrounded(x, reach, periodic), [max(TILE, 2 * r) for r in reach]
    total: Tensor | float = 0.0
    for corner in product(*(range(0, n, step) for n, step in zip(space, steps, strict=True))):
        spans = list(zip(corner, steps, reach, strict=True))
        here: Any = (..., *(slice(a, a + step) for a, step, _ in spans))
        near: Any = (..., *(slice(a, a + step + 2 * r) for a, step, r in spans))
        tile, around = x[here].double(), wide[near].double()
        size = [next_fast_len(n, True) for n in around.shape[-len(lags) :]]
        spectra = [torch.fft.rfftn(part, s=size, dim=axes) for part in (tile, around)]
        sums = torch.fft.irfftn(spectra[0].conj() * spectra[1], s=size, dim=axes)
        for axis, r, lag in zip(axes, reach, lags, strict=True):
            sums = sums.index_select(axis, r + lag)
        total = total + (sums.round() if exact else sums)
    return torch.as_tensor(total)


def _surrounded(x: Tensor, reach: list[int], periodic: bool) -> Tensor:
    """The image and what lies around it: its own continuation, or nothing."""
    if not periodic:
        return F.pad(x, [r for r in reversed(reach) for _ in range(2)])
    for axis, r in enumerate(reach, -len(reach)):
        n = x.shape[axis]
        x = x.index_select(axis, torch.arange(-r, n + r, device=x.device) % n)
    return x


def lag_memory(shape: tuple[int, ...], radii: int) -> int:
    """Bytes at most that `two_point` takes for one image beside the image itself."""
    sides = [min(max(TILE, 2 * radii) + 2 * radii, n + radii) for n in shape]
    each = 24 * radii if radii <= DENSE else 96
    return 64 * prod(sides) + each * (2 * radii + 1) ** len(shape)


@lru_cache(maxsize=16)
def lengths(size: tuple[int, ...]) -> Int[Tensor, " lag"]:
    """The length of each lag of a map, rounded."""
    squares = torch.meshgrid(*(_lags(n).square() for n in size), indexing="ij")
    return torch.stack(squares).sum(0).double().sqrt().round().long().flatten()


@lru_cache(maxsize=16)
def shells(
    size: tuple[int, ...], radii: int = RADII, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "lag radius"]:
    """Weights of the lags of a map in each radial mean; each column has the sum 1."""
    inside = lengths(size)[:, None] == torch.arange(radii)
    return (inside.double() / inside.sum(0)).to(dtype)


def radial_mean(
    lag_map: Float[Tensor, "*batch_and_lags"], radii: int = RADII, *, dims: int = 2
) -> Float[Tensor, "*batch radius"]:
    """Means over the lags whose length rounds to 0, 1, …, radii - 1."""
    flat, size = lag_map.flatten(-dims), tuple(lag_map.shape[-dims:])
    if radii <= DENSE:
        with torch.autocast(lag_map.device.type, enabled=False):
            return flat @ shells(size, radii, flat.dtype).to(flat.device)
    shell = lengths(size).to(flat.device)
    inside = torch.where(shell < radii)[0]
    shell, near = shell[inside], flat[..., inside]
    sums = near.new_zeros(*near.shape[:-1], radii).scatter_add(-1, shell.expand_as(near), near)
    return sums / shell.bincount()


def indicator(images: Fields) -> Bool[np.ndarray, "*batch_and_space"]:
    """The images as truth values.

    Raises:
        InputError: There are values other than 0 and 1, or no pixels.
    """
    images = np.asarray(images)
    if images.size == 0:
        raise InputError(f"statistics: expected pixels, got an array of shape {images.shape}")
    if images.dtype == bool:
        return images
    x = images.astype(bool)
    if not np.array_equal(x, images):
        wrong = images[x != images].ravel()[0]
        raise InputError(f"statistics: expected pixels of 0 and 1, got {wrong:g}: binarise first")
    return x


def volume_fraction(images: Fields, *, dims: int = 2) -> Float[np.ndarray, " *batch"]:
    """p1, the share of pixels in the phase."""
    return np.asarray(indicator(images).mean(tuple(range(-dims, 0))))


def lineal_path(
    images: Fields, count: int = RADII, *, periodic: bool = True, dims: int = 2
) -> Float[np.ndarray, "*batch length"]:
    """Probability that a segment along an axis lies wholly in the phase; mean of all axes.

    The segment of length r joins the centres of two pixels r apart, so it covers r + 1 pixels:
    entry r is for r = 0, 1, …, count - 1, and entry 0 is p1 (Lu & Torquato 1992).

    Raises:
        InputError: A segment does not fit into the image.
    """
    x = indicator(images)
    space, axes = x.shape[-dims:], tuple(range(-dims, 0))
    if not 1 <= count <= min(space):
        raise InputError(
            f"lineal path: expected 1 to {min(space)} lengths for an image of "
            f"{' x '.join(map(str, space))} pixels, got {count}"
        )
    total = np.zeros((*x.shape[:-dims], count))
    for line in (x.swapaxes(axis, -1) for axis in axes):
        inside = line
        for r in range(count):
            if periodic:
                inside = inside & np.roll(line, -r, -1)
            else:
                inside = inside[..., : line.shape[-1] - r] & line[..., r:]
            total[..., r] += np.count_nonzero(inside, axes) / prod(inside.shape[-dims:])
    return total / dims


def face_density(
    images: Fields, *, periodic: bool = True, dims: int = 2
) -> Float[np.ndarray, " *batch"]:
    """Number of pixel faces between the phases per pixel: the size of the *pixelated* interface.

    In the plane it exceeds the specific surface of what the image shows, on average by 4/π.
    """
    x, steps = indicator(images), np.eye(dims, dtype=int).tolist()
    return np.asarray(sum(_changes(x, step, periodic) for step in steps))


def specific_surface(images: Images, *, periodic: bool = True) -> Float[np.ndarray, " *batch"]:
    r"""Length of the interface per area, by the Cauchy–Crofton formula in four directions.

    A curve of length L meets the lines of direction θ and offset p in n points, and

    .. math:: L = \tfrac12 \int_0^\pi \! d\theta \int n(\theta, p)\, dp

    With :math:`N_k` the changes of phase from pixel to pixel in direction k, per pixel, lines a
    pixel apart along the axes and :math:`1/\sqrt2` along the diagonals, and equal angles:

    .. math:: s = \tfrac\pi8 \bigl(N_- + N_| + (N_/ + N_\backslash)/\sqrt2\bigr)

    It is exact for interfaces of all directions in equal share, such as circles. A straight
    interface gives between 0.948 and 1.026 of its length. Features of one pixel are not resolved.
    """
    x = indicator(images)
    across = sum(_changes(x, step, periodic) for step in ([1, 1], [1, -1]))
    return np.asarray(pi / 8 * (face_density(x, periodic=periodic) + across / sqrt(2)))


def _changes(
    x: Bool[np.ndarray, "*batch_and_space"], step: list[int], periodic: bool
) -> Float[np.ndarray, " *batch"]:
    """Share of the pairs of pixels a step apart that differ."""
    axes = tuple(range(-len(step), 0))
    change = x ^ np.roll(x, [-n for n in step], axes)
    if not periodic:
        sides = zip(x.shape[-len(step) :], step, strict=True)
        change = change[..., *(slice(max(0, -n), side - max(0, n)) for side, n in sides)]
    return np.asarray(change.mean(axes))


def mean_chord_length(
    images: Fields, *, periodic: bool = True, dims: int = 2
) -> Float[np.ndarray, " *batch"]:
    r"""Mean chord of the phase along all axes in pixels, without bias by the image's edge.

    .. math:: \langle \ell \rangle = p_1 / \nu

    with ν the chords that begin per pixel of a line: half the changes of phase (Torquato 2002,
    chapter 2). Infinite without an interface; zero without the phase.
    """
    p1 = volume_fraction(images, dims=dims)
    changes = face_density(images, periodic=periodic, dims=dims) / dims
    some = np.divide(2 * p1, changes, out=np.full_like(p1, np.inf), where=changes > 0)
    return np.asarray(np.where(p1 > 0, some, 0.0))


def components(
    images: Fields, *, periodic: bool = True, dims: int = 2
) -> Int[np.ndarray, " *batch"]:
    """Number of connected components of the phase; pixels that share a face are connected."""
    x = indicator(images)
    counts = [_components(image, periodic) for image in x.reshape(-1, *x.shape[-dims:])]
    return np.array(counts, dtype=int).reshape(x.shape[:-dims])


def _components(x: Bool[np.ndarray, "*space"], periodic: bool) -> int:
    """Labels, of which those that meet across opposite edges are one."""
    labels, count = ndimage.label(x)
    if not periodic or not count:
        return int(count)
    edges = ([labels.take(k, axis).ravel() for axis in range(x.ndim)] for k in (0, -1))
    first, last = map(np.concatenate, edges)
    meet = (first > 0) & (last > 0)
    graph = sparse.coo_array(
        (np.ones(meet.sum()), (first[meet] - 1, last[meet] - 1)), shape=(count, count)
    )
    return int(sparse.csgraph.connected_components(graph, directed=False)[0])


def minority(volume_fraction: Fraction, two_point: Curve) -> tuple[Fraction, Curve, Fraction]:
    """The statistics of the phase that is at most half, and -1 where that is not phase 1."""
    sign = torch.where(volume_fraction > 0.5, -1.0, 1.0).to(volume_fraction)
    other = 1 - 2 * volume_fraction[:, None] + two_point
    phi = torch.where(sign < 0, 1 - volume_fraction, volume_fraction)
    return phi, torch.where(sign[:, None] < 0, other, two_point), sign


def overlap_after_shift(a: Images, b: Images) -> Float[Tensor, " *batch"]:
    r"""Correlation coefficient of two indicators, the largest over all periodic shifts.

    .. math:: \max_{\mathbf s} \frac{\langle a(\mathbf x)\, b(\mathbf x + \mathbf s) \rangle
        - p_a p_b}{\sqrt{p_a (1 - p_a)\, p_b (1 - p_b)}}

    1 for copies, however shifted; NaN for images of one phase. Independent images have a positive
    one, that of their best shift: compare it with the same figure of reference images.
    """
    x, y = (torch.as_tensor(image).double() for image in (a, b))
    spectra = torch.fft.rfft2(x).conj() * torch.fft.rfft2(y)
    products = torch.fft.irfft2(spectra, s=x.shape[-2:]).amax((-2, -1)) / x.shape[-2:].numel()
    p, q = x.mean((-2, -1)), y.mean((-2, -1))
    return (products - p * q) / (p * (1 - p) * q * (1 - q)).sqrt()


def mean_pairwise_overlap(
    images: Shaped[Tensor, "batch rows columns"], pairs: int = 500, seed: int = 0
) -> float:
    """Mean of `overlap_after_shift` over random pairs of two or more images: small if diverse."""
    random, count = np.random.default_rng(seed), len(images)
    first = random.integers(count, size=pairs)
    second = (first + random.integers(1, count, size=pairs)) % count
    each = [overlap_after_shift(images[i], images[j]) for i, j in zip(first, second, strict=True)]
    return float(torch.stack(each).mean())
