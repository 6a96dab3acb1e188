r"""Symmetrizing functions and samples, and how far a function is from symmetric.

For a group Σ acting by T (Birrell et al. 2022, section 3):

.. math:: S_\Sigma[\gamma](x) = \frac1{|\Sigma|} \sum_{\sigma} \gamma(T_\sigma x), \qquad
    S^\Sigma[P] = \text{law of } T_\sigma X,\ X \sim P,\ \sigma \text{ uniform}.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.symmetry.group import Group
from lawful.symmetry.planar import Planar

Function = Callable[[Tensor], Tensor]


class Symmetrized(nn.Module):
    r"""The group mean of a function: invariant, or equivariant where the output moves too.

    .. math:: x \mapsto \frac1{|\Sigma|} \sum_\sigma T'_{\sigma^{-1}} f(T_\sigma x)

    Arguments:
        function: Tensor `(batch, …)`, and anything else that is passed on, to `(batch, …)`, each
            sample by itself.
        group: On its input.
        onto: The same group on its output; None for an invariant function.
    """

    def __init__(
        self, function: nn.Module | Callable[..., Tensor], group: Group, onto: Group | None = None
    ) -> None:
        super().__init__()
        self.function, self.group, self.onto = function, group, onto or group.fixed()

    def extra_repr(self) -> str:
        """The groups; a function that is no module is not shown otherwise."""
        said = "" if isinstance(self.function, nn.Module) else f"{self.function!r}, "
        return f"{said}{self.group} to {self.onto}"

    def forward(self, x: Tensor, *rest: Any) -> Tensor:
        orbit = self.group.orbit(x)
        if rest:
            values = torch.stack([self.function(moved, *rest) for moved in orbit])
        else:  # in one pass, which small networks do several times faster
            values = self.function(orbit.flatten(0, 1)).unflatten(0, orbit.shape[:2])
        return group_mean(values, self.onto)


def group_mean(
    values: Float[Tensor, "order batch *shape"], onto: Group
) -> Float[Tensor, "batch *shape"]:
    """Mean over σ of the values at T_σ x, each moved back.

    Raises:
        InputError: The values are whole numbers.
    """
    if not values.is_floating_point():
        raise InputError(f"group mean: expected floating-point values, got {values.dtype}")
    inverse = onto.inverse.tolist()
    back = [onto.act(value, g) for value, g in zip(values, inverse, strict=True)]
    return torch.stack(back).mean(0)


def randomize(
    x: Float[Tensor, "batch *shape"], group: Group, generator: torch.Generator | None = None
) -> Float[Tensor, "batch *shape"]:
    """A random element applied to every sample: of x ~ P a sample of S^Σ[P]."""
    return group.act_each(x, group.random(x.shape[0] if x.ndim else 0, generator).to(x.device))


def canonicalize(
    x: Float[Tensor, "batch channel rows columns"], group: Planar
) -> Float[Tensor, "batch channel rows columns"]:
    """Every image moved to one of its orbit: where its mass lies furthest right, then up.

    The same image for all members of an orbit, unless its mass is spread symmetrically.

    Raises:
        InputError: The group does not move pixels onto pixels, or not on this shape.
    """
    if not group.exact:
        raise InputError(f"canonical images: {group.name} interpolates, its orbits are not closed")
    group.check(tuple(x.shape))
    across, along = x.shape[-2:]
    right = torch.arange(along, dtype=torch.float64, device=x.device) - (along - 1) / 2
    upward = (across - 1) / 2 - torch.arange(across, dtype=torch.float64, device=x.device)
    # A direction inside one sector of D_n: its angle is a third of the sector's.
    slope = math.tan(math.pi / (3 * max(group.turns, 2)))
    weight = right[None, :] + slope * upward[:, None]
    mass = [(group.act(x, g).double() * weight).sum((-3, -2, -1)) for g in range(group.order)]
    return group.act_each(x, torch.stack(mass).argmax(0))


def orbit_samples(
    x: Float[Tensor, "batch *shape"], group: Group
) -> Float[Tensor, "orbit_batch *shape"]:
    """Every sample's whole orbit, one after another: S^Σ of the empirical distribution."""
    return group.orbit(x).flatten(0, 1)


def equivariance_error(
    function: Function, x: Float[Tensor, "batch *shape"], group: Group, onto: Group
) -> Float[Tensor, " order"]:
    r"""For every element g, the worst relative error of `function` over a batch.

    .. math:: \max |f(T_g x) - T'_g f(x)| \big/ \max |f(x)|

    Arguments:
        group: On the input.
        onto: The same group on the output.

    Raises:
        InputError: The values are whole numbers, or there are none.
    """
    value = function(x)
    if not value.is_floating_point() or not value.numel():
        raise InputError(
            f"equivariance error: expected floating-point values of a sample or more, got "
            f"{value.dtype} of shape {tuple(value.shape)}"
        )
    scale = value.abs().max().clamp_min(torch.finfo(value.dtype).tiny)
    errors = [
        (function(group.act(x, g)) - onto.act(value, g)).abs().max() / scale
        for g in range(group.order)
    ]
    return torch.stack(errors).detach()


def invariance_error(
    function: Function, x: Float[Tensor, "batch *shape"], group: Group
) -> Float[Tensor, " order"]:
    """For every element g, the worst of |f(T_g x) - f(x)| relative to the largest |f(x)|."""
    return equivariance_error(function, x, group, group.fixed())
