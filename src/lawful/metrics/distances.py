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

from lawful.errors import InputError

ROUNDING = 1e-13
BLOCK = 512  # rows at a time of an array that has a column for every sample


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
        _check_features("Gaussian", chunk, scatter if count else chunk)
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
    _check_features("Fréchet distance", x.covariance, y.covariance)
    few, many = (x, y) if x.count <= y.count else (y, x)
    values, vectors = torch.linalg.eigh(few.covariance)  # ascending
    rank = min(few.count - 1, len(values))
    factor = vectors[:, -rank:] * values[-rank:].clamp_min(0).sqrt()
    cross = torch.linalg.eigvalsh(factor.T @ many.covariance @ factor).clamp_min(0).sqrt().sum()
    spread = few.covariance.trace() + many.covariance.trace() - 2 * cross
    return float(((x.mean - y.mean).square().sum() + spread).clamp_min(0))


def frechet_distance(x: Float[Tensor, "n feature"], y: Float[Tensor, "m feature"]) -> float:
    """`frechet_between` the two sets' Gaussians.

    Raises:
        InputError: A set has fewer than two samples.
    """
    _check("Fréchet distance", x, y, 2)
    return frechet_between(gaussian([x]), gaussian([y]))


def _check(name: str, x: Tensor, y: Tensor, least: int) -> None:
    _check_features(name, x, y)
    if min(len(x), len(y)) < least:
        raise InputError(f"{name}: expected {least} samples or more, got {len(x)} and {len(y)}")


def _check_features(name: str, x: Tensor, y: Tensor) -> None:
    for rows in (x, y):
        if not isinstance(rows, Tensor) or rows.ndim != 2 or rows.is_complex() or not rows.shape[1]:
            got = tuple(rows.shape) if isinstance(rows, Tensor) else type(rows).__name__
            raise InputError(
                f"{name}: expected rows of real features, (sample, feature); got {got}"
            )
    if x.shape[1] != y.shape[1]:
        raise InputError(f"{name}: features of {x.shape[1]} and of {y.shape[1]} entries")
    if not (bool(torch.isfinite(x).all()) and bool(torch.isfinite(y).all())):
        raise InputError(f"{name}: expected finite features, got NaN or infinity")


def kernel_distance(x: Float[Tensor, "n feature"], y: Float[Tensor, "m feature"]) -> float:
    """Unbiased squared MMD with the kernel (⟨x, y⟩ / dimension + 1)³ (Binkowski et al. 2018).

    It may be negative for equal distributions: its mean over sets is then zero.

    Raises:
        InputError: A set has fewer than two samples.
    """
    _check("kernel distance", x, y, 2)
    return _KernelSums.of(x, y).distance()


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error."""

    value: float
    error: float


def kernel_estimate(x: Float[Tensor, "n feature"], y: Float[Tensor, "m feature"]) -> Estimate:
    r"""The kernel distance and its standard error, by the jackknife of both sets (Arvesen 1969).

    .. math:: \tfrac{n - 1}{n} \sum_i (d_{-i} - \bar d)^2 \text{ over } x, \text{ plus the same
        over } y, \text{ with } d_{-i} \text{ the distance without sample } i

    It is not below the true one in the mean of its square (Efron & Stein 1981): right where the
    distributions differ clearly, up to √2 too wide where they are equal.

    Raises:
        InputError: A set has fewer than three samples.
    """
    _check("kernel distance", x, y, 3)
    sums = _KernelSums.of(x, y)
    return Estimate(sums.distance(), sums.variance() ** 0.5)


@dataclass(frozen=True, eq=False)
class _KernelSums:
    """Of every sample's kernels with the others of its set, and with those of the other set."""

    within_x: Tensor
    within_y: Tensor
    across_x: Tensor
    across_y: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, x: Tensor, y: Tensor) -> "_KernelSums":
        a, b = x.double(), y.double()
        within_a, within_b = (
            _kernel_sums(z, z)[0] - (z.square().mean(1) + 1).pow(3) for z in (a, b)
        )
        return cls(within_a, within_b, *_kernel_sums(a, b))

    def distance(self) -> float:
        n, m = len(self.within_x), len(self.within_y)
        within = self.within_x.sum() / (n * (n - 1)) + self.within_y.sum() / (m * (m - 1))
        return float(within - 2 * self.across_x.sum() / (n * m))

    def variance(self) -> float:
        n, m = len(self.within_x), len(self.within_y)
        return _jackknife(self.within_x, self.across_x / m) + _jackknife(
            self.within_y, self.across_y / n
        )


