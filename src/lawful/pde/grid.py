r"""Uniform Cartesian grids that carry cell averages.

A field on a grid of :math:`N` cells of width :math:`h` is the vector of
:math:`\bar u_i = h^{-1} \int_{x_i - h/2}^{x_i + h/2} u(x)\,dx`; halving a grid (`coarsen`) is then
exact, and doubling it (`refine`) is a conservative polynomial reconstruction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError


@dataclass(frozen=True)
class Grid:
    """`cells` equal cells over the box from `lower` to `upper`, an entry an axis.

    Arguments:
        cells: Number of cells along each axis.
        lower, upper: Corners of the box, in the units of the coordinates.
    """

    cells: tuple[int, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.cells) == len(self.lower) == len(self.upper):
            raise InputError(f"grid: cells, lower and upper differ in length in {self}")
        if min(self.cells) < 1 or any(a >= b for a, b in zip(self.lower, self.upper, strict=True)):
            raise InputError(f"grid: expected cells >= 1 and lower < upper, got {self}")

    @classmethod
    def line(cls, cells: int, lower: float = 0.0, upper: float = 1.0) -> "Grid":
        """One-dimensional grid over [lower, upper]."""
        return cls((cells,), (lower,), (upper,))

    def spacing(self, axis: int = 0) -> float:
        """Cell width along `axis`."""
        return (self.upper[axis] - self.lower[axis]) / self.cells[axis]

    def faces(self, axis: int = 0) -> Float[Tensor, " faces"]:
        """Coordinates of the `cells + 1` faces along `axis`, float64."""
        return torch.linspace(
            self.lower[axis], self.upper[axis], self.cells[axis] + 1, dtype=torch.float64
        )

    def centres(self, axis: int = 0) -> Float[Tensor, " cells"]:
        """Coordinates of the cell centres along `axis`, float64."""
        faces = self.faces(axis)
        return (faces[1:] + faces[:-1]) / 2

    def refined(self, factor: int) -> "Grid":
        """The same box with `factor` times as many cells along every axis."""
        return Grid(tuple(n * factor for n in self.cells), self.lower, self.upper)

    def averages(
        self, primitive: Callable[[Tensor], Tensor], axis: int = 0
    ) -> Float[Tensor, "*batch cells"]:
        """Cell averages of the derivative of `primitive`, exact up to rounding.

        Arguments:
            primitive: An antiderivative; maps coordinates `(faces,)` to `(*batch, faces)`.
        """
        return primitive(self.faces(axis)).diff(dim=-1) / self.spacing(axis)


def coarsen(u: Float[Tensor, "*batch fine"], factor: int) -> Float[Tensor, "*batch coarse"]:
    """Averages over groups of `factor` cells of the last axis; exact.

    Raises:
        InputError: `factor` does not divide the number of cells.
    """
    if u.shape[-1] % factor:
        raise InputError(f"coarsen: factor {factor} does not divide {u.shape[-1]} cells")
    return u.unflatten(-1, (-1, factor)).mean(-1)


def refine(
    u: Float[Tensor, "*batch coarse"], factor: int, *, nonnegative: bool = False
) -> Float[Tensor, "*batch fine"]:
    """Averages on cells `factor` times smaller, by conservative reconstruction of fifth order.

    Each cell is split by the quartic that has the right averages on the five nearest cells, so
    `coarsen(refine(u, k), k) == u`. With `nonnegative`, deviations inside a cell are scaled down
    where they would fall below zero (Zhang & Shu 2010, eq. 2.5), which keeps the averages.

    Raises:
        InputError: Fewer than five cells.
    """
    if factor == 1:
        return u
    weights = torch.from_numpy(_refinement_weights(u.shape[-1], factor)).to(u)
    fine = (u @ weights.T).unflatten(-1, (-1, factor))
    if nonnegative:
        mean = u.unsqueeze(-1)
        depth = (mean - fine).amax(-1, keepdim=True)
        fine = mean + (mean / depth.clamp_min(1e-30)).clamp(0, 1) * (fine - mean)
    return fine.flatten(-2)


@lru_cache(maxsize=16)
def _refinement_weights(cells: int, factor: int) -> np.ndarray:
    """Matrix `(cells * factor, cells)` from coarse to fine averages."""
    if cells < 5:
        raise InputError(f"refine: expected at least 5 cells, got {cells}")
    powers = np.arange(1, 6)
    weights = np.zeros((cells * factor, cells))
    for i in range(cells):
        first = min(max(i - 2, 0), cells - 5)
        coarse = np.diff(np.arange(first - i, first - i + 6)[:, None] ** powers / powers, axis=0)
        fine = np.diff((np.arange(factor + 1) / factor)[:, None] ** powers / powers, axis=0)
        weights[i * factor : (i + 1) * factor, first : first + 5] = (
            factor * fine @ np.linalg.inv(coarse)
        )
    return weights
