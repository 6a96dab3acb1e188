r"""A generator of space-time fields from an initial row and a few scalars.

.. math:: G(u_0, s)(t, x) = u_0(x) + t\, N(t, u_0, s)(x)

so the initial condition holds exactly, whatever the network N. The field carries `refinement`
times as many cells as the initial row: laws act on the fine cells, users read the coarse ones.
Beside the row itself, N sees it carried along characteristics of constant speed,
:math:`u_0(x - v t)`: transport then is a pointwise choice among its channels instead of
long-range memory, which is what carries over to initial conditions unlike the trained ones.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.laws import Condition, Law
from lawful.nn.unet import ScalarEmbedding, UNet
from lawful.pde.grid import refine
from lawful.pde.laws import InitialLaw


class EvolutionGenerator(nn.Module):
    """`{"initial": (B, cells), scalar: (B,), …}` to fields `(B, 1, times, cells * refinement)`.

    Arguments:
        cells, times: Cells of the initial row; rows of the field, the first at time zero.
        scalars: Range of each scalar of the condition, by name; there may be none.
        duration: Time of the last row, in units of length over speed where `speeds` are given.
        refinement: Fine cells per coarse cell.
        speeds: Characteristic speeds, of either sign, whose carried rows the network sees.
        periodic: Whether what is carried over an end comes in at the other; else zero does.
        nonnegative: Keep the refined initial row non-negative.
        exact_initial: Add the initial row, as above; otherwise the network has to learn it.
        width, depth, embedding: Those of the U-Net, which sees patches of 2 rows by 2 coarse cells.
    """

    def __init__(
        self,
        cells: int,
        times: int,
        scalars: Mapping[str, tuple[float, float]],
        *,
        duration: float = 1.0,
        refinement: int = 1,
        speeds: tuple[float, ...] = (),
        periodic: bool = False,
        nonnegative: bool = False,
        exact_initial: bool = True,
        width: int = 32,
        depth: int = 1,
        embedding: int = 64,
    ) -> None:
        super().__init__()
        unit = 2 ** (depth + 1)
        if cells % unit or times % unit:
            raise InputError(
                f"generator: cells = {cells} and times = {times} must be divisible by {unit}"
            )
        self.cells, self.times, self.refinement = cells, times, refinement
        self.scalars = tuple(scalars)
        self.nonnegative, self.exact_initial = nonnegative, exact_initial
        self.patch = (2, 2 * refinement)
        area = self.patch[0] * self.patch[1]
        time = torch.linspace(0, 1, times)
        self.register_buffer("time", time[:, None], persistent=False)
        self.shift = _Characteristics(cells * refinement, speeds, time * duration, periodic)
        self.embed = ScalarEmbedding([scalars[name] for name in scalars], embedding)
        self.net = UNet((2 + len(speeds)) * area, area, width, depth, embedding)

    time: Tensor

    def forward(self, condition: Condition) -> Float[Tensor, "batch 1 times fine"]:
        initial = refine(condition["initial"], self.refinement, nonnegative=self.nonnegative)
        rows = initial[:, None, None].expand(-1, -1, self.times, -1)
        clock = self.time.expand_as(rows)
        features = torch.cat([rows, clock, self.shift(initial)], 1)
        given = [condition[name].to(initial) for name in self.scalars]
        scalars = torch.stack(given, 1) if given else initial.new_empty(len(initial), 0)
        change = self.net(self._to_patches(features), self.embed(scalars))
        field = self._from_patches(change)
        return rows + self.time * field if self.exact_initial else field

    def obeys(self) -> tuple[Law, ...]:
        """The laws that every field of this generator obeys by construction."""
        return (InitialLaw(),) if self.exact_initial else ()

    def _to_patches(self, x: Tensor) -> Tensor:
        high, wide = self.patch
        x = x.unflatten(-1, (-1, wide)).unflatten(-3, (-1, high))
        return x.permute(0, 1, 3, 5, 2, 4).flatten(1, 3)

    def _from_patches(self, x: Tensor) -> Tensor:
        high, wide = self.patch
        x = x.unflatten(1, (-1, high, wide)).permute(0, 1, 4, 2, 5, 3)
        return x.flatten(-2).flatten(-3, -2)


class _Characteristics(nn.Module):
    """Rows `u0(x - v t)` for several speeds, by linear interpolation; zero beyond the ends or
    periodic."""

    lower: Tensor
    share: Tensor

    def __init__(self, cells: int, speeds: tuple[float, ...], time: Tensor, periodic: bool) -> None:
        super().__init__()
        self.periodic = periodic
        distance = torch.tensor(speeds).reshape(-1, 1, 1) * time[None, :, None] * cells
        place = torch.arange(cells) - distance
        lower: Int[Tensor, "speed time cell"] = place.floor().long()
        self.register_buffer("share", place - lower, persistent=False)
        # Two cells are added at each end: those over it, or what is repeated beyond it.
        beyond = lower % cells if periodic else lower.clamp(-2, cells)
        self.register_buffer("lower", beyond + 2, persistent=False)

    def forward(
        self, initial: Float[Tensor, "batch cells"]
    ) -> Float[Tensor, "batch speed time cells"]:
        padded = F.pad(initial, (2, 2), mode="circular" if self.periodic else "constant")
        left, right = padded[:, self.lower], padded[:, self.lower + 1]
        return left + self.share.to(initial) * (right - left)
