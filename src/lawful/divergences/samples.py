"""Divergences between samples that need no critic: kernel discrepancies and optimal transport."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import isfinite, nan

import torch
from geomloss import SamplesLoss
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError


class Kernel(ABC):
    """A conditionally positive definite function of two samples."""

    @abstractmethod
    def __call__(
        self, x: Float[Tensor, "n entry"], y: Float[Tensor, "m entry"]
    ) -> Float[Tensor, "n m"]:
        """k(x_i, y_j)."""


def _square(x: Tensor, y: Tensor) -> Tensor:
    """Squared distances, differentiable where two samples coincide; taken about a common centre,
    since distances do not depend on it and their digits do."""
    centre = x.detach().mean(0)
    x, y = x - centre, y - centre
    cross = x @ y.T
    return (x.square().sum(1)[:, None] + y.square().sum(1)[None, :] - 2 * cross).clamp_min(0)


def _positive(name: str, values: tuple[float, ...]) -> None:
    if not values or not all(value > 0 for value in values):
        raise InputError(f"kernel {name}: expected numbers above 0, got {values}")


@dataclass(frozen=True)
class Gaussian(Kernel):
    """Sum over `scales` s of exp(-‖x - y‖² / 2s²)."""

    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        _positive("scales", self.scales)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        square = _square(x, y)
        return torch.stack([torch.exp(-square / (2 * s**2)) for s in self.scales]).sum(0)


@dataclass(frozen=True)
class RationalQuadratic(Kernel):
    """Sum over `shapes` a of (1 + ‖x - y‖² / 2a)^-a (Binkowski et al. 2018)."""

    shapes: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 5.0)

    def __post_init__(self) -> None:
        _positive("shapes", self.shapes)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        square = _square(x, y)
        return torch.stack([(1 + square / (2 * a)).pow(-a) for a in self.shapes]).sum(0)


@dataclass(frozen=True)
class Energy(Kernel):
    """-‖x - y‖: the energy distance (Szekely & Rizzo 2013); it has no scale to be chosen."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return -(_square(x, y) + 1e-12).sqrt()


@dataclass(frozen=True)
class Polynomial(Kernel):
    """(⟨x, y⟩ / dimension + 1)^degree, of the kernel distance (Binkowski et al. 2018)."""

    degree: int = 3

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / x.shape[1] + 1).pow(self.degree)


@dataclass(frozen=True)
class MMD:
    """Squared maximum mean discrepancy, the unbiased estimate (Gretton et al. 2012, eq. 3).

    Raises:
        InputError: Fewer than two samples on a side, or samples of different sizes.
    """

    kernel: Kernel = field(default_factory=Energy)

    def __call__(
        self, real: Float[Tensor, "n *sample"], fake: Float[Tensor, "m *sample"]
    ) -> Float[Tensor, ""]:
        x, y = _rows(real, fake)
        if len(x) < 2 or len(y) < 2:
            raise InputError(f"MMD: expected two samples a side or more, got {len(x)}, {len(y)}")
        within = [_mean_off_diagonal(self.kernel(z, z)) for z in (x, y)]
        return within[0] + within[1] - 2 * self.kernel(x, y).mean()


def _rows(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    x, y = real.flatten(1), fake.flatten(1)
    if x.shape[1] != y.shape[1]:
        raise InputError(f"samples: of {x.shape[1]} and {y.shape[1]} entries; expected the same")
    return x, y


def _mean_off_diagonal(gram: Tensor) -> Tensor:
    n = len(gram)
    return (gram.sum() - gram.diagonal().sum()) / (n * (n - 1))


@dataclass(frozen=True)
class Sinkhorn:
    """The debiased entropic divergence of the cost ‖x - y‖² / 2 (Feydy et al. 2019), by geomloss.

    Arguments:
        blur: Length below which transport is smeared; the entropy's weight is its square.
        scaling: Of the annealing, below 1; nearer to 1 is slower and closer.
    """

    blur: float = 0.05
    scaling: float = 0.7

    def __post_init__(self) -> None:
        if not self.blur > 0 or not 0 < self.scaling < 1:
            raise InputError(
                f"sinkhorn: expected blur > 0 and 0 < scaling < 1, got {self.blur:g}, "
                f"{self.scaling:g}"
            )

    def __call__(
        self, real: Float[Tensor, "n *sample"], fake: Float[Tensor, "m *sample"]
    ) -> Float[Tensor, ""]:
        x, y = _rows(real, fake)
        centre = x.detach().mean(0)
        size = float((torch.cat([x, y]).detach() - centre).norm(dim=1).max())
        if not isfinite(size):
            return (x.sum() + y.sum()) * nan
        loss = SamplesLoss(
            "sinkhorn", p=2, blur=self.blur, scaling=self.scaling, backend="tensorized",
            diameter=max(2 * size, 2 * self.blur),
        )  # fmt: skip
        value: Tensor = loss(y - centre, x - centre)
        return value
