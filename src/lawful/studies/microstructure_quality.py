"""How samples of microstructures compare with held-out images.

Every sample is compared with the image whose statistics were its target. The natural spread is the
same comparison with that image's replicate: another simulation of the same composition and time.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lawful.laws import Condition
from lawful.materials import statistics
from lawful.materials.dataset import Images
from lawful.materials.statistics import RADII

LENGTHS = 24  # of the lineal path
FRACTIONS = (0.3, 0.7)  # of the held-out targets
GROUPS = {"droplets": (0.0, 0.35), "between": (0.35, 0.42), "spinodal": (0.42, 0.51)}


@dataclass(frozen=True)
class Likeness:
    """Figures of each sample against its target's image, both with the minority phase as 1.

    Arguments:
        volume: |p1 error|.
        two_point: Root mean square error of p2 over the radii.
        surface: Specific surface over the image's.
        lineal_path: Root mean square error of the lineal path at 0 to 23 pixels.
        components: Number in the sample.
        expected: Number in the image.
    """

    volume: Float[np.ndarray, " batch"]
    two_point: Float[np.ndarray, " batch"]
    surface: Float[np.ndarray, " batch"]
    lineal_path: Float[np.ndarray, " batch"]
    components: Int[np.ndarray, " batch"]
    expected: Int[np.ndarray, " batch"]

    def of(self, rows: np.ndarray) -> "Likeness":
        """Those of some samples."""
        return Likeness(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def likeness(samples: Tensor, against: "HeldOut") -> Likeness:
    """Compare samples `(batch, 1, N, N)`, which are periodic, with the first held-out images."""
    images = against.images[: len(samples)]
    flip = images.float().mean((1, 2)) > 0.5
    pair = zip((samples[:, 0], images), (True, against.periodic), strict=True)
    x, y = (_described(_minority(values, flip), periodic) for values, periodic in pair)
    return Likeness(
        np.abs(x["volume"] - y["volume"]),
        np.sqrt(np.square(x["two_point"] - y["two_point"]).mean(1)),
        x["surface"] / y["surface"],
        np.sqrt(np.square(x["lineal_path"] - y["lineal_path"]).mean(1)),
        x["components"],
        y["components"],
    )


def _described(images: np.ndarray, periodic: bool) -> dict[str, np.ndarray]:
    return {
        "volume": statistics.volume_fraction(images),
        "two_point": statistics.two_point(images, RADII, periodic=periodic).numpy(),
        "surface": statistics.specific_surface(images, periodic=periodic),
        "lineal_path": statistics.lineal_path(images, LENGTHS, periodic=periodic),
        "components": statistics.components(images, periodic=periodic),
    }


def _minority(values: Tensor, flip: Tensor) -> np.ndarray:
    binary = values > 0.5
    return torch.where(flip[:, None, None], ~binary, binary).numpy()


@dataclass(frozen=True)
class HeldOut:
    """Held-out images with their replicates.

    Arguments:
        images: As bytes.
        replicates: Of each; None where the data have none.
        pair: Images of different pairs are independent.
        condition: Their statistics.
        periodic: Whether an image continues at its opposite side.
    """

    images: Tensor
    replicates: Tensor | None
    pair: Tensor
    condition: Condition
    periodic: bool

    def groups(self) -> dict[str, np.ndarray]:
        """Rows by the fraction of the minority phase: what p2 determines, and what it does not."""
        p1 = self.condition["volume_fraction"].numpy()
        small = np.minimum(p1, 1 - p1)
        return {
            name: np.flatnonzero((small >= low) & (small < high))
            for name, (low, high) in GROUPS.items()
        }


def held_out(images: Images, count: int, seed: int = 0, *, periodic: bool = True) -> HeldOut:
    """Up to `count` images at random: of volume fractions in [0.3, 0.7] and with a replicate, as
    far as there are such."""
    p1 = images.volume_fraction
    usable = (p1 >= FRACTIONS[0]) & (p1 <= FRACTIONS[1])
    partner = _partners(images)
    paired = bool((usable & (partner >= 0)).any())
    usable = usable & (partner >= 0) if paired else usable | ~usable.any()
    rows = torch.where(usable)[0]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    rows = rows[order[:count]]
    chosen = images.images[rows]
    replicates = images.images[partner[rows]] if paired else None
    condition = statistics_of(chosen, periodic)
    return HeldOut(chosen, replicates, images.pair[rows], condition, periodic)


def _partners(images: Images) -> Tensor:
    """The row of each image's replicate (same pair and time), -1 where it has none."""
    rows: dict[tuple[int, float], list[int]] = {}
    keys = list(zip(images.pair.tolist(), images.time.tolist(), strict=True))
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    partner = torch.full((len(keys),), -1)
    for found in rows.values():
        if len(found) == 2:
            partner[found[0]], partner[found[1]] = found[1], found[0]
    return partner


def statistics_of(images: Tensor, periodic: bool) -> dict[str, Tensor]:
    """Volume fraction and radial two-point correlation of binary images."""
    curves = statistics.two_point(images, RADII, periodic=periodic).float()
    return {"volume_fraction": curves[:, 0].clone(), "two_point": curves}


def noise(count: int, side: int, seed: int) -> Tensor:
    """White noise for samples that are to be compared."""
    return torch.randn(count, side, side, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def generate(
    network: nn.Module, condition: Condition, side: int = 64, seed: int = 50_000
) -> Tensor:
    """Raw samples `(batch, 1, side, side)` of the conditions."""
    count = len(condition["volume_fraction"])
    full = {**condition, "noise": noise(count, side, seed)}
    parts = torch.arange(count).split(64)
    return torch.cat([network({n: v[rows] for n, v in full.items()}) for rows in parts])


def accuracy(found: Likeness) -> Mapping[str, float]:
    """The figures of a manifest."""
    return {
        "targets": float(len(found.two_point)),
        "p1_error_worst": float(found.volume.max()),
        "p2_rmse_median": float(np.median(found.two_point)),
        "p2_rmse_p95": float(np.quantile(found.two_point, 0.95)),
        "p2_rmse_worst": float(found.two_point.max()),
        "surface_ratio_median": float(np.median(found.surface)),
        "lineal_path_rmse_median": float(np.median(found.lineal_path)),
    }
