"""Binary samples of an exact volume fraction, moved through the smooth field behind them."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.laws import Condition
from lawful.materials.random_field import blur_transfer, level_cut
from lawful.residuals import Parametrisation


@dataclass(frozen=True)
class LevelCut(Parametrisation):
    """A binary sample of exactly `volume_fraction` is the level cut of a field (batch, 1, *space).

    Its derivative is that of a sigmoid at the level, which follows so that the mean stays:
    :math:`\\delta x = s\\,(\\delta w - \\langle s\\,\\delta w\\rangle / \\langle s\\rangle)`.

    Arguments:
        steepness: Of the sigmoid, a unit of w.
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
