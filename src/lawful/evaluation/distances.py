"""Distances between two sets of samples in a feature space; float64, any features.

The features are rows of an array. A distance says nothing without its floor: the same distance
between two sets of real samples.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError


def frechet_distance(x: Float[Tensor, "n feature"], y: Float[Tensor, "m feature"]) -> float:
    r"""Squared Wasserstein-2 distance of the two sets' Gaussians (Dowson & Landau 1982).

    .. math:: \|\mu_x - \mu_y\|^2 + \operatorname{tr}(\Sigma_x + \Sigma_y)
        - 2 \operatorname{tr}((\Sigma_x \Sigma_y)^{1/2})

    The last trace is that of the symmetric root of :math:`S \Sigma_y S` with S the root of
    :math:`\Sigma_x`, by eigenvalues.

    Raises:
        InputError: A set has fewer than two samples.
    """
    _check("Fréchet distance", x, y, 2)
    (mean_x, cov_x), (mean_y, cov_y) = _moments(x), _moments(y)
    values, vectors = torch.linalg.eigh(cov_x)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_y @ root).clamp_min(0).sqrt().sum()
    mean = (mean_x - mean_y).square().sum()
    return float((mean + cov_x.trace() + cov_y.trace() - 2 * cross).clamp_min(0))


def _check(name: str, x: Tensor, y: Tensor, least: int) -> None:
    if min(len(x), len(y)) < least:
        raise InputError(f"{name}: expected {least} samples or more, got {len(x)} and {len(y)}")
    if x.shape[1] != y.shape[1]:
        raise InputError(f"{name}: features of {x.shape[1]} and of {y.shape[1]} entries")
    if not (bool(torch.isfinite(x).all()) and bool(torch.isfinite(y).all())):
        raise InputError(f"{name}: expected finite features, got NaN or infinity")


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    double = x.double()
    return double.mean(0), torch.cov(double.T).reshape(x.shape[1], x.shape[1])


def kernel_distance(x: Float[Tensor, "n feature"], y: Float[Tensor, "m feature"]) -> float:
    """Unbiased squared MMD with the kernel (⟨x, y⟩ / dimension + 1)³ (Binkowski et al. 2018).

    It may be negative for equal distributions: its mean over sets is then zero.
    """
    _check("kernel distance", x, y, 2)
    a, b = x.double(), y.double()
    gram = lambda u, v: (u @ v.T / u.shape[1] + 1).pow(3)  # noqa: E731
    within = 0.0
    for z in (a, b):
        kernel = gram(z, z)
        within += float((kernel.sum() - kernel.diagonal().sum()) / (len(z) * (len(z) - 1)))
    return within - 2 * float(gram(a, b).mean())


@dataclass(frozen=True)
class Manifolds:
    """How two sets cover one another, by balls around the k nearest neighbours.

    Arguments:
        precision, recall: Share of generated samples in the balls of the real ones, and the other
            way round (Kynkaanniemi et al. 2019).
        density, coverage: Mean number of real balls around a generated sample over k, and the
            share of real balls that hold one (Naeem et al. 2020).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifolds(
    real: Float[Tensor, "n feature"], fake: Float[Tensor, "m feature"], neighbours: int = 5
) -> Manifolds:
    """Precision, recall, density and coverage of `fake` with respect to `real`.

    Raises:
        InputError: A set has no more than `neighbours` samples.
    """
    _check("precision and recall", real, fake, neighbours + 1)
    a, b = real.double(), fake.double()
    radius_real, radius_fake = (
        torch.cdist(z, z).kthvalue(neighbours + 1, 1).values for z in (a, b)
    )
    between = torch.cdist(a, b)
    inside = between < radius_real[:, None]
    return Manifolds(
        precision=float(inside.any(0).double().mean()),
        recall=float((between < radius_fake[None, :]).any(1).double().mean()),
        density=float(inside.double().sum(0).mean() / neighbours),
        coverage=float((between.amin(1) < radius_real).double().mean()),
    )
