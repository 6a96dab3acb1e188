r"""Rotations and reflections of images and of filters: the groups C_n and D_n.

An element is :math:`r^k s^f`: reflect the columns f times, then rotate counter-clockwise by
:math:`2 \pi k / n`. Its index is k + f n. Quarter turns and reflections move pixels onto pixels;
other rotations of an image interpolate and are marked so by `exact`.
"""

import math
import re

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError
from lawful.symmetry.group import CLOSE, Group


class Planar(Group):
    """C_n, or D_n with `reflections`, on the last two axes of a tensor.

    Arguments:
        turns: n, rotations in a full turn.

    Raises:
        InputError: n is below 1.
    """

    def __init__(self, turns: int, reflections: bool = False) -> None:
        if turns < 1:
            raise InputError(f"group: expected at least one rotation, got {turns}")
        self.turns, self.reflections = turns, reflections
        elements = torch.arange(turns * (2 if reflections else 1))
        turn, flip = elements % turns, elements // turns
        sign = 1 - 2 * flip[:, None]  # s r = r^-1 s
        table = (turn[:, None] + sign * turn) % turns + (flip[:, None] ^ flip) * turns
        name = f"{'D' if reflections else 'C'}{turns}"
        super().__init__(name, table, self._moved, exact=4 % turns == 0)

    def _moved(self, x: Tensor, element: int) -> Tensor:
        self.check(tuple(x.shape))
        x = x.flip(-1) if element >= self.turns else x
        quarters, rest = divmod(4 * (element % self.turns), self.turns)
        x = torch.rot90(x, quarters, (-2, -1)) if quarters else x
        return rotate(x, 2 * math.pi * rest / (4 * self.turns)) if rest else x

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse a shape that the group does not act on.

        Raises:
            InputError: There are no rows and columns, or rotations would exchange unequal ones.
        """
        if len(shape) < 3:
            raise InputError(f"{self.name}: expected (batch, …, rows, columns), got {shape}")
        if self.turns > 2 and shape[-2] != shape[-1]:
            raise InputError(
                f"{self.name}: quarter turns need as many rows as columns, got {shape[-2]} x "
                f"{shape[-1]}"
            )

    def filters(self, size: int) -> Float[Tensor, "order entry entry"]:
        r"""The action on filters of `size` x `size` entries, as matrices.

        Entries at the same distance (in the maximum norm) from the centre form a ring of 8 r; a
        rotation shifts it by 8 r k / n entries, interpolating linearly between two where that is
        no whole number. It is an exact action for every n that divides 8, and agrees with the
        rotation of images for every quarter turn.

        Raises:
            InputError: The size is even.
        """
        if size % 2 == 0:
            raise InputError(f"filter: expected an odd size, got {size}")
        mirror = torch.eye(size**2, dtype=torch.float64).reshape(-1, size, size).flip(-1).flatten(1)
        rotations = [_ring_rotation(size, k / self.turns) for k in range(self.turns)]
        mirrored = [r @ mirror for r in rotations] if self.reflections else []
        return torch.stack(rotations + mirrored)

    @property
    def exact_filters(self) -> bool:
        """Whether filters are rotated without interpolation."""
        return 8 % self.turns == 0

    @property
    def exact_part(self) -> "Planar":
        """The largest subgroup that moves pixels onto pixels."""
        return Planar(math.gcd(self.turns, 4), self.reflections)


def planar(name: str) -> Planar:
    """The group of a name such as `C4` or `D4`.

    Raises:
        InputError: It is not such a name.
    """
    found = re.fullmatch(r"([CD])([1-9][0-9]?)", name.upper())
    if found is None:
        raise InputError(f"group {name!r}: expected C or D and a number, such as C4 or D4")
    return Planar(int(found[2]), found[1] == "D")


def rotate(x: Float[Tensor, "batch *shape"], angle: float) -> Float[Tensor, "batch *shape"]:
    """Images rotated counter-clockwise about their centre, bilinearly; zero comes from outside.

    Arguments:
        angle: In radians.

    Raises:
        InputError: The images are whole numbers, between which nothing can be interpolated.
    """
    if not x.is_floating_point():
        raise InputError(f"rotation: expected floating-point images to interpolate, got {x.dtype}")
    if not x.numel():
        return x
    images = x.reshape(-1, 1, *x.shape[-2:])
    cos, sin = math.cos(angle), math.sin(angle)
    # Rows of the image point down, so a counter-clockwise turn reads from a clockwise one.
    matrix = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]], dtype=x.dtype, device=x.device)
    grid = F.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False).reshape(x.shape)


def _ring(size: int, radius: int) -> list[int]:
    """Flat positions of a ring, counter-clockwise from the middle of the right side."""
    reach = range(-radius, radius + 1)
    ring = [(up, right) for up in reach for right in reach if max(abs(up), abs(right)) == radius]
    ring.sort(key=lambda place: math.atan2(*place) % (2 * math.pi))
    return [(size // 2 - up) * size + size // 2 + right for up, right in ring]


def _ring_rotation(size: int, turn: float) -> Float[Tensor, "entry entry"]:
    """The matrix that rotates a filter by a fraction of the full turn, ring by ring."""
    matrix = torch.zeros(size**2, size**2, dtype=torch.float64)
    matrix[size**2 // 2, size**2 // 2] = 1.0
    for radius in range(1, size // 2 + 1):
        places = torch.tensor(_ring(size, radius))
        whole = math.floor(8 * radius * turn + CLOSE)
        share = 8 * radius * turn - whole
        share = 0.0 if share < CLOSE else share
        matrix[places.roll(-whole), places] += 1 - share
        matrix[places.roll(-whole - 1), places] += share
    return matrix
