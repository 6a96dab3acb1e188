"""How samples compare with held-out images: each with the image whose statistics were its target.

The natural spread is the same comparison with that image's replicate: another simulation of the
same composition and time.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from lawful.laws import Condition
from lawful.materials.dataset import Images
from lawful.materials.statistics import (
    RADII,
    components,
    lineal_path,
    specific_surface,
    two_point,
    volume_fraction,
)

LENGTHS = 24  # of the lineal path
FRACTIONS = (0.3, 0.7)  # of the held-out targets
GROUPS = {"droplets": (0.0, 0.35), "between": (0.35, 0.42), "spinodal": (0.42, 0.51)}
Figures = dict[str, np.ndarray]


@dataclass(frozen=True)
class HeldOut:
    """Held-out images with their replicates.

    Arguments:
        replicates: Of each image; None where the data have none.
        pair: Images of different pairs are independent.
        condition: Statistics of the images.
        periodic: Whether an image continues at its opposite side.
    """

    images: UInt8[Tensor, "batch rows columns"]
    replicates: UInt8[Tensor, "batch rows columns"] | None
    pair: Int[Tensor, " batch"]
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
    curves = two_point(chosen, RADII, periodic=periodic).float()
    condition = {"volume_fraction": curves[:, 0].clone(), "two_point": curves}
    replicates = images.images[partner[rows]] if paired else None
    return HeldOut(chosen, replicates, images.pair[rows], condition, periodic)


def _partners(images: Images) -> Int[Tensor, " images"]:
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


def likeness(samples: Tensor, against: HeldOut) -> Figures:
    """Compare samples `(batch, 1, N, N)`, which are periodic, with the first held-out images.

    Returns:
        By name and per sample, both with the minority phase as 1: `p1_error`; `p2_rmse`, the root
        mean square error over the radii; `surface`, over the image's; `lineal_path_rmse`, at 0 to
        23 pixels; the number of `components`, and what is `expected` of it from the image.
    """
    images = against.images[: len(samples)] > 0
    flip = (images.float().mean((1, 2)) > 0.5)[:, None, None]
    x = _described((samples[:, 0] > 0.5) ^ flip, periodic=True)
    y = _described(images ^ flip, periodic=against.periodic)
    rmse = {n: np.sqrt(np.square(x[n] - y[n]).mean(1)) for n in ("two_point", "lineal_path")}
    return {
        "p1_error": np.abs(x["volume"] - y["volume"]),
        "p2_rmse": rmse["two_point"],
        "surface": x["surface"] / y["surface"],
        "lineal_path_rmse": rmse["lineal_path"],
        "components": x["components"],
        "expected": y["components"],
    }


def _described(images: Tensor, *, periodic: bool) -> Figures:
    return {
        "volume": volume_fraction(images),
        "two_point": two_point(images, RADII, periodic=periodic).numpy(),
        "surface": specific_surface(images, periodic=periodic),
        "lineal_path": lineal_path(images, LENGTHS, periodic=periodic),
        "components": components(images, periodic=periodic),
    }