def _kernel_sums(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of the kernels of `a` and `b`: over b for every a, and over a for every b."""
    rows, columns = [], b.new_zeros(len(b))
    for part in a.split(BLOCK):
        kernels = (part @ b.T / b.shape[1] + 1).pow(3)
        rows.append(kernels.sum(1))
        columns += kernels.sum(0)
    return torch.cat(rows), columns


def _jackknife(within: Tensor, across: Tensor) -> float:
    """A set's part of the variance; `across` is a mean over the other set."""
    n = len(within)
    left = (within.sum() - 2 * within) / (n - 2) - 2 * (across.sum() - across)
    return float((left / (n - 1)).var() * (n - 1) ** 2 / n)


@dataclass(frozen=True)
class Manifolds:
    """How two sets cover one another, by closed balls that reach to the k-th nearest neighbour.

    A ball holds its boundary, so that a set covers its copy also where samples repeat.

    Arguments:
        precision, recall: Share of generated samples in the balls of the real ones, and the other
            way round (Kynkaanniemi et al. 2019, eq. 1).
        density, coverage: Mean number of real balls around a generated sample over k, and the
            share of real balls that hold one (Naeem et al. 2020, eqs. 4 and 5).
    """

    precision: float
    recall: float
    density: float
    coverage: float


@torch.no_grad()
def manifolds(
    real: Float[Tensor, "n feature"], fake: Float[Tensor, "m feature"], neighbours: int = 5
) -> Manifolds:
    """Precision, recall, density and coverage of `fake` with respect to `real`.

    Raises:
        InputError: A set has no more than `neighbours` samples, or `neighbours` is below 1.
    """
    if neighbours < 1:
        raise InputError(f"precision and recall: expected 1 neighbour or more, got {neighbours}")
    _check("precision and recall", real, fake, neighbours + 1)
    centre = real.double().mean(0)  # distances do not depend on it, and their digits do
    a, b = real.double() - centre, fake.double() - centre
    radius_real, radius_fake = _radii(a, neighbours), _radii(b, neighbours)
    balls = torch.zeros(len(b), dtype=torch.long, device=b.device)  # around every generated sample
    recalled = covered = 0
    for part, radius in zip(a.split(BLOCK), radius_real.split(BLOCK), strict=True):
        least = _squares(part, b) - ROUNDING * _sizes(part, b)
        inside = least <= radius[:, None]
        balls += inside.sum(0)
        recalled += int((least <= radius_fake).any(1).sum())
        covered += int(inside.any(1).sum())
    return Manifolds(
        precision=float((balls > 0).double().mean()),
        recall=recalled / len(a),
        density=float(balls.double().mean() / neighbours),
        coverage=covered / len(a),
    )


def _radii(z: Tensor, neighbours: int) -> Tensor:
    """Squared distance of every sample to its k-th neighbour, itself not counted."""
    parts = [_squares(part, z).kthvalue(neighbours + 1, 1).values for part in z.split(BLOCK)]
    return torch.cat(parts)


def _sizes(x: Tensor, y: Tensor) -> Tensor:
    """‖x‖² + ‖y‖² of every pair."""
    return x.square().sum(1)[:, None] + y.square().sum(1)


def _squares(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances, right up to `ROUNDING` times `_sizes`."""
    return _sizes(x, y) - 2 * x @ y.T


@dataclass(frozen=True)
class Comparison:
    """Every distance between a generated and a real set, on the same features.

    Arguments:
        samples: Size of the smaller set.
        frechet: `frechet_distance`; biased upwards, the more the fewer samples.
        kernel, kernel_error: `kernel_estimate`.
        precision, recall, density, coverage: `manifolds`.
    """

    samples: int
    frechet: float
    kernel: float
    kernel_error: float
    precision: float
    recall: float
    density: float
    coverage: float


def compare(
    real: Float[Tensor, "n feature"], fake: Float[Tensor, "m feature"], neighbours: int = 5
) -> Comparison:
    """All distances of `fake` to `real`, rows of features.

    Raises:
        InputError: A set has fewer than three samples or no more than `neighbours`, the features
            are of different sizes, or not finite.
    """
    _check("comparison", real, fake, max(3, neighbours + 1))
    kernel, cover = kernel_estimate(real, fake), manifolds(real, fake, neighbours)
    return Comparison(
        samples=min(len(real), len(fake)),
        frechet=frechet_distance(real, fake),
        kernel=kernel.value,
        kernel_error=kernel.error,
        precision=cover.precision,
        recall=cover.recall,
        density=cover.density,
        coverage=cover.coverage,
    )
