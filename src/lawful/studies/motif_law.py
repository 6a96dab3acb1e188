"""Motifs: a pattern of given values on a set of pixels (InvNet, section 3.1, eq. 3)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import AffineLaw, Condition


@dataclass(frozen=True, eq=False)
class MotifLaw(AffineLaw):
    r"""P x = m: the entries of `mask` have the values of `motif`, in every sample and channel.

    .. math:: r(x) = (x_i - m_i)_{i \in \Omega}

    Arguments:
        mask: The set Omega, over the last axes of a field.
        motif: The values; those outside the mask are of no account.
    """

    mask: Bool[Tensor, "*space"]
    motif: Float[Tensor, "*space"]
    name: str = "motif"
    unit: str = "grey level"

    def __post_init__(self) -> None:
        if self.mask.shape != self.motif.shape or not bool(self.mask.any()):
            raise InputError(
                f"motif: expected a mask with at least one pixel and values of its shape, got "
                f"{int(self.mask.sum())} pixels of {tuple(self.mask.shape)} and "
                f"{tuple(self.motif.shape)}"
            )
        if self.mask.dtype != torch.bool or not bool(torch.isfinite(self.motif[self.mask]).all()):
            raise InputError("motif: expected a mask of truth values and finite values on it")

    def __call__(
        self, x: Float[Tensor, "batch channel *space"], c: Condition
    ) -> Float[Tensor, "batch channel pixel"]:
        self._check(x)
        return x[..., self.mask.to(x.device)] - self.motif[self.mask].to(x)

    def enforce(
        self, x: Float[Tensor, "batch channel *space"], c: Condition
    ) -> Float[Tensor, "batch channel *space"]:
        self._check(x)
        return torch.where(self.mask.to(x.device), self.motif.to(x), x)

    def hide(
        self, x: Float[Tensor, "batch channel *space"], c: Condition
    ) -> Float[Tensor, "batch channel *space"]:
        self._check(x)
        return x.masked_fill(self.mask.to(x.device), 0.0)

    def _check(self, x: Tensor) -> None:
        if x.shape[-self.mask.ndim :] != self.mask.shape:
            raise InputError(
                f"motif: expected fields of {tuple(self.mask.shape)}, got {tuple(x.shape)}"
            )


def plus(side: int, size: int, row: int, column: int) -> Bool[Tensor, "side side"]:
    """A plus of `size` pixels across, centred at (row, column) of a square image.

    Raises:
        InputError: It does not fit into the image, or its size is no odd number.
    """
    mask, along = _empty(side, size, row, column)
    mask[row, column + along] = mask[row + along, column] = True
    return mask


def cross(side: int, size: int, row: int, column: int) -> Bool[Tensor, "side side"]:
    """A cross of two diagonals, `size` pixels across, centred at (row, column).

    Raises:
        InputError: It does not fit into the image, or its size is no odd number.
    """
    mask, along = _empty(side, size, row, column)
    mask[row + along, column + along] = mask[row + along, column - along] = True
    return mask


def _empty(side: int, size: int, row: int, column: int) -> tuple[Tensor, Tensor]:
    """A mask of nothing, and the steps from the centre of a shape."""
    if size < 1 or size % 2 == 0:
        raise InputError(f"motif: expected an odd size, got {size}")
    reach = size // 2
    if not (reach <= row < side - reach and reach <= column < side - reach):
        raise InputError(
            f"motif: {size} pixels around ({row}, {column}) do not fit into {side} x {side}"
        )
    return torch.zeros(side, side, dtype=torch.bool), torch.arange(-reach, reach + 1)
