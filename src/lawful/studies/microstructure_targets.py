"""Targets of microstructures: those of a data set, and their batches."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError
from lawful.materials import dataset as cahn_hilliard
from lawful.materials.dataset import Images, Microstructures
from lawful.materials.statistics import two_point
from lawful.training import Batch

SMALL = 256  # images of the data set `small`


@lru_cache(maxsize=2)
def load_data(name: str) -> Microstructures:
    """A data set by name or by file.

    Raises:
        InputError: There is no such file, or it cannot be read.
    """
    if name == "small":
        return cahn_hilliard.small(SMALL)
    if name == "cahn-hilliard":
        return _split_of(cahn_hilliard.load(cahn_hilliard.default_path()))
    path = Path(name)
    if not path.is_file():
        raise InputError(f"data {name!r}: expected cahn-hilliard, small, or an HDF5 file")
    return _split_of(cahn_hilliard.load(path))


def _split_of(data: Microstructures) -> Microstructures:
    if not len(data.train.pair) or not len(data.held_out.pair):
        raise InputError(f"data {data.source}: too few images to train on some and hold out others")
    return data


def statistics_of(
    images: Images, *, periodic: bool = True
) -> tuple[Float[Tensor, " images"], Float[Tensor, "images radius"]]:
    """Volume fraction and two-point correlation of every image."""
    parts = [two_point(part.float(), periodic=periodic) for part in images.images.split(512)]
    return images.volume_fraction.float(), torch.cat(parts)


@dataclass(frozen=True)
class Draw:
    """Images with their own statistics as targets, turned, mirrored and, where `periodic`, shifted.

    These are symmetries of the equation and of the torus; statistics do not change.
    """

    images: Images
    curves: Float[Tensor, "images radius"]
    batch: int
    periodic: bool = True

    def __call__(self, generator: torch.Generator) -> Batch:
        rows = torch.randint(len(self.curves), (self.batch,), generator=generator)
        data = self.images.images[rows].float()
        side = data.shape[-1]
        coin = torch.randint(2, (3,), generator=generator).tolist()
        data = data.transpose(-1, -2) if coin[0] else data
        data = data.flip([axis for axis, c in zip((-1, -2), coin[1:], strict=True) if c])
        shift = torch.randint(side, (2,), generator=generator).tolist()
        data = data.roll(shift, (-2, -1)) if self.periodic else data
        noise = torch.randn(data.shape, generator=generator)
        condition = {
            "volume_fraction": self.images.volume_fraction[rows].float(),
            "two_point": self.curves[rows],
            "noise": noise,
        }
        return Batch(condition, data.unsqueeze(1))


@dataclass(frozen=True)
class DrawTargets:
    """Targets alone, with noise."""

    phi: Float[Tensor, " targets"]
    curves: Float[Tensor, "targets radius"]
    batch: int
    side: int

    def __call__(self, generator: torch.Generator) -> Batch:
        rows = torch.randint(len(self.phi), (self.batch,), generator=generator)
        noise = torch.randn(self.batch, self.side, self.side, generator=generator)
        return Batch(
            {"volume_fraction": self.phi[rows], "two_point": self.curves[rows], "noise": noise}
        )
