"""Initial and boundary values of space-time fields `(batch, 1, times, cells)`; affine laws."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import AffineLaw, Condition
from lawful.pde.grid import coarsen


@dataclass(frozen=True)
class InitialLaw(AffineLaw):
    """The first row has the cell averages of `condition[key]`, shape `(batch, cells)`.

    A field may carry a multiple of these cells; its groups of cells must then average to them, and
    `enforce` adds the same amount to every cell of a group, which is the nearest such field.
    """

    key: str = "initial"
    name: str = "initial"
    unit: str = "u"

    def __call__(
        self, x: Float[Tensor, "batch 1 times fine"], c: Condition
    ) -> Float[Tensor, "batch cells"]:
        return coarsen(x[:, 0, 0], self._factor(x, c)) - c[self.key]

    def enforce(
        self, x: Float[Tensor, "batch 1 times fine"], c: Condition
    ) -> Float[Tensor, "batch 1 times fine"]:
        return self._lower_first_row(x, self(x, c), self._factor(x, c))

    def hide(
        self, x: Float[Tensor, "batch 1 times fine"], c: Condition
    ) -> Float[Tensor, "batch 1 times fine"]:
        factor = self._factor(x, c)
        return self._lower_first_row(x, coarsen(x[:, 0, 0], factor), factor)

    @staticmethod
    def _lower_first_row(x: Tensor, amount: Tensor, factor: int) -> Tensor:
        row = x[:, :, :1] - amount.repeat_interleave(factor, -1)[:, None, None]
        return torch.cat([row, x[:, :, 1:]], 2)

    def _factor(self, x: Tensor, c: Condition) -> int:
        cells = c[self.key].shape[-1]
        if x.shape[-1] % cells:
            raise InputError(f"initial law: {x.shape[-1]} cells are no multiple of {cells}")
        return x.shape[-1] // cells


@dataclass(frozen=True)
class BoundaryLaw(AffineLaw):
    r"""The state at the left face is `value` at every time after the first.

    The face state of cell averages is :math:`(3 \bar u_0 - \bar u_1)/2`, second order.
    """

    value: float = 0.0
    name: str = "boundary"
    unit: str = "u"

    def __call__(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch steps"]:
        return self._face(x) - self.value

    def enforce(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch 1 times cells"]:
        return self._lower_face(x, self._face(x) - self.value)

    def hide(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch 1 times cells"]:
        return self._lower_face(x, self._face(x))

    @staticmethod
    def _face(x: Tensor) -> Tensor:
        return (3 * x[:, 0, 1:, 0] - x[:, 0, 1:, 1]) / 2

    @staticmethod
    def _lower_face(x: Tensor, amount: Tensor) -> Tensor:
        # The least change of (u0, u1) that lowers (3 u0 - u1)/2 by `amount`.
        change = torch.zeros_like(x)
        change[:, 0, 1:, 0] = 0.6 * amount
        change[:, 0, 1:, 1] = -0.2 * amount
        return x - change
