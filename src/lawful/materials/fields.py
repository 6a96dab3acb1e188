r"""Gaussian random fields and their level cuts: binary samples of an exact volume fraction.

The level cut of a field w of N cells is 1 on its round(phi N) largest, 0 elsewhere. That of a
Gaussian field of unit variance and correlation g(r), at the level :math:`\tau` that a share
:math:`\phi` of it exceeds, has the two-point correlation (Cahn 1965; Berk 1991)

.. math::
    p_2(r) = \phi^2 + \frac1{2\pi} \int_0^{\arcsin g(r)}
        \exp\left(-\frac{\tau^2}{1 + \sin\theta}\right) d\theta .

`latent_correlation` inverts it; for :math:`\phi = 1/2` it is
:math:`g = \sin(\pi/2\,(p_2 - \phi^2)/(\phi - \phi^2))`. Not every p2 has a g that is a correlation:
the spectrum is clipped at zero, so a field so made has the given p2 nearly and not exactly.

Where a cut is differentiated, a sigmoid s at the level stands in for it. The level follows so that
the mean stays: :math:`\delta x = s'\,(\delta w - \langle s'\,\delta w\rangle / \langle s'\rangle)`.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lawful.laws import Condition
from lawful.least_squares import Parametrisation, like
from lawful.materials.statistics import Curve, Field, Fraction

TABLE = 129
TAPER = 4.0  # pixels: width of the Gaussian by which a curve falls off beyond its last radius


@lru_cache(maxsize=16)
def squared_wavenumbers(
    shape: tuple[int, ...], spacing: float = 1.0, dtype: torch.dtype = torch.float64
) -> Float[Tensor, "*half"]:
    """k^2 on the half spectrum of real fields on a periodic grid."""
    *others, last = shape
    frequencies = [torch.fft.fftfreq(n, spacing, dtype=dtype) for n in others]
    frequencies.append(torch.fft.rfftfreq(last, spacing, dtype=dtype))
    squares = [(2 * torch.pi * k).square() for k in frequencies]
    return torch.stack(torch.meshgrid(*squares, indexing="ij")).sum(0)


def multiplicity(size: int) -> Float[Tensor, " half"]:
    """How often each entry of a half spectrum stands in the whole; float64."""
    twice = torch.full((size // 2 + 1,), 2.0, dtype=torch.float64)
    twice[[0, -1] if size % 2 == 0 else [0]] = 1.0
    return twice


@lru_cache(maxsize=16)
def blur_transfer(shape: tuple[int, ...], width: float) -> Float[Tensor, "*half"]:
    """Half spectrum of a periodic Gaussian filter of standard deviation `width` pixels, float64."""
    return torch.exp(-(width**2) / 2 * squared_wavenumbers(shape))


def latent_correlation(two_point: Curve, volume_fraction: Fraction) -> Curve:
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
def radial_interpolation(shape: tuple[int, ...], radii: int) -> Float[Tensor, "radius pixel"]:
    """Weights from a curve at integer radii to a periodic map of distances, float32.

    Linear between radii; beyond the last radius the curve falls off as a Gaussian.
    """
    sides = [torch.arange(n).minimum(n - torch.arange(n)).double().square() for n in shape]
    distance = torch.stack(torch.meshgrid(*sides, indexing="ij")).sum(0).sqrt().flatten()
    lower = distance.floor().long().clamp_max(radii - 1)
    share = (distance - lower).clamp(0, 1)
    share[lower == radii - 1] = 0.0
    weights = torch.zeros(radii, distance.numel(), dtype=torch.float64)
    index = torch.arange(distance.numel())
    weights[lower, index] += 1 - share
    weights[(lower + 1).clamp_max(radii - 1), index] += share
    decay = torch.exp(-((distance - (radii - 1)).clamp_min(0) / TAPER).square() / 2)
    return (weights * decay).float()


def random_field(noise: Field, correlation: Curve, *, blur: Fraction | float = 0.0) -> Field:
    """White noise coloured to a radial correlation at integer radii, unit variance.

    Arguments:
        correlation: g(0), g(1), …; its negative spectral components are set to zero.
        blur: Standard deviation in pixels of a Gaussian filter on each field after that.
    """
    space, axes = tuple(noise.shape[1:]), tuple(range(1, noise.ndim))
    weights = radial_interpolation(space, correlation.shape[1]).to(noise)
    target = (correlation @ weights).unflatten(1, space)
    power = torch.fft.rfftn(target, dim=axes).real.clamp_min(0)
    width = like(torch.as_tensor(blur).to(noise), noise)
    power = power * blur_transfer(space, 1.0).to(noise) ** (2 * width.square())
    power[:, *[0] * len(space)] = 0.0
    field = torch.fft.irfftn(torch.fft.rfftn(noise, dim=axes) * power.sqrt(), s=space, dim=axes)
    return field / field.square().mean(axes, keepdim=True).sqrt().clamp_min(1e-12)


def level_cut(field: Field, volume_fraction: Fraction) -> Field:
    """1 on the round(phi N) largest entries of each field of N, 0 elsewhere: the count is exact.

    Of entries equal to the smallest of these, the first in the order of memory are taken.
    """
    flat = field.detach().flatten(1)
    count = pixel_count(volume_fraction, flat.shape[1])
    phase = flat >= level(field, volume_fraction).flatten(1)
    if bool((surplus := phase.sum(1) != count).any()):  # equal entries, or none to take
        order = flat[surplus].argsort(dim=1, descending=True, stable=True)
        phase[surplus] = order.argsort(dim=1) < count[surplus, None]
    return phase.to(field.dtype).view_as(field)


def pixel_count(volume_fraction: Fraction, size: int) -> Int[Tensor, " batch"]:
    """round(phi N), the number of pixels in the phase."""
    return (volume_fraction.double() * size).round().long().clamp(0, size)


def level(field: Field, volume_fraction: Fraction) -> Float[Tensor, "batch *_"]:
    """The round(phi N)-th largest entry of each field, shaped to be compared with it."""
    flat = field.detach().flatten(1)
    size = flat.shape[1]
    place = (size - pixel_count(volume_fraction, size)).clamp(0, size - 1) + 1
    # Selection is several times faster than sorting.
    found = [row.kthvalue(k).values for row, k in zip(flat, place.tolist(), strict=True)]
    return like(torch.stack(found), field)


def straight_through(field: Field, volume_fraction: Fraction, steepness: float) -> Field:
    """`level_cut` with the gradient of a sigmoid there (Bengio, Léonard & Courville 2013)."""
    hard = level_cut(field, volume_fraction)
    if not field.requires_grad:
        return hard
    soft = torch.sigmoid(steepness * (field - level(field, volume_fraction)))
    return hard + (soft - soft.detach())


@dataclass(frozen=True)
class LevelCut(Parametrisation):
    """A binary sample of exactly `volume_fraction` is the level cut of a field (batch, 1, *space).

    Arguments:
        steepness: Of the sigmoid, per unit of w.
        blur: Standard deviation in pixels of the Gaussian that smooths steps: without it, noise at
            the scale of pixels roughens the interfaces.
    """

    steepness: float = 10.0
    blur: float = 1.5

    def field(self, w: Tensor, c: Condition) -> Tensor:
        return level_cut(w, c["volume_fraction"])

    def coordinates(self, rows: Tensor) -> Tensor:
        """The half spectrum, each entry times the root of how often it stands in the whole."""
        space = tuple(rows.shape[3:])
        weights = blur_transfer(space, self.blur) * multiplicity(space[-1]).sqrt()
        spectrum = torch.fft.rfftn(rows, dim=tuple(range(3, rows.ndim)), norm="ortho")
        return torch.view_as_real(spectrum * weights.to(rows)).flatten(2)

    def spread(self, v: Tensor) -> Tensor:
        space, axes = tuple(v.shape[2:]), tuple(range(2, v.ndim))
        transfer = blur_transfer(space, self.blur).square().to(v)
        return torch.fft.irfftn(torch.fft.rfftn(v, dim=axes) * transfer, s=space, dim=axes)

    def pull(self, rows: Tensor, w: Tensor, x: Tensor) -> Tensor:
        level = torch.where(x > 0.5, w, torch.inf).amin(tuple(range(1, w.ndim)), keepdim=True)
        soft = torch.sigmoid(self.steepness * (w - level))
        slope = (self.steepness * soft * (1 - soft)).flatten(1).unsqueeze(1)
        pulled = rows.flatten(2) * slope
        share = pulled.sum(2, keepdim=True) / slope.sum(2, keepdim=True).clamp_min(1e-12)
        return pulled.baddbmm_(share, slope, alpha=-1).view_as(rows)
