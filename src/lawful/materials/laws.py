r"""Statistics as laws: volume fraction and two-point correlation (InvNet, section 3.3, eq. 8).

.. math::
    r_1 = p_1(x) - \phi,\qquad r_2(r) = w_r\,\left(p_2(x)(r) - p_2^*(r)\right)

with each sample's own target, `volume_fraction` (batch,) and `two_point` (batch, radius). Fields
have one channel with values in [0, 1].
"""

from dataclasses import dataclass
from functools import lru_cache
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import AffineLaw, Condition, LinearizedLaw
from lawful.materials.statistics import RADII, pairs, shells, two_point


@dataclass(frozen=True)
class VolumeFraction(AffineLaw, LinearizedLaw):
    """The mean of the field is `volume_fraction`."""

    name: str = "volume fraction"
    unit: str = "1"

    def __call__(
        self, x: Float[Tensor, "batch 1 rows columns"], c: Condition
    ) -> Float[Tensor, "batch 1"]:
        return x.mean((1, 2, 3))[:, None] - c["volume_fraction"][:, None]

    def enforce(
        self, x: Float[Tensor, "batch 1 rows columns"], c: Condition
    ) -> Float[Tensor, "batch 1 rows columns"]:
        """The nearest field of that mean: a constant is added. It keeps no field binary."""
        return x - self(x, c)[..., None, None]

    def hide(
        self, x: Float[Tensor, "batch 1 rows columns"], c: Condition
    ) -> Float[Tensor, "batch 1 rows columns"]:
        return x - x.mean((-2, -1), keepdim=True)

    def jacobian(
        self, x: Float[Tensor, "batch 1 rows columns"], c: Condition
    ) -> Float[Tensor, "batch 1 1 rows columns"]:
        return torch.full_like(x, 1 / x[0].numel()).unsqueeze(1)


@dataclass(frozen=True)
class TwoPoint(LinearizedLaw):
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

    def __call__(
        self, x: Float[Tensor, "batch 1 rows columns"], c: Condition
    ) -> Float[Tensor, "batch residual"]:
        target = c["two_point"]
        if target.shape[-1] < self.radii:
            raise InputError(
                f"two-point law: expected targets at {self.radii} radii, got {target.shape[-1]}"
            )
        found = two_point(x[:, 0], self.radii, periodic=self.periodic)
        difference = found - target[:, : self.radii].to(found)
        if self.weights is None and self.modes is None:
            return difference
        return difference @ view(self.radii, self.weights, self.modes).to(difference).T

    def jacobian(
        self, x: Float[Tensor, "batch 1 rows columns"], c: Condition
    ) -> Float[Tensor, "batch residual 1 rows columns"]:
        r"""Rows :math:`2/N^2\, (k_r * x)`, k_r the shell of radius r, by FFT.

        Without periods, x is padded and each lag weighed by its number of pairs.
        """
        rows, columns = x.shape[-2:]
        size = (rows, columns) if self.periodic else (2 * rows - 1, 2 * columns - 1)
        kernels = _kernels(
            rows, columns, self.radii, self.weights, self.modes, self.periodic, x.dtype
        ).to(x.device)
        found = torch.fft.irfft2(torch.fft.rfft2(x, s=size) * kernels, s=size)
        return found[..., :rows, :columns].unsqueeze(2)


@lru_cache(maxsize=16)
def view(
    radii: int, weights: tuple[float, ...] | None, modes: int | None
) -> Float[Tensor, "residual radius"]:
    """What is seen of a curve: its weighted entries, or their lowest cosine modes; float64."""
    diagonal = torch.tensor(weights or (1.0,) * radii, dtype=torch.float64)
    seen = torch.diag(diagonal)[diagonal > 0]
    if modes is None:
        return seen
    places = (torch.arange(len(seen)).double() + 0.5) / len(seen)
    cosines = torch.cos(torch.pi * torch.arange(modes).double()[:, None] * places)
    return cosines / cosines.norm(dim=1, keepdim=True) * (modes / len(seen)) ** 0.5 @ seen


@lru_cache(maxsize=16)
def _kernels(
    rows: int,
    columns: int,
    radii: int,
    kept: tuple[float, ...] | None,
    modes: int | None,
    periodic: bool,
    dtype: torch.dtype,
) -> Float[Tensor, "residual rows half"]:
    """Spectra of the derivative of each residual by the field, but for the field itself."""
    size = (rows, columns) if periodic else (2 * rows - 1, 2 * columns - 1)
    weights = shells(*size, radii).T.unflatten(1, size)
    weights = weights / (rows * columns) if periodic else weights / pairs(rows, columns, *size)
    spectra = torch.fft.rfft2(torch.einsum("sr,rij->sij", view(radii, kept, modes), weights))
    return (2 * spectra.real).to(dtype)
