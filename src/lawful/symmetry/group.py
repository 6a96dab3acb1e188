r"""Finite groups acting linearly on tensors with a leading batch axis.

An action is :math:`T_{gh} = T_g T_h`. Element 0 is the identity. A group knows its multiplication
table and its action, and nothing of the networks built on it.
"""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lawful.errors import InputError

CLOSE = 1e-9  # rounding of an entry
SAME = 1e-6  # entries of equal matrices, after many products


class Group:
    """A finite group and one action of it.

    Arguments:
        name: For reports, e.g. `D4`.
        table: Products: entry (i, j) is the element g_i g_j, which applies g_j first.
        action: T_g x of a batch x and an element's number; refuses a shape that it does not know.
        exact: Whether the action is one on the grid. Where it is not (rotations by less than a
            quarter turn interpolate), it obeys :math:`T_{gh} = T_g T_h` only approximately.

    Raises:
        InputError: An element has no inverse.
    """

    def __init__(
        self,
        name: str,
        table: Int[Tensor, "order order"],
        action: Callable[[Tensor, int], Tensor],
        *,
        exact: bool = True,
    ) -> None:
        self.name, self.table, self.exact = name, table, exact
        self.order = len(table)
        self.inverse = (table == 0).int().argmax(1)
        self._action = action
        if not torch.equal(table.sort(1).values, torch.arange(self.order).expand_as(table)):
            raise InputError(f"{name}: there are no inverses among its products")

    def act(self, x: Float[Tensor, "batch *shape"], element: int) -> Float[Tensor, "batch *shape"]:
        """T_g x of every sample.

        Raises:
            InputError: There is no such element, or the group does not act on this shape.
        """
        if not 0 <= element < self.order:
            raise InputError(
                f"{self.name}: expected an element from 0 to {self.order - 1}, got {element}"
            )
        return self._action(x, element)

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
        _expect(elements.shape == x.shape[:1], f"{self.name}: expected an element per sample", x)
        there = elements.unique().tolist()
        if len(there) < 2:
            return self.act(x, there[0]) if there else x
        moved = torch.cat([self.act(x[elements == g], g) for g in there])
        return moved[elements.argsort(stable=True).argsort()]

    def random(self, count: int, generator: torch.Generator | None = None) -> Int[Tensor, " count"]:
        """Elements drawn uniformly."""
        return torch.randint(self.order, (count,), generator=generator)

    def fixed(self) -> "Group":
        """The same group moving nothing: what invariant functions map to."""
        return Group(f"{self.name}, moving nothing", self.table, lambda x, element: x)

    def fields(self) -> "Group":
        r"""The same group on fields over it, `(batch, field, order, …)`.

        Group convolutions map to it: :math:`(T_g f)_h = T_g f_{g^{-1} h}`.
        """
        name = f"fields over {self.name}"

        def act(x: Tensor, element: int) -> Tensor:
            fits = x.ndim >= 3 and x.shape[2] == self.order
            _expect(fits, f"{name}: expected (batch, field, {self.order}, …)", x)
            return self.act(x[:, :, self.table[self.inverse[element]].to(x.device)], element)

        return Group(name, self.table, act, exact=self.exact)

    def __repr__(self) -> str:
        return self.name


def _expect(fits: bool, expectation: str, x: Tensor) -> None:
    if not fits:
        raise InputError(f"{expectation}, got {tuple(x.shape)}")


