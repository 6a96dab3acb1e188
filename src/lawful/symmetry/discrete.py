"""Translations, reflections, permutations and finite matrix groups."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lawful.errors import InputError
from lawful.symmetry.group import Group

CLOSE = 1e-9


@dataclass(frozen=True, repr=False)
class Translations(Group):
    """Periodic translations of the last axes, by multiples of a step along each.

    Arguments:
        shape: Sizes of those axes.
        step: Of the translations; one entry an axis, each a divisor of its size.

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
        steps = torch.cartesian_prod(*(torch.arange(n) for n in self.counts))
        steps = steps.reshape(self.order, len(self.counts))
        index = torch.zeros(self.order, self.order, dtype=torch.long)
        for axis, count in enumerate(self.counts):
            index = index * count + (steps[:, None, axis] + steps[None, :, axis]) % count
        return index

    def act(self, x: Float[Tensor, "batch *shape"], element: int) -> Float[Tensor, "batch *shape"]:
        axes = tuple(range(-len(self.shape), 0))
        if x.ndim <= len(self.shape) or tuple(x.shape[a] for a in axes) != self.shape:
            raise InputError(f"{self.name}: got a tensor of shape {tuple(x.shape)}")
        shifts = [k * s for k, s in zip(self._steps(element), self.step, strict=True)]
        return x.roll(shifts, axes)

    def _steps(self, element: int) -> list[int]:
        steps = []
        for count in reversed(self.counts):
            element, k = divmod(element, count)
            steps.append(k)
        return steps[::-1]


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
        self._table = _multiplication(self.matrices)
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
    matrices[:, 0, 0], matrices[:, 0, 1], matrices[:, 1, 0], matrices[:, 1, 1] = cos, -sin, sin, cos
    # Quarter turns have whole entries; cos of a rounded π / 2 has not.
    matrices = torch.where((matrices - matrices.round()).abs() < CLOSE, matrices.round(), matrices)
    return MatrixGroup(matrices, f"C{turns} on 2 of {dimension} coordinates")


def _closure(matrices: Tensor, name: str, most: int) -> Tensor:
    """All products, the identity first."""
    found = [torch.eye(matrices.shape[-1], dtype=matrices.dtype)]
    for matrix in matrices:
        if not _among(matrix, found):
            found.append(matrix)
    generators, checked = found[1:], 0
    while checked < len(found):
        for generator in generators:
            product = found[checked] @ generator
            if not _among(product, found):
                found.append(product)
            if len(found) > most:
                raise InputError(f"{name}: generates more than {most} elements; is it finite?")
        checked += 1
    return torch.stack(found)


def _among(matrix: Tensor, found: Sequence[Tensor]) -> bool:
    return any(bool((matrix - one).abs().max() < 1e-6) for one in found)


def _multiplication(matrices: Tensor) -> Tensor:
    products = matrices[:, None] @ matrices[None, :]
    flat = matrices.flatten(1)
    order = len(matrices)
    table = torch.empty(order, order, dtype=torch.long)
    for i, j in itertools.product(range(order), repeat=2):
        table[i, j] = (flat - products[i, j].flatten()).abs().amax(1).argmin()
    return table
