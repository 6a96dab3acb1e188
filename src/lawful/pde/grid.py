r"""A uniform grid in one dimension that carries cell averages, and what lies beyond its ends.

A field on :math:`N` cells of width :math:`h` is the vector of
:math:`\bar u_i = h^{-1} \int_{x_i - h/2}^{x_i + h/2} u(x)\,dx`; halving a grid (`coarsen`) is then
exact, and doubling it (`refine`) is a conservative polynomial reconstruction.

A boundary fills ghost cells from the cells beside it. `Dirichlet` fixes the value *at the face*
(odd reflection about it, second order), `Inflow` fixes the state upstream of it, `Outflow`
extrapolates the last cell, `Periodic` wraps around.
"""

from abc import ABC, abstractmethod
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
    """Equal cells over an interval.

    Arguments:
        cells: Number of cells.
        lower, upper: Ends of the interval, in the unit of the coordinate.
    """

    cells: int
    lower: float = 0.0
    upper: float = 1.0

    def __post_init__(self) -> None:
        if self.cells < 1 or not self.lower < self.upper:
            raise InputError(f"grid: expected cells >= 1 and lower < upper, got {self}")

    @property
    def spacing(self) -> float:
        """Width of a cell."""
        return (self.upper - self.lower) / self.cells

    def faces(self) -> Float[Tensor, " faces"]:
        """Coordinates of the `cells + 1` faces, float64."""
        return torch.linspace(self.lower, self.upper, self.cells + 1, dtype=torch.float64)

    def centres(self) -> Float[Tensor, " cells"]:
        """Coordinates of the cell centres, float64."""
        faces = self.faces()
        return (faces[1:] + faces[:-1]) / 2

    def averages(self, primitive: Callable[[Tensor], Tensor]) -> Float[Tensor, "*batch cells"]:
        """Cell averages of the derivative of `primitive`, exact up to rounding.

        Arguments:
            primitive: An antiderivative; maps coordinates `(faces,)` to `(*batch, faces)`.
        """
        return primitive(self.faces()).diff(dim=-1) / self.spacing


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


def shifted(
    u: Float[Tensor, "*batch cells"], distance: Float[Tensor, "*#batch"]
) -> Float[Tensor, "*batch cells"]:
    r"""Averages of u(x - d) on a periodic grid, conservative and monotone.

    Whole cells are rolled. Over the fraction :math:`\theta` of a cell that remains, what crosses
    each face is :math:`\theta` times the average of u over the part of the cell behind it, of a
    piecewise linear reconstruction with van Leer's slopes (van Leer 1977): second order.

    Arguments:
        distance: d in units of cells, of either sign.
    """
    whole = distance.floor()
    theta = (distance - whole).unsqueeze(-1)
    cells = u.shape[-1]
    place = (torch.arange(cells, device=u.device) - whole.long().unsqueeze(-1)) % cells
    u = u.gather(-1, place.expand_as(u))
    step = u - u.roll(1, -1)
    after = step.roll(-1, -1)
    slope = 2 * (step * after).clamp_min(0) * (step + after)
    slope = slope / (step + after).square().clamp_min(1e-20)
    flow = theta * (u + (1 - theta) * slope / 2)
    return u - flow + flow.roll(1, -1)


class Boundary(ABC):
    """One end of the grid."""

    @abstractmethod
    def ghosts(
        self, near: Float[Tensor, "*batch width"], far: Float[Tensor, "*batch width"]
    ) -> Float[Tensor, "*batch width"]:
        """Ghost cells, ordered away from the boundary.

        Arguments:
            near: Cells beside this boundary, ordered away from it.
            far: Cells beside the opposite boundary, ordered away from that one.
        """


@dataclass(frozen=True)
class Inflow(Boundary):
    """The state outside is `value`."""

    value: float = 0.0

    def ghosts(self, near: Tensor, far: Tensor) -> Tensor:
        return torch.full_like(near, self.value)


@dataclass(frozen=True)
class Dirichlet(Boundary):
    """The state at the boundary face is `value`."""

    value: float = 0.0

    def ghosts(self, near: Tensor, far: Tensor) -> Tensor:
        return 2 * self.value - near


@dataclass(frozen=True)
class Outflow(Boundary):
    """Zero gradient: the last cell is extrapolated."""

    def ghosts(self, near: Tensor, far: Tensor) -> Tensor:
        return near[..., :1].expand_as(near)


@dataclass(frozen=True)
class Periodic(Boundary):
    """The two ends are one point."""

    def ghosts(self, near: Tensor, far: Tensor) -> Tensor:
        return far


def pad(
    u: Float[Tensor, "*batch cells"], width: int, left: Boundary, right: Boundary
) -> Float[Tensor, "*batch padded"]:
    """`u` with `width` ghost cells at each end of the last axis.

    Raises:
        InputError: There are fewer cells than ghost cells.
    """
    if u.shape[-1] < width:
        raise InputError(f"boundaries: {u.shape[-1]} cells are fewer than {width} ghost cells")
    first, last = u[..., :width], u[..., -width:].flip(-1)
    ghosts = left.ghosts(first, last), right.ghosts(last, first)
    return torch.cat([ghosts[0].flip(-1), u, ghosts[1]], -1)
