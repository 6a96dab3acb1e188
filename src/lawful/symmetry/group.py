r"""Finite groups acting linearly on tensors with a leading batch axis.

An action is :math:`T_{gh} = T_g T_h`. Element 0 is the identity. A group knows its multiplication
table and its action, and nothing of the networks built on it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lawful.errors import InputError

CLOSE = 1e-9


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


class Fixed(Group):
    """The action of a group that moves nothing: what invariant functions map to."""

    def __init__(self, group: Group) -> None:
        self.group = group

    @property
    def name(self) -> str:
        return f"{self.group.name}, moving nothing"

    @property
    def order(self) -> int:
        return self.group.order

    @property
    def table(self) -> Int[Tensor, "order order"]:
        return self.group.table

    def act(self, x: Float[Tensor, "batch *shape"], element: int) -> Float[Tensor, "batch *shape"]:
        return x


class Fields(Fixed):
    r"""A group on fields over it, `(batch, field, order, …)`: the regular representation.

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


@dataclass(frozen=True, repr=False)
class Translations(Group):
    """Periodic translations of the last axes, by multiples of a step along each.

    Arguments:
        shape: Sizes of those axes.
        step: Of the translations; one entry per axis, each a divisor of its size.

    Raises:
        InputError: A step does not divide its size.
    """

    shape: tuple[int, ...]
    step: tuple[int, ...]

    def __post_init__(self) -> None:
        fits = len(self.shape) == len(self.step) > 0
        if not fits or any(s < 1 or n < 1 or n % s for n, s in zip(self.shape, self.step)):  # noqa: B905
            raise InputError(f"translations: steps {self.step} do not divide sizes {self.shape}")

    @property
    def name(self) -> str:
        steps, sizes = (" x ".join(map(str, entry)) for entry in (self.step, self.shape))
        return f"translations by {steps} of {sizes}"

    @property
    def counts(self) -> tuple[int, ...]:
        """Translations along each axis."""
        return tuple(n // s for n, s in zip(self.shape, self.step, strict=True))

    @property
    def order(self) -> int:
        return prod(self.counts)

    @cached_property
    def table(self) -> Int[Tensor, "order order"]:
        steps = np.stack(np.unravel_index(np.arange(self.order), self.counts))
        sums = (steps[:, :, None] + steps[:, None, :]) % np.array(self.counts)[:, None, None]
        return torch.from_numpy(np.ravel_multi_index(tuple(sums), self.counts))

    def act(self, x: Float[Tensor, "batch *shape"], element: int) -> Float[Tensor, "batch *shape"]:
        axes = tuple(range(-len(self.shape), 0))
        if x.ndim <= len(self.shape) or tuple(x.shape[a] for a in axes) != self.shape:
            raise InputError(f"{self.name}: got a tensor of shape {tuple(x.shape)}")
        counts = np.unravel_index(element, self.counts)
        return x.roll([int(k) * s for k, s in zip(counts, self.step, strict=True)], axes)


@dataclass(frozen=True, repr=False)
class Reflections(Group):
    """Independent reflections of some axes, counted from the last: Z_2 to their number.

    Raises:
        InputError: An axis is not negative, or is named twice.
    """

    axes: tuple[int, ...] = (-1,)

    def __post_init__(self) -> None:
        if not self.axes or len(set(self.axes)) < len(self.axes) or max(self.axes) >= 0:
            raise InputError(f"reflections: expected different axes below 0, got {self.axes}")

    @property
    def name(self) -> str:
        return f"reflections of axes {', '.join(map(str, self.axes))}"

    @property
    def order(self) -> int:
        return int(2 ** len(self.axes))

    @cached_property
    def table(self) -> Int[Tensor, "order order"]:
        elements = torch.arange(self.order)
        return elements[:, None] ^ elements[None, :]

    def act(self, x: Float[Tensor, "batch *shape"], element: int) -> Float[Tensor, "batch *shape"]:
        if x.ndim <= -min(self.axes):
            raise InputError(f"{self.name}: got a tensor of shape {tuple(x.shape)}")
        flipped = [axis for bit, axis in enumerate(self.axes) if element >> bit & 1]
        return x.flip(flipped)


class MatrixGroup(Group):
    """A finite group of matrices, acting on vectors along the last axis.

    Arguments:
        matrices: Its elements or generators of them, (count, d, d); the identity is added, first.
        name: For reports.
        most: Elements at which the closure is given up.

    Raises:
        InputError: The matrices are not square and finite, not invertible, or generate more than
            `most` elements.
    """

    def __init__(
        self, matrices: Float[Tensor, "*shape"], name: str = "matrix group", most: int = 1024
    ) -> None:
        shape = tuple(matrices.shape)
        square = matrices.ndim == 3 and shape[1] == shape[2]
        if not square or not bool(torch.isfinite(matrices).all()):
            raise InputError(f"{name}: expected finite (count, d, d), got {shape}")
        self._name = name
        self.matrices = _closure(matrices.double(), name, most)
        flat = self.matrices.flatten(1)
        products = ((one @ self.matrices).flatten(1) for one in self.matrices)
        self._table = torch.stack([torch.cdist(each, flat).argmin(1) for each in products])
        whole = torch.arange(len(self._table))
        if not torch.equal(self._table.sort(1).values, whole.expand_as(self._table)):
            raise InputError(f"{name}: its matrices have no inverses among their products")

    @property
    def name(self) -> str:
        return self._name

    @property
    def order(self) -> int:
        return len(self.matrices)

    @property
    def table(self) -> Int[Tensor, "order order"]:
        return self._table

    def act(self, x: Float[Tensor, "batch *shape"], element: int) -> Float[Tensor, "batch *shape"]:
        size = self.matrices.shape[-1]
        if x.ndim < 2 or x.shape[-1] != size:
            raise InputError(f"{self.name}: expected vectors of {size}, got {tuple(x.shape)}")
        return x @ self.matrices[element].to(x).T


def permutations(generators: Sequence[Sequence[int]]) -> MatrixGroup:
    """The group that permutations generate: `(1, 2, 0)` puts entry 1 of a vector first.

    Raises:
        InputError: One of them is not a permutation of 0 … d - 1.
    """
    return signed_permutations([[(place, 1) for place in one] for one in generators])


def signed_permutations(generators: Sequence[Sequence[tuple[int, int]]]) -> MatrixGroup:
    """The group of permutations with signs: `((1, -1), (0, 1))` is (x, y) to (-y, x).

    Raises:
        InputError: One of them is not a permutation, or a sign is neither 1 nor -1.
    """
    size = len(generators[0]) if generators else 0
    for one in generators:
        places, signs = [p for p, _ in one], {s for _, s in one}
        if sorted(places) != list(range(size)) or not signs <= {1, -1} or not size:
            raise InputError(f"permutation {list(one)}: expected places 0 to {size - 1}, signs ±1")
    matrices = torch.zeros(len(generators), size, size, dtype=torch.float64)
    for matrix, one in zip(matrices, generators, strict=True):
        for row, (place, sign) in enumerate(one):
            matrix[row, place] = sign
    return MatrixGroup(matrices, f"permutations of {size}")


def plane_rotations(turns: int, dimension: int) -> MatrixGroup:
    """C_n on the first two of `dimension` coordinates."""
    if turns < 1 or dimension < 2:
        raise InputError(f"rotations: {turns} in a turn, of {dimension} coordinates")
    angles = 2 * torch.pi * torch.arange(turns, dtype=torch.float64) / turns
    matrices = torch.eye(dimension, dtype=torch.float64).repeat(turns, 1, 1)
    cos, sin = angles.cos(), angles.sin()
    matrices[:, :2, :2] = torch.stack([cos, -sin, sin, cos], 1).reshape(turns, 2, 2)
    # Quarter turns have whole entries; cos of a rounded π / 2 has not.
    matrices = torch.where((matrices - matrices.round()).abs() < CLOSE, matrices.round(), matrices)
    return MatrixGroup(matrices, f"C{turns} on 2 of {dimension} coordinates")


def _closure(generators: Tensor, name: str, most: int) -> Tensor:
    """All products, the identity first."""
    found = [torch.eye(generators.shape[-1], dtype=generators.dtype)]
    for element in found:  # it grows until every product is in it
        for generator in generators:
            product = element @ generator
            if not any(bool((product - one).abs().max() < 1e-6) for one in found):
                found.append(product)
            if len(found) > most:
                raise InputError(f"{name}: generates more than {most} elements; is it finite?")
    return torch.stack(found)
