"""Boundary conditions of a one-dimensional grid, as ghost cells.

Each condition fills `width` ghost cells from the cells beside the boundary. `Dirichlet` fixes the
value *at the face* (odd reflection about it, second order), `Inflow` fixes the state upstream of
it, `Outflow` extrapolates the last cell, `Periodic` wraps around.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError


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


@dataclass(frozen=True)
class Boundaries:
    """The conditions at the left and at the right end."""

    left: Boundary
    right: Boundary

    def __post_init__(self) -> None:
        if isinstance(self.left, Periodic) != isinstance(self.right, Periodic):
            raise InputError("boundaries: periodic at one end only; both ends are needed")

    @classmethod
    def periodic(cls) -> "Boundaries":
        """Periodic at both ends."""
        return cls(Periodic(), Periodic())

    def speed(self) -> float:
        """Largest magnitude of a prescribed value."""
        ends = (self.left, self.right)
        return max(abs(e.value) if isinstance(e, Inflow | Dirichlet) else 0.0 for e in ends)

    def pad(self, u: Float[Tensor, "*batch cells"], width: int) -> Float[Tensor, "*batch padded"]:
        """`u` with `width` ghost cells at each end of the last axis."""
        if u.shape[-1] < width:
            raise InputError(f"boundaries: {u.shape[-1]} cells are fewer than {width} ghost cells")
        first, last = u[..., :width], u[..., -width:].flip(-1)
        left, right = self.left.ghosts(first, last), self.right.ghosts(last, first)
        return torch.cat([left.flip(-1), u, right], -1)
