r"""Gaussian random fields whose level cut has a given two-point correlation.

A Gaussian field of unit variance and correlation g(r), cut at the level :math:`\tau` that a share
:math:`\phi` of it exceeds, has the two-point correlation (Cahn 1965; Berk 1991)

.. math::
    p_2(r) = \phi^2 + \frac1{2\pi} \int_0^{\arcsin g(r)}
        \exp\left(-\frac{\tau^2}{1 + \sin\theta}\right) d\theta .

`latent_correlation` inverts it; for :math:`\phi = 1/2` it is
:math:`g = \sin(\pi/2\,(p_2 - \phi^2)/(\phi - \phi^2))`. Not every p2 has a g that is a correlation:
the spectrum is clipped at zero, so a field so made has the given p2 nearly and not exactly.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

TABLE = 129


def latent_correlation(
    two_point: Float[Tensor, "batch radius"], volume_fraction: Float[Tensor, " batch"]
) -> Float[Tensor, "batch radius"]:
    """The Gaussian correlation g whose level cut has this p2; clipped to [-1, 1].

    The integral is tabulated at equal steps of arcsin g and inverted linearly.
    """
    phi = volume_fraction[:, None].clamp(1e-4, 1 - 1e-4)
    level = torch.special.ndtri(phi)
    theta = torch.linspace(-torch.pi / 2, torch.pi / 2, TABLE, dtype=torch.float64).to(two_point)
    rate = torch.exp(-level.square() / (1 + theta.sin()).clamp_min(1e-6)) / (2 * torch.pi)
    step = torch.pi / (TABLE - 1)
    integral = torch.cumulative_trapezoid(rate, dx=step, dim=1)
    integral = torch.cat([torch.zeros_like(phi), integral], 1)
    table = (integral - integral[:, TABLE // 2 : TABLE // 2 + 1]).contiguous()
    value = (two_point - phi.square()).contiguous()
    upper = torch.searchsorted(table, value).clamp(1, TABLE - 1)
    left, right = table.gather(1, upper - 1), table.gather(1, upper)
    share = ((value - left) / (right - left).clamp_min(1e-12)).clamp(0, 1)
    return (theta[0] + (upper - 1 + share) * step).sin()


@lru_cache(maxsize=16)
def radial_interpolation(
    rows: int, columns: int, radii: int, taper: float = 4.0
) -> Float[Tensor, "radius pixel"]:
    """Weights from a curve at integer radii to a periodic map of distances, float32.

    Linear between radii; beyond the last radius the curve falls off as a Gaussian of width `taper`
    from its last value.
    """
    y = torch.arange(rows).minimum(rows - torch.arange(rows)).double()
    x = torch.arange(columns).minimum(columns - torch.arange(columns)).double()
    distance = (y[:, None].square() + x[None, :].square()).sqrt().flatten()
    lower = distance.floor().long().clamp_max(radii - 1)
    share = (distance - lower).clamp(0, 1)
    share[lower == radii - 1] = 0.0
    weights = torch.zeros(radii, distance.numel(), dtype=torch.float64)
    index = torch.arange(distance.numel())
    weights[lower, index] += 1 - share
    weights[(lower + 1).clamp_max(radii - 1), index] += share
    decay = torch.exp(-((distance - (radii - 1)).clamp_min(0) / taper).square() / 2)
    return (weights * decay).float()


def random_field(
    noise: Float[Tensor, "batch rows columns"],
    correlation: Float[Tensor, "batch radius"],
    *,
    blur: Float[Tensor, " batch"] | float = 0.0,
) -> Float[Tensor, "batch rows columns"]:
    """White noise coloured to a radial correlation at integer radii, unit variance.

    Arguments:
        correlation: g(0), g(1), …; its negative spectral components are set to zero.
        blur: Standard deviation in pixels of a Gaussian filter on each field after that.
    """
    rows, columns = noise.shape[-2:]
    weights = radial_interpolation(rows, columns, correlation.shape[1]).to(noise)
    target = (correlation @ weights).unflatten(1, (rows, columns))
    power = torch.fft.rfft2(target).real.clamp_min(0)
    width = torch.as_tensor(blur).to(noise).reshape(-1, 1, 1)
    power = power * blur_transfer(rows, columns, 1.0).to(noise) ** (2 * width.square())
    power[:, 0, 0] = 0.0
    field = torch.fft.irfft2(torch.fft.rfft2(noise) * power.sqrt(), s=(rows, columns))
    return field / field.square().mean((-2, -1), keepdim=True).sqrt().clamp_min(1e-12)


@lru_cache(maxsize=16)
def blur_transfer(rows: int, columns: int, width: float) -> Float[Tensor, "rows half"]:
    """Half spectrum of a periodic Gaussian filter of standard deviation `width` pixels, float64."""
    down = 2 * torch.pi * torch.fft.fftfreq(rows, dtype=torch.float64)
    along = 2 * torch.pi * torch.fft.rfftfreq(columns, dtype=torch.float64)
    return torch.exp(-(width**2) / 2 * (down[:, None].square() + along.square()))
