"""Distances between two sets of samples in a feature space; float64, any features.

The features are rows of an array. A distance says nothing without its floor: the same distance
between two sets of real samples. No distance holds a square array over samples: kernels and
pairwise distances are taken by blocks of rows, moments by chunks that need not be kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.divergences.samples import Polynomial
from lawful.errors import InputError

BLOCK = 512  # rows at a time of an array that has a column for every sample
KERNEL = Polynomial(3)


@dataclass(frozen=True, eq=False)
class Gaussian:
    """All that the Fréchet distance knows of a set of samples.

    Arguments:
        count: Number of samples; the covariance's rank is below it.
        mean: Over samples, float64.
        covariance: Unbiased, i.e. the scatter over `count - 1`, float64.

    Raises:
        InputError: Fewer than two samples.
    """

    count: int
    mean: Float[Tensor, " feature"]
    covariance: Float[Tensor, "feature feature"]

    def __post_init__(self) -> None:
        if self.count < 2:
            raise InputError(f"Gaussian: expected 2 samples or more, got {self.count}")


@torch.no_grad()
def gaussian(chunks: Iterable[Float[Tensor, "_ _"]]) -> Gaussian:
    r"""Moments of rows that come in chunks, whatever the chunks (Chan, Golub & LeVeque 1979).

    To n rows of mean :math:`\mu` and scatter S, m more of :math:`\nu` and T are merged as

    .. math:: \mu + \tfrac{m}{n + m} \delta, \qquad
        S + T + \tfrac{n m}{n + m} \delta \delta^\top, \qquad \delta = \nu - \mu

    Raises:
        InputError: Fewer than two rows in all, chunks of different widths, or entries not finite.
    """
    count, mean, scatter = 0, torch.zeros(0), torch.zeros(0, 0)
    for chunk in chunks:
        _check("Gaussian", chunk, scatter if count else chunk)
        rows = chunk.double()
        if not count:
            mean, scatter = rows.new_zeros(rows.shape[1]), rows.new_zeros((rows.shape[1],) * 2)
        if len(rows):
            centre, total = rows.mean(0), count + len(rows)
            delta, rows = centre - mean, rows - centre
            mean = mean + delta * (len(rows) / total)
            scatter += rows.T @ rows + torch.outer(delta, delta) * (count * len(rows) / total)
            count = total
    return Gaussian(count, mean, scatter / max(count - 1, 1))


def frechet_between(x: Gaussian, y: Gaussian) -> float:
    r"""Squared Wasserstein-2 distance of two Gaussians (Dowson & Landau 1982).

    .. math:: \|\mu_x - \mu_y\|^2 + \operatorname{tr}(\Sigma_x + \Sigma_y)
        - 2 \operatorname{tr}((\Sigma_x \Sigma_y)^{1/2})

    The last trace is that of the symmetric root of :math:`A^\top \Sigma_y A` for any A with
    :math:`\Sigma_x = A A^\top`, by eigenvalues. The factor is that of the set with fewer samples
    and has no more columns than its rank: eigenvalues that are zero but for rounding, of which the
    root would be far from zero, do not arise from a lack of samples.

    Raises:
        InputError: The features are of different sizes.
    """
    _check("Fréchet distance", x.covariance, y.covariance)
    few, many = (x, y) if x.count <= y.count else (y, x)
    values, vectors = torch.linalg.eigh(few.covariance)  # ascending
    rank = min(few.count - 1, len(values))
    factor = vectors[:, -rank:] * values[-rank:].clamp_min(0).sqrt()
    cross = torch.linalg.eigvalsh(factor.T @ many.covariance @ factor).clamp_min(0).sqrt().sum()
    spread = few.covariance.trace() + many.covariance.trace() - 2 * cross
    return float(((x.mean - y.mean).square().sum() + spread).clamp_min(0))


def frechet_distance(x: Float[Tensor, "n feature"], y: Float[Tensor, "m feature"]) -> float:
    """`frechet_between` the two sets' Gaussians; biased upwards, the more the fewer samples.

    Raises:
        InputError: A set has fewer than two samples.
    """
    _check("Fréchet distance", x, y, least=2)
    return frechet_between(gaussian([x]), gaussian([y]))


def kernel_distance(x: Float[Tensor, "n feature"], y: Float[Tensor, "m feature"]) -> float:
    """Unbiased squared MMD with the kernel (⟨x, y⟩ / dimension + 1)³ (Binkowski et al. 2018).

    It may be negative for equal distributions: its mean over sets is then zero.

    Raises:
        InputError: A set has fewer than two samples.
    """
    _check("kernel distance", x, y, least=2)
    within = sum(float(_kernels(z, z).sum()) / (len(z) * (len(z) - 1)) for z in (x, y))
    return within - 2 * float(_kernels(x, y).mean()) / len(y)


def kernel_error(x: Float[Tensor, "n feature"], y: Float[Tensor, "m feature"]) -> float:
    r"""Standard error of the kernel distance, by the jackknife of both sets (Arvesen 1969).

    .. math:: \tfrac{n - 1}{n} \sum_i (d_{-i} - \bar d)^2 \text{ over } x, \text{ plus the same
        over } y, \text{ with } d_{-i} \text{ the distance without sample } i

    Its square is not below the variance in the mean (Efron & Stein 1981): right where the
    distributions differ clearly, up to √2 too wide where they are equal.

    Raises:
        InputError: A set has fewer than three samples.
    """
    _check("kernel distance", x, y, least=3)
    variance = 0.0
    for a, b in ((x, y), (y, x)):
        n, within, across = len(a), _kernels(a, a), _kernels(a, b) / len(b)
        left = (within.sum() - 2 * within) / (n - 2) - 2 * (across.sum() - across)
        variance += float((left / (n - 1)).var() * (n - 1) ** 2 / n)
    return variance**0.5


@torch.no_grad()
def _kernels(a: Tensor, b: Tensor) -> Float[Tensor, " n"]:
    """For every row of `a` the sum of its kernels with all rows of `b`, but with itself."""
    sums = []
    for first in range(0, len(a), BLOCK):
        kernels = KERNEL(a[first : first + BLOCK], b)
        if a is b:
            kernels.diagonal(first).zero_()
        sums.append(kernels.sum(1))
    return torch.cat(sums)


@torch.no_grad()
def manifolds(
    real: Float[Tensor, "n feature"], fake: Float[Tensor, "m feature"], neighbours: int = 5
) -> dict[str, float]:
    """How two sets cover one another, by closed balls up to the k-th nearest neighbour.

    A ball holds its boundary, so that a set covers its copy also where samples repeat.

    Returns:
        `precision` and `recall`, the share of generated samples in the balls of the real ones and
        the other way round (Kynkaanniemi et al. 2019, eq. 1); `density` and `coverage`, the mean
        number of real balls around a generated sample over k, and the share of real balls that hold
        one (Naeem et al. 2020, eqs. 4 and 5).

    Raises:
        InputError: A set has no more than `neighbours` samples, or `neighbours` is below 1.
    """
    if neighbours < 1:
        raise InputError(f"precision and recall: expected 1 neighbour or more, got {neighbours}")
    _check("precision and recall", real, fake, least=neighbours + 1)
    a, b = real.double(), fake.double()
    radius_a, radius_b = (
        torch.cat([_distances(p, z).kthvalue(neighbours + 1, 1).values for p in z.split(BLOCK)])
        for z in (a, b)
    )
    balls = torch.zeros(len(b), device=b.device).double()  # around every generated sample
    recalled = covered = 0
    for part, radius in zip(a.split(BLOCK), radius_a.split(BLOCK), strict=True):
        distance = _distances(part, b)
        inside = distance <= radius[:, None]
        balls += inside.sum(0)
        recalled += int((distance <= radius_b).any(1).sum())
        covered += int(inside.any(1).sum())
    return {
        "precision": float((balls > 0).double().mean()),
        "recall": recalled / len(a),
        "density": float(balls.mean() / neighbours),
        "coverage": covered / len(a),
    }


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """Of every pair, from differences: those of equal pairs are equal to the bit."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def compare(
    real: Float[Tensor, "n feature"], fake: Float[Tensor, "m feature"], neighbours: int = 5
) -> dict[str, float]:
    """All distances of `fake` to `real`, rows of features, by name: those of `manifolds`,
    `frechet`, `kernel` and its standard error `kernel_error`.

    Raises:
        InputError: A set has fewer than three samples or no more than `neighbours`, the features
            are of different sizes, or not finite.
    """
    _check("comparison", real, fake, least=max(3, neighbours + 1))
    return {
        **manifolds(real, fake, neighbours),
        "frechet": frechet_distance(real, fake),
        "kernel": kernel_distance(real, fake),
        "kernel_error": kernel_error(real, fake),
    }


def _check(name: str, x: Tensor, y: Tensor, least: int = 0) -> None:
    for rows in (x, y):
        if not isinstance(rows, Tensor) or rows.ndim != 2 or rows.is_complex() or not rows.shape[1]:
            got = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            wanted = "rows of real features, (sample, feature)"
            raise InputError(f"{name}: expected {wanted}; got {got}")
    if x.shape[1] != y.shape[1]:
        raise InputError(f"{name}: features of {x.shape[1]} and of {y.shape[1]} entries")
    if not (bool(torch.isfinite(x).all()) and bool(torch.isfinite(y).all())):
        raise InputError(f"{name}: expected finite features, got NaN or infinity")
    if min(len(x), len(y)) < least:
        raise InputError(f"{name}: expected {least} samples or more, got {len(x)} and {len(y)}")
