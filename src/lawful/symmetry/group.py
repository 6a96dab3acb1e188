r"""Finite groups acting linearly on tensors with a leading batch axis.

An action is :math:`T_{gh} = T_g T_h`. Element 0 is the identity. A group knows its multiplication
table and its action, and nothing of the networks built on it.
"""

from abc import ABC, abstractmethod
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lawful.errors import InputError


class Group(ABC):
    """A finite group and one action of it.

    `exact` says whether the action is one on the grid; where it is not (rotations by less than a
    quarter turn interpolate), it obeys :math:`T_{gh} = T_g T_h` only approximately.
    """

    exact: bool = True

    @property
    @abstractmethod
    def name(self) -> str:
        """For reports, e.g. `D4`."""

    @property
    @abstractmethod
    def order(self) -> int:
        """Number of elements."""

    @property
    @abstractmethod
    def table(self) -> Int[Tensor, "order order"]:
        """Products: entry (i, j) is the element g_i g_j, which applies g_j first."""

    @abstractmethod
    def act(self, x: Float[Tensor, "batch *shape"], element: int) -> Float[Tensor, "batch *shape"]:
        """T_g x of every sample.

        Raises:
            InputError: The group does not act on this shape.
        """

    def product(self, first: int, second: int) -> int:
        """The element that applies `second`, then `first`."""
        return int(self.table[first, second])

    @cached_property
    def inverse(self) -> Int[Tensor, " order"]:
        """The inverse of every element."""
        return (self.table == 0).int().argmax(1)

    def orbit(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "order batch *shape"]:
        """T_g x for every element."""
        return torch.stack([self.act(x, g) for g in range(self.order)])

    def act_each(
        self, x: Float[Tensor, "batch *shape"], elements: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch *shape"]:
        """T_g x with an element of its own for every sample; no other is computed.

        Raises:
            InputError: There are not as many elements as samples, or the group has no such element.
        """
        if elements.shape != x.shape[:1]:
            raise InputError(
                f"{self.name}: expected an element per sample, got {tuple(elements.shape)} for "
                f"{tuple(x.shape)}"
            )
        there = elements.unique().tolist()
        if there and not 0 <= there[0] <= there[-1] < self.order:
            raise InputError(
                f"{self.name}: expected elements from 0 to {self.order - 1}, got {there[0]} to "
                f"{there[-1]}"
            )
        if len(there) < 2:
            return self.act(x, there[0]) if there else x
        moved = torch.cat([self.act(x[elements == g], g) for g in there])
        return moved[elements.argsort(stable=True).argsort()]

    def random(self, count: int, generator: torch.Generator | None = None) -> Int[Tensor, " count"]:
        """Elements drawn uniformly."""
        return torch.randint(self.order, (count,), generator=generator)

    def fields(self) -> "Fields":
        """The same group on fields over it, what group convolutions map to."""
        return Fields(self)

    def __repr__(self) -> str:
        return self.name


class _OtherAction(Group):
    """Another action of a group: its order and its products."""

    def __init__(self, group: Group) -> None:
        self.group = group

    @property
    def order(self) -> int:
        return self.group.order

    @property
    def table(self) -> Int[Tensor, "order order"]:
        return self.group.table


class Fields(_OtherAction):
    r"""Fields over the group, `(batch, field, order, …)`: the regular representation.

    .. math:: (T_g f)_h = T_g f_{g^{-1} h}
    """

    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self.exact = group.exact

    @property
    def name(self) -> str:
        return f"fields over {self.group.name}"

    def act(self, x: Float[Tensor, "batch *shape"], element: int) -> Float[Tensor, "batch *shape"]:
        if x.ndim < 3 or x.shape[2] != self.order:
            raise InputError(
                f"{self.name}: expected (batch, field, {self.order}, …), got {tuple(x.shape)}"
            )
        origin = self.group.table[self.group.inverse[element]].to(x.device)
        return self.group.act(x[:, :, origin], element)


class Fixed(_OtherAction):
    """The action that moves nothing: what invariant functions map to."""

    @property
    def name(self) -> str:
        return f"{self.group.name}, moving nothing"

    def act(self, x: Float[Tensor, "batch *shape"], element: int) -> Float[Tensor, "batch *shape"]:
        return x
