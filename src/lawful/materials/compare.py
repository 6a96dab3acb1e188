"""How samples compare with held-out images: each with the image whose statistics were its target.

The natural spread is the same comparison with that image's replicate: another simulation of the
same composition and time.
"""

import numpy as np
import torch
from jaxtyping import Int, Shaped, UInt8
from torch import Tensor

from lawful.materials.dataset import Microstructures
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


def groups(images: Microstructures) -> dict[str, np.ndarray]:
    """Rows by the fraction of the minority phase: what p2 determines, and what it does not."""
    p1 = images.volume_fraction.numpy()
    small = np.minimum(p1, 1 - p1)
    return {n: np.flatnonzero((small >= a) & (small < b)) for n, (a, b) in GROUPS.items()}


def chosen(
    images: Microstructures, count: int, seed: int = 0
) -> tuple[Microstructures, UInt8[Tensor, "chosen side side"] | None]:
    """Up to `count` images at random, and their replicates, where the data have any.

    Volume fractions are in [0.3, 0.7], and only images with a replicate are taken, as far as there
    are such.
    """
    p1, partner = images.volume_fraction, _partners(images)
    usable = (p1 >= FRACTIONS[0]) & (p1 <= FRACTIONS[1])
    paired = bool((usable & (partner >= 0)).any())
    usable = usable & (partner >= 0) if paired else usable | ~usable.any()
    rows = torch.where(usable)[0]
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:count]]
    return images[rows], images.images[partner[rows]] if paired else None


def _partners(images: Microstructures) -> Int[Tensor, " images"]:
    """The row of each image's replicate (same pair and time), -1 where it has none."""
    partner = torch.full((len(images.pair),), -1)
    rows: dict[tuple[int, float], list[int]] = {}
    for row, key in enumerate(zip(images.pair.tolist(), images.time.tolist(), strict=True)):
        rows.setdefault(key, []).append(row)
    for found in rows.values():
        if len(found) == 2:
            partner[found] = torch.tensor(found[::-1])
    return partner


def likeness(samples: Shaped[Tensor, "batch 1 rows columns"], against: Microstructures) -> Figures:
    """Compare samples, which are periodic, with the first of the images.

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
