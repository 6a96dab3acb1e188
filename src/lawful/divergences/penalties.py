r"""Penalties on a critic's gradient, each a parameter of its own beside the divergence.

A penalty is the mean over a batch of a function of :math:`g = \nabla_x D(x)`, over all entries of a
sample, times a weight:

- `TwoSided`, (‖g‖ - 1)², at interpolates (WGAN-GP: Gulrajani et al. 2017, eq. 3);
- `OneSided`, max(0, ‖g‖ - 1)², at interpolates (WGAN-LP: Petzka et al. 2018, eq. 7);
- `OneSidedSquared`, max(0, ‖g‖² - 1), at interpolates (Lipschitz-alpha GAN of
  structure-preserving GANs);
- `R1` and `R2`, ‖g‖² / 2 at real and at generated samples (Mescheder et al. 2018, eq. 9 and 10).

An interpolate is one uniform point of the segment between each real sample and a generated one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import is_parametrized

from lawful.errors import InputError
from lawful.typed import Positive, Weight, check_fields

__all__ = ["R1", "R2", "OneSided", "OneSidedSquared", "Penalty", "TwoSided", "spectral_norm"]

Critic = Callable[[Tensor], Tensor]
Samples = Float[Tensor, "_ *sample"]
Scalar = Float[Tensor, ""]
TINY = 1e-12  # gives the root of a squared norm a finite slope at zero


def check_pair(name: str, real: Tensor, fake: Tensor, least: int = 1) -> None:
    """Refuse two sets of samples, or of their scores, that cannot be compared.

    Raises:
        InputError: One holds fewer than `least` entries or none that are floating-point numbers,
            or an entry's shape is not that of the other set's.
    """
    for what, x in (("real", real), ("generated", fake)):
        if not x.is_floating_point():
            raise InputError(f"{name}: expected {what} floating-point numbers, got {x.dtype}")
    shapes = f"{tuple(real.shape)} and {tuple(fake.shape)}"
    if not real.ndim or not fake.ndim or min(len(real), len(fake)) < least:
        raise InputError(f"{name}: expected a batch of {least} or more a side, got {shapes}")
    if real.shape[1:] != fake.shape[1:]:
        raise InputError(f"{name}: expected batches of equal samples, got shapes {shapes}")


@dataclass(frozen=True)
class Penalty:
    """The mean of a function of the critic's gradient, times `weight`; see the head of this module.

    Arguments:
        weight: What the mean is multiplied by.
        lipschitz: L, by which norms of the gradient are divided.
        name: Name of its term in losses and logs.
        of_square: The function, of the squared norm of each sample's gradient.
        at: Where the gradient is taken: at `interpolates`, or at `real` or `generated` samples.
    """

    weight: Weight = 10.0
    lipschitz: Positive = 1.0
    name: str = "penalty"
    of_square: Callable[[Tensor], Tensor] = field(default=torch.Tensor.relu, repr=False)
    at: Literal["interpolates", "real", "generated"] = "interpolates"

    def __post_init__(self) -> None:
        check_fields(self, "penalty ")

    def __call__(self, critic: Critic, real: Samples, fake: Samples) -> Scalar:
        """The weighted penalty, differentiable in the critic's parameters.

        Arguments:
            critic: Samples to scores, `(batch,)` or more per sample, of which the sum is taken;
                each is a function of its own sample.
            real, fake: Interpolates need as many of both.

        Raises:
            InputError: Samples that cannot be compared, or that the scores do not depend on.
        """
        check_pair(self.name, real, fake)
        x = self.points(real.detach(), fake.detach()).requires_grad_(True)
        scores, gradient = critic(x).sum(), None
        if scores.requires_grad:
            # Each score depends on its own sample alone, so row i of the sum's gradient is of i.
            (gradient,) = torch.autograd.grad(scores, x, create_graph=True, allow_unused=True)
        if gradient is None:
            raise InputError(f"{self.name}: the critic's scores do not depend on samples")
        square = gradient.reshape(len(x), -1).square().sum(1)
        return self.weight * self.of_square(square / self.lipschitz**2).mean()

    def points(self, real: Tensor, fake: Tensor) -> Tensor:
        """Where the gradient is taken."""
        if self.at != "interpolates":
            return real if self.at == "real" else fake
        if len(real) != len(fake):
            raise InputError(
                f"{self.name}: expected as many real as generated samples, got {len(real)} and "
                f"{len(fake)}"
            )
        share = torch.rand((len(real), *[1] * (real.ndim - 1)), device=real.device)
        return torch.lerp(real, fake.to(real), share.to(real))


def _above(square: Tensor) -> Tensor:
    """How much a norm exceeds 1."""
    return (square + TINY).sqrt() - 1


TwoSided = partial(Penalty, name="TwoSided", of_square=lambda square: _above(square).square())
OneSided = partial(Penalty, name="OneSided", of_square=lambda s: _above(s).relu().square())
OneSidedSquared = partial(Penalty, name="OneSidedSquared", of_square=lambda s: (s - 1).relu())
R1 = partial(Penalty, name="R1", of_square=lambda square: square / 2, at="real")
R2 = partial(R1, name="R2", at="generated")


def spectral_norm(critic: nn.Module) -> nn.Module:
    """`critic` with the spectral norm of every linear and convolutional weight held at 1.

    Power iteration, one step per forward pass in training (Miyato et al. 2018); for a convolution
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