def translations(shape: Sequence[int], step: Sequence[int]) -> Group:
    """Periodic translations of the last axes.

    Arguments:
        shape: Sizes of those axes.
        step: What each axis is moved by multiples of; a divisor of its size.

    Raises:
        InputError: A step does not divide its size.
    """
    fits = len(shape) == len(step) > 0
    if not fits or any(s < 1 or n < 1 or n % s for n, s in zip(shape, step, strict=True)):
        raise InputError(f"translations: steps {step} do not divide sizes {shape}")
    counts = tuple(n // s for n, s in zip(shape, step, strict=True))
    steps = np.stack(np.unravel_index(np.arange(prod(counts)), counts))
    sums = (steps[:, :, None] + steps[:, None, :]) % np.array(counts)[:, None, None]
    by, of = (" x ".join(map(str, entry)) for entry in (step, shape))
    name, count = f"translations by {by} of {of}", len(shape)

    def act(x: Tensor, element: int) -> Tensor:
        fits = x.ndim > count and tuple(x.shape[-count:]) == tuple(shape)
        _expect(fits, f"{name}: expected (batch, …, {', '.join(map(str, shape))})", x)
        return x.roll((steps[:, element] * step).tolist(), tuple(range(-count, 0)))

    return Group(name, torch.from_numpy(np.ravel_multi_index(tuple(sums), counts)), act)


def reflections(*axes: int) -> Group:
    """Independent reflections of some axes, counted from the last: Z_2 to their number.

    Raises:
        InputError: An axis is not negative, or is named twice, or there is none.
    """
    if not axes or len(set(axes)) < len(axes) or max(axes) >= 0:
        raise InputError(f"reflections: expected different axes below 0, got {axes}")
    elements = torch.arange(2 ** len(axes))
    name = f"reflections of axes {', '.join(map(str, axes))}"

    def act(x: Tensor, element: int) -> Tensor:
        _expect(x.ndim > -min(axes), f"{name}: expected a batch with these axes", x)
        return x.flip([axis for bit, axis in enumerate(axes) if element >> bit & 1])

    return Group(name, elements[:, None] ^ elements[None, :], act)


def matrix_group(
    matrices: Float[Tensor, "*shape"], name: str = "matrix group", most: int = 1024
) -> Group:
    """A finite group of matrices, acting on vectors along the last axis.

    Arguments:
        matrices: Its elements or generators of them, (count, d, d); the identity is added, first.
        name: For reports.
        most: Elements at which the closure is given up.

    Raises:
        InputError: The matrices are not square and finite, not invertible, or generate more than
            `most` elements.
    """
    square = matrices.ndim == 3 and matrices.shape[1] == matrices.shape[2]
    finite = square and bool(torch.isfinite(matrices).all())
    _expect(finite, f"{name}: expected finite (count, d, d)", matrices)
    elements, table = _closure(matrices.double(), name, most)
    size = matrices.shape[-1]

    def act(x: Tensor, element: int) -> Tensor:
        _expect(x.ndim > 1 and x.shape[-1] == size, f"{name}: expected vectors of {size}", x)
        return x @ elements[element].to(x).T

    return Group(name, table, act)


def _closure(
    generators: Float[Tensor, "count d d"], name: str, most: int
) -> tuple[Float[Tensor, "order d d"], Int[Tensor, "order order"]]:
    """All products of generators, the identity first, and their multiplication table.

    Breadth first. Every element but the identity is an earlier one times a generator, so that all
    products follow from those with generators on the right.
    """
    size = generators.shape[-1]
    found = torch.zeros(most + 1, size, size, dtype=generators.dtype)
    found[0] = torch.eye(size)
    words: list[tuple[int, int]] = [(0, 0)]  # of every element: an earlier one, and a generator
    right: list[list[int]] = []  # of every element: its products with the generators
    while len(right) < len(words):
        row = []
        for number, product in enumerate(found[len(right)] @ generators):
            same = (found[: len(words)] - product).abs().amax((1, 2)) < SAME
            row.append(int(same.int().argmax()) if bool(same.any()) else len(words))
            if row[-1] == len(words):
                if len(words) == most:
                    raise InputError(f"{name}: generates more than {most} elements; is it finite?")
                found[len(words)] = product
                words.append((len(right), number))
        right.append(row)
    products, columns = torch.tensor(right), [torch.arange(len(words))]
    for earlier, number in words[1:]:
        columns.append(products[columns[earlier], number])
    return found[: len(words)].clone(), torch.stack(columns, 1)


def permutations(generators: Sequence[Sequence[int]]) -> Group:
    """The group that permutations generate: `(1, 2, 0)` puts entry 1 of a vector first.

    Raises:
        InputError: One of them is not a permutation of 0 … d - 1.
    """
    return signed_permutations([[(place, 1) for place in one] for one in generators])


def signed_permutations(generators: Sequence[Sequence[tuple[int, int]]]) -> Group:
    """The group of permutations with signs: `((1, -1), (0, 1))` is (x, y) to (-y, x).

    Raises:
        InputError: One of them is not a permutation, or a sign is neither 1 nor -1.
    """
    size = len(generators[0]) if generators else 0
    matrices = torch.zeros(len(generators), size, size, dtype=torch.float64)
    for matrix, one in zip(matrices, generators, strict=True):
        places, signs = [place for place, _ in one], [sign for _, sign in one]
        if sorted(places) != list(range(size)) or not {*signs} <= {1, -1} or not size:
            raise InputError(f"permutation {list(one)}: expected places 0 to {size - 1}, signs ±1")
        matrix[range(size), places] = torch.tensor(signs, dtype=torch.float64)
    return matrix_group(matrices, f"permutations of {size}")


def plane_rotations(turns: int, dimension: int) -> Group:
    """C_n on the first two of `dimension` coordinates."""
    if turns < 1 or dimension < 2:
        raise InputError(f"rotations: {turns} in a turn, of {dimension} coordinates")
    angles = 2 * torch.pi * torch.arange(turns, dtype=torch.float64) / turns
    matrices = torch.eye(dimension, dtype=torch.float64).repeat(turns, 1, 1)
    cos, sin = angles.cos(), angles.sin()
    matrices[:, :2, :2] = torch.stack([cos, -sin, sin, cos], 1).reshape(turns, 2, 2)
    # Quarter turns have whole entries; cos of a rounded π / 2 has not.
    matrices = torch.where((matrices - matrices.round()).abs() < CLOSE, matrices.round(), matrices)
    return matrix_group(matrices, f"C{turns} on 2 of {dimension} coordinates")
