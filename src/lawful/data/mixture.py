r"""Four heavy-tailed clusters in a plane of a larger space (toy of structure-preserving GANs).

Each is a two-dimensional Student t distribution of :math:`\nu` degrees of freedom and unit scale
about one of :math:`(\pm c, \pm c)`; all other coordinates are constant. The distance r from the
centre has :math:`P(r > t) = (1 + t^2 / \nu)^{-\nu / 2}`: no mean exists for :math:`\nu \le 1`.
Quarter turns of the plane permute the clusters and leave the distribution as it is.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lawful.errors import InputError


@dataclass(frozen=True)
class Mixture:
    """The distribution.

    Arguments:
        centre: c.
        freedom: ν.
        dimension: Number of coordinates; the first two coordinates are those of the plane.
        offset: Value of the others.

    Raises:
        InputError: A parameter is out of its range.
    """

    centre: float = 10.0
    freedom: float = 0.5
    dimension: int = 12
    offset: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.centre < math.inf or not 0 < self.freedom < math.inf or self.dimension < 2:
            raise InputError(
                "mixture: expected centre and freedom above 0 and 2 dimensions or more, got "
                f"{self.centre:g}, {self.freedom:g} and {self.dimension}"
            )

    @property
    def centres(self) -> Float[Tensor, "4 2"]:
        """Counter-clockwise, a quarter turn apart."""
        signs = [[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]
        return self.centre * torch.tensor(signs)

    def sample(
        self, count: int, generator: torch.Generator | None = None
    ) -> Float[Tensor, "count dimension"]:
        """Independent samples, the radii by inversion of their distribution function."""
        beyond = 1 - torch.rand(count, generator=generator, dtype=torch.float64)
        radius = (self.freedom * (beyond ** (-2 / self.freedom) - 1)).sqrt()
        angle = 2 * math.pi * torch.rand(count, generator=generator, dtype=torch.float64)
        cluster = torch.randint(4, (count,), generator=generator)
        x = torch.full((count, self.dimension), self.offset)
        away = radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
        x[:, :2] = (self.centres[cluster] + away).float()
        return x

    def cluster(self, x: Float[Tensor, "batch _"]) -> Int[Tensor, " batch"]:
        """Index of the centre that is nearest in the plane: the quadrant."""
        right, up = x[:, 0] >= 0, x[:, 1] >= 0
        return torch.where(up, torch.where(right, 0, 1), torch.where(right, 3, 2))

    def radius(self, x: Float[Tensor, "batch _"]) -> Float[Tensor, " batch"]:
        """Distance from the nearest centre, in the plane."""
        return (x[:, :2].abs() - self.centre).norm(dim=1)
