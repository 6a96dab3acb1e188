r"""Binary samples of an exact volume fraction: level cuts of smooth fields, and their moves.

The level cut of a field w of N pixels is 1 on its round(phi N) largest, 0 elsewhere. Where it is
differentiated, a sigmoid s at the level stands in for it. The level follows so that the mean stays:
:math:`\delta x = s'\,(\delta w - \langle s'\,\delta w\rangle / \langle s'\rangle)`.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lawful.laws import Condition
from lawful.least_squares import Parametrisation
from lawful.materials.fields import blur_transfer


def level_cut(
    field: Float[Tensor, "batch *space"], volume_fraction: Float[Tensor, " batch"]
) -> Float[Tensor, "batch *space"]:
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


def pixel_count(volume_fraction: Float[Tensor, " batch"], size: int) -> Int[Tensor, " batch"]:
    """round(phi N), the number of pixels in the phase."""
    return (volume_fraction.double() * size).round().long().clamp(0, size)


def level(
    field: Float[Tensor, "batch *space"], volume_fraction: Float[Tensor, " batch"]
) -> Float[Tensor, "batch *_"]:
    """The round(phi N)-th largest entry of each field, shaped to be compared with it."""
    flat = field.detach().flatten(1)
    size = flat.shape[1]
    place = (size - pixel_count(volume_fraction, size)).clamp(0, size - 1) + 1
    # Selection is several times faster than sorting.
    found = [row.kthvalue(k).values for row, k in zip(flat, place.tolist(), strict=True)]
    return torch.stack(found).view(-1, *[1] * (field.ndim - 1))


def straight_through(
    field: Float[Tensor, "batch *space"],
    volume_fraction: Float[Tensor, " batch"],
    steepness: float,
) -> Float[Tensor, "batch *space"]:
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
        weights, _ = _transfers(*rows.shape[-2:], self.blur, rows.dtype, rows.device)
        return torch.view_as_real(torch.fft.rfft2(rows, norm="ortho") * weights).flatten(2)

    def spread(self, v: Tensor) -> Tensor:
        _, transfer = _transfers(*v.shape[-2:], self.blur, v.dtype, v.device)
        return torch.fft.irfft2(torch.fft.rfft2(v) * transfer, s=v.shape[-2:])

    def pull(self, rows: Tensor, w: Tensor, x: Tensor) -> Tensor:
        level = torch.where(x > 0.5, w, torch.inf).amin(tuple(range(1, w.ndim)), keepdim=True)
        soft = torch.sigmoid(self.steepness * (w - level))
        slope = (self.steepness * soft * (1 - soft)).flatten(1).unsqueeze(1)
        pulled = rows.flatten(2) * slope
        share = pulled.sum(2, keepdim=True) / slope.sum(2, keepdim=True).clamp_min(1e-12)
        return pulled.baddbmm_(share, slope, alpha=-1).view_as(rows)


@lru_cache(maxsize=16)
def _transfers(
    rows: int, columns: int, blur: float, dtype: torch.dtype, device: torch.device
) -> tuple[Float[Tensor, "rows half"], Float[Tensor, "rows half"]]:
    """The blur on the half spectrum: times the root of each entry's multiplicity; and squared."""
    transfer = blur_transfer(rows, columns, blur)
    twice = torch.full((columns // 2 + 1,), 2.0, dtype=torch.float64)
    twice[0] = 1.0
    if columns % 2 == 0:
        twice[-1] = 1.0
    return (transfer * twice.sqrt()).to(device, dtype), transfer.square().to(device, dtype)
