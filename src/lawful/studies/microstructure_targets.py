"""Targets of microstructures: those of a data set, those that come with a model, their batches."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.materials import dataset as cahn_hilliard
from lawful.materials import morphologies
from lawful.materials.dataset import Images, Microstructures
from lawful.materials.network import minority
from lawful.materials.statistics import RADII, two_point
from lawful.reading import dataset_names, opened_hdf5
from lawful.symmetry.invariance import distances
from lawful.training.game import Batch

SMALL = 256  # images of the data set `small`
KEPT, NEAREST = 512, 16  # targets that come with a model; those of nearly the same fraction
MARGIN = 0.01  # of a volume fraction beyond the kept ones
LEAST = 1e-3  # of that distance, in normalised correlation
FAR = 0.995  # quantile of the distances of trained targets beyond which one is marked


class Bank(nn.Module):
    """Targets of the training kept with a model's weights.

    They are what is drawn where no statistics are asked for, and the measure of what is outside
    the training: the distance of a correlation, normalised by phi (1 - phi), from the nearest kept
    one, against the same distance of trained targets that are not kept.
    """

    phi: Tensor
    curve: Tensor
    reach: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("phi", torch.full((KEPT,), 0.5))
        self.register_buffer("curve", torch.zeros(KEPT, RADII))
        self.register_buffer("reach", torch.tensor(0.0))

    def fill(self, phi: Float[Tensor, " targets"], curve: Float[Tensor, "targets radius"]) -> None:
        """Keep targets at equal distances in the list; measure how far the others are from them."""
        places = torch.linspace(0, len(phi) - 1, KEPT).round().long()
        self.phi.copy_(phi[places])
        self.curve.copy_(curve[places])
        others = torch.ones(len(phi), dtype=torch.bool)
        others[places] = False
        if bool(others.any()):
            rest = torch.where(others)[0][:4096]
            self.reach.copy_(self._distance(phi[rest], curve[rest]).quantile(FAR))
        elif len(phi) > 1:
            all_of_them = _normalised(phi, curve)
            apart = distances(all_of_them, all_of_them).fill_diagonal_(torch.inf).amin(1)
            self.reach.copy_(apart.quantile(FAR) / curve.shape[1] ** 0.5)
        self.reach.clamp_(min=LEAST)

    def far(
        self, volume_fraction: Float[Tensor, " batch"], two_point: Float[Tensor, "batch radius"]
    ) -> Bool[Tensor, " batch"]:
        """Whether a target is farther from the kept ones than nearly all trained ones are."""
        phi, kept = (torch.minimum(p, 1 - p) for p in (volume_fraction, self.phi))
        beyond = phi < kept.min() - MARGIN
        return beyond | (self._distance(volume_fraction, two_point) > self.reach + 1e-6)

    def _distance(self, phi: Tensor, curve: Tensor) -> Tensor:
        kept = _normalised(self.phi, self.curve)
        apart = distances(_normalised(phi, curve), kept).amin(1)
        return apart / curve.shape[1] ** 0.5

    def complete(
        self, phi: Tensor | None, curve: Tensor | None, count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch radius"]]:
        """Volume fractions and correlations of `count` samples, where one or both are not given.

        Both given: as they are. A correlation: its p2(0). A fraction: the normalised correlation of
        one of the kept targets whose fractions are nearest.
        """
        kept_phi, kept = self.phi.cpu(), self.curve.cpu()
        if curve is not None:
            return (curve[:, 0] if phi is None else phi), curve
        if phi is None:
            rows = torch.randint(KEPT, (count,), generator=generator)
            return kept_phi[rows], kept[rows]
        near = (kept_phi[None, :] - phi[:, None]).abs().argsort(dim=1, stable=True)[:, :NEAREST]
        rows = near.gather(1, torch.randint(NEAREST, (count, 1), generator=generator))[:, 0]
        return phi, at_fraction(kept[rows], phi)


def at_fraction(
    curve: Float[Tensor, "batch radius"], phi: Float[Tensor, " batch"]
) -> Float[Tensor, "batch radius"]:
    """The curve of the same normalised correlation at another volume fraction."""
    own = curve[:, :1]
    rho = (curve - own.square()) / (own * (1 - own)).clamp_min(1e-6)
    share = phi[:, None]
    scaled = share.square() + rho * share * (1 - share)
    return scaled.clamp(min=(2 * share - 1).clamp_min(0), max=share)


def _normalised(phi: Tensor, curve: Tensor) -> Tensor:
    """(p2 - phi^2) / (phi (1 - phi)) of the minority phase: of either phase, in fact."""
    small, own, _ = minority(phi, curve)
    return (own - small.square()[:, None]) / (small * (1 - small)).clamp_min(1e-4)[:, None]


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
    read = morphologies.load_morphologies if _published(path) else cahn_hilliard.load
    return _split_of(read(path))


def _split_of(data: Microstructures) -> Microstructures:
    if not len(data.train.pair) or not len(data.held_out.pair):
        raise InputError(f"data {data.source}: too few images to train on some and hold out others")
    return data


def _published(path: Path) -> bool:
    """Whether it is the published file of binary morphologies."""
    with opened_hdf5(path) as file:
        return morphologies.NAME in dataset_names(file, path)


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
