r"""Penalties on a critic's gradient, each a parameter of its own beside the divergence.

With :math:`g = \nabla_x D(x)` of each sample, over all entries of a sample.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import is_parametrized

from lawful.errors import InputError

Critic = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Penalty(ABC):
    """A mean over a batch of a function of the critic's gradient, times `weight`."""

    weight: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight < inf:
            raise InputError(f"penalty weight: expected at least 0, got {self.weight:g}")

    def __call__(
        self,
        critic: Critic,
        real: Float[Tensor, "batch *sample"],
        fake: Float[Tensor, "batch *sample"],
    ) -> Float[Tensor, ""]:
        """The weighted penalty, differentiable in the critic's parameters.

        Arguments:
            critic: Samples to scores `(batch,)`, each score a function of its own sample.
            real, fake: Of equal shape.
        """
        x = self.place(real.detach(), fake.detach()).requires_grad_(True)
        # Each score depends on its own sample alone, so the sum's gradient has a row a sample.
        (gradient,) = torch.autograd.grad(critic(x).sum(), x, create_graph=True)
        return self.weight * self.height(gradient.flatten(1).square().sum(1)).mean()

    @abstractmethod
    def place(self, real: Tensor, fake: Tensor) -> Tensor:
        """Where the gradient is taken."""

    @abstractmethod
    def height(self, square: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """The penalty as a function of the squared norm of each sample's gradient."""


@dataclass(frozen=True)
class _AtInterpolates(Penalty):
    """Taken at one uniform point of the segment between each real sample and a generated one."""

    def place(self, real: Tensor, fake: Tensor) -> Tensor:
        share = torch.rand((len(real), *[1] * (real.ndim - 1)), device=real.device)
        return torch.lerp(real, fake, share.to(real))


def _norm(square: Tensor) -> Tensor:
    """The square root with a finite slope at zero."""
    return (square + 1e-12).sqrt()


@dataclass(frozen=True)
class TwoSided(_AtInterpolates):
    """(‖g‖ - 1)², at interpolates (WGAN-GP: Gulrajani et al. 2017, eq. 3)."""

    def height(self, square: Tensor) -> Tensor:
        return (_norm(square) - 1).square()


@dataclass(frozen=True)
class OneSided(_AtInterpolates):
    """max(0, ‖g‖ - 1)², at interpolates (WGAN-LP: Petzka et al. 2018, eq. 7)."""

    def height(self, square: Tensor) -> Tensor:
        return (_norm(square) - 1).relu().square()


@dataclass(frozen=True)
class OneSidedSquared(_AtInterpolates):
    """max(0, ‖g‖² / L² - 1), at interpolates (Lipschitz-alpha GAN of structure-preserving GANs).

    Arguments:
        lipschitz: L.
    """

    lipschitz: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.lipschitz < inf:
            raise InputError(f"penalty: expected lipschitz above 0, got {self.lipschitz:g}")

    def height(self, square: Tensor) -> Tensor:
        return (square / self.lipschitz**2 - 1).relu()


@dataclass(frozen=True)
class R1(Penalty):
    """‖g‖² / 2 at real samples (Mescheder et al. 2018, eq. 9)."""

    def place(self, real: Tensor, fake: Tensor) -> Tensor:
        return real

    def height(self, square: Tensor) -> Tensor:
        return square / 2


@dataclass(frozen=True)
class R2(R1):
    """‖g‖² / 2 at generated samples (Mescheder et al. 2018, eq. 10)."""

    def place(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake


def spectral_norm(critic: nn.Module) -> nn.Module:
    """`critic` with the spectral norm of every linear and convolutional weight held at 1.

    Power iteration, one step a forward pass in training (Miyato et al. 2018); for a convolution
    the norm is that of its weight as a matrix, not of the operator.

    Raises:
        InputError: There is no such weight, or one is held already.
    """
    found = [m for m in critic.modules() if isinstance(m, nn.Linear | _ConvNd)]
    if not found or any(is_parametrized(module, "weight") for module in found):
        raise InputError("spectral norm: expected a critic with free linear or convolution weights")
    for module in found:
        parametrizations.spectral_norm(module)
    return critic
