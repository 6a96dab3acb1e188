r"""Statistics as laws: volume fraction and two-point correlation (InvNet, section 3.3, eq. 8).

.. math::
    r_1 = p_1(x) - \phi,\qquad r_2(r) = w_r\,\left(p_2(x)(r) - p_2^*(r)\right)

with each sample's own target, `volume_fraction` (batch,) and `two_point` (batch, radius). Fields
have one channel with values in [0, 1].
"""

from dataclasses import dataclass
from functools import lru_cache
from math import inf, prod

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import AffineLaw, Condition, Law
from lawful.least_squares import like
from lawful.materials.statistics import RADII, Samples, pairs, shells, two_point


@dataclass(frozen=True)
class VolumeFraction(AffineLaw):
    """The mean of the field is `volume_fraction`."""

    name: str = "volume fraction"
    unit: str = "1"

    def __call__(self, x: Samples, c: Condition) -> Float[Tensor, "batch 1"]:
        return x.mean(tuple(range(1, x.ndim)))[:, None] - c["volume_fraction"][:, None]

    def enforce(self, x: Samples, c: Condition) -> Samples:
        """The nearest field of that mean: a constant is added. It keeps no field binary."""
        return x - like(self(x, c)[:, 0], x)

    def hide(self, x: Samples, c: Condition) -> Samples:
        return x - x.mean(tuple(range(2, x.ndim)), keepdim=True)

    def jacobian(self, x: Samples, c: Condition) -> Float[Tensor, "batch 1 1 *space"]:
        return torch.full_like(x, 1 / x[0].numel()).unsqueeze(1)


@dataclass(frozen=True)
class TwoPoint(Law):
    """The radial two-point correlation at 0, 1, …, radii - 1 pixels is the start of `two_point`.

    Arguments:
        radii: Number of radii (InvNet enforces the first few alone in figure 7c).
        weights: Of the radii, in the residual; those of weight 0 are left out of the violation too.
            None for 1 everywhere.
        modes: Cosine modes over the radii that are kept of the residual, lowest first, scaled so
            that the violation of a curve within them stays what it is. None for the curve itself.
        periodic: Lags wrap round; else the estimate from the pairs inside.

    Raises:
        InputError: There are not as many weights as radii, none is above 0, or there are fewer than
            one or more modes than radii that are kept.
    """

    radii: int = RADII
    weights: tuple[float, ...] | None = None
    modes: int | None = None
    periodic: bool = True
    name: str = "two-point correlation"
    unit: str = "probability"

    def __post_init__(self) -> None:
        weights = (1.0,) * self.radii if self.weights is None else self.weights
        if len(weights) != self.radii or not all(0 <= w < inf for w in weights) or not any(weights):
            raise InputError(
                f"two-point law: expected {self.radii} weights of at least 0 and one above, got "
                f"{len(weights)}: {weights}"
            )
        kept = sum(weight > 0 for weight in weights)
        if self.modes is not None and not 1 <= self.modes <= kept:
            raise InputError(f"two-point law: expected 1 to {kept} modes, got {self.modes}")

    def __call__(self, x: Samples, c: Condition) -> Float[Tensor, "batch residual"]:
        target = c["two_point"]
        if target.shape[-1] < self.radii:
            raise InputError(
                f"two-point law: expected targets at {self.radii} radii, got {target.shape[-1]}"
            )
        found = two_point(x[:, 0], self.radii, periodic=self.periodic, dims=x.ndim - 2)
        difference = found - target[:, : self.radii].to(found)
        if self.weights is None and self.modes is None:
            return difference
        return difference @ _view(self).to(difference).T

    def jacobian(self, x: Samples, c: Condition) -> Float[Tensor, "batch residual 1 *space"]:
        r"""Rows :math:`2/N\, (k_r * x)`, k_r the shell of radius r, by FFT.

        Without periods, x is padded and each lag weighed by its number of pairs.
        """
        space, axes = tuple(x.shape[2:]), tuple(range(2, x.ndim))
        size = _size(self, space)
        spectrum = torch.fft.rfftn(x, s=size, dim=axes) * _kernels(self, space, x.dtype).to(
            x.device
        )
        rows = torch.fft.irfftn(spectrum, s=size, dim=axes)
        return rows[..., *(slice(n) for n in space)].unsqueeze(2)


@lru_cache(maxsize=16)
def _view(law: TwoPoint) -> Float[Tensor, "residual radius"]:
    """What the law sees of a curve: weighted entries, or their lowest cosine modes; float64."""
    diagonal = torch.tensor(law.weights or (1.0,) * law.radii, dtype=torch.float64)
    seen = torch.diag(diagonal)[diagonal > 0]
    if law.modes is None:
        return seen
    places = (torch.arange(len(seen)).double() + 0.5) / len(seen)
    cosines = torch.cos(torch.pi * torch.arange(law.modes).double()[:, None] * places)
    return cosines / cosines.norm(dim=1, keepdim=True) * (law.modes / len(seen)) ** 0.5 @ seen


def _size(law: TwoPoint, space: tuple[int, ...]) -> tuple[int, ...]:
    return space if law.periodic else tuple(2 * n - 1 for n in space)


@lru_cache(maxsize=16)
def _kernels(
    law: TwoPoint, space: tuple[int, ...], dtype: torch.dtype
) -> Float[Tensor, "residual *half"]:
    """Spectra of the derivative of each residual by the field, but for the field itself."""
    size = _size(law, space)
    weights = shells(size, law.radii).T.unflatten(1, size)
    weights = weights / (prod(space) if law.periodic else pairs(space, size))
    rows = torch.einsum("sr,r...->s...", _view(law), weights)
    return (2 * torch.fft.rfftn(rows, dim=tuple(range(1, rows.ndim))).real).to(dtype)
