r"""Gaussian random fields on the cells of a rectangle, by their modes.

The covariance is :math:`(-\Delta + \tau^2)^{-\alpha}` with zero normal derivative at the boundary:
the field is the sum of the cosines :math:`\cos(\pi k x)`, each with an independent normal
coefficient of the variance :math:`(\pi^2 |k|^2 + \tau^2)^{-\alpha}`. As in the generator of
published Darcy flows (Li et al. 2021) the constant mode is left out: every field has the mean zero.
"""

from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor


def neumann_field(
    noise: Float[Tensor, "batch rows columns"], *, shift: float = 9.0, power: float = 2.0
) -> Float[Tensor, "batch rows columns"]:
    """White noise coloured to the covariance (-Δ + shift)^-power on the unit square.

    Its variance, averaged over the square, is one.
    """
    rows, columns = noise.shape[-2:]
    down, along = (_cosines(n).to(noise) for n in (rows, columns))
    k, j = (torch.arange(n, dtype=torch.float64) for n in (rows, columns))
    variance = (torch.pi**2 * (k[:, None].square() + j.square()) + shift) ** -power
    variance[0, 0] = 0.0
    deviation = (variance / variance.sum()).sqrt().to(noise)
    return down.mT @ (deviation * noise) @ along


@lru_cache(maxsize=16)
def _cosines(cells: int) -> Float[Tensor, "mode cells"]:
    """Cosines at the centres of cells, of mean square one; float64."""
    k = torch.arange(cells, dtype=torch.float64)
    modes = torch.cos(torch.pi / cells * torch.outer(k, k + 0.5)) * 2**0.5
    modes[0] = 1.0
    return modes
