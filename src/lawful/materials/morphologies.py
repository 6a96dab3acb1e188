"""The published two-phase morphologies `2D_binary_morphologies.h5` (Zenodo), 101 x 101.

One dataset `morphology`: 34,672 rows of 10,201 values, continuous or {0, 1}. What is above a
threshold is the phase whose indicator is 1; every statistic is of the indicator, never of the
values, so p2(0) = p1. 101 is prime, which makes Fourier transforms slow, so images are brought to
another side: cut out of the middle, or resampled by area. Whether the fields are periodic is not
stated: take their correlations as of images that are not, and always so after cropping.

Frames of one simulation are near-duplicates, and the file does not say which rows belong to one.
Rows that follow each other are therefore kept together: held out are whole blocks of rows, not
rows drawn at random, whose neighbours would be among those trained on. The rows next to a block
that is held out, an eighth of its length on either side, belong to neither part, for a simulation
may lie across the border.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from lawful.data.pictures import area_weights
from lawful.errors import InputError
from lawful.materials.dataset import Images, Microstructures
from lawful.materials.random_field import level_cut
from lawful.reading import dataset, dataset_names, opened_hdf5, read_rows

NAME, SIDE = "morphology", 101
CHUNK = 512  # rows read at a time
BLOCK, HELD_OUT = 256, 16  # rows of a block; every sixteenth is held out
LEAST = 2 * HELD_OUT

Fit = Literal["resample", "crop"]


def load_morphologies(
    path: Path, *, side: int = 64, fit: Fit = "resample", threshold: float | None = None
) -> Microstructures:
    """Read, binarise and split the file; `time` is NaN, `pair` is the number of the block.

    Arguments:
        side: Pixels a side of the images, at most 101.
        fit: `crop` binarises and cuts out the middle. `resample` averages the values over the area
            of each new pixel and sets the largest to 1, as many as the volume fraction of the whole
            image asks for; of equal ones, those first in memory.
        threshold: Values above it are the phase 1; without, the middle of the file's range.

    Raises:
        InputError: The file is missing, truncated or not of this form, a value is not finite, or
            the threshold does not part the values.
    """
    if not 2 <= side <= SIDE:
        raise InputError(f"morphologies: expected a side of 2 to {SIDE}, got {side}")
    if not path.exists():
        raise InputError(f"{path}: no such file; 2D_binary_morphologies.h5 is to be had at Zenodo")
    with opened_hdf5(path) as file:
        data = _dataset(file, path)
        level = _level(data, path, threshold)
        images = torch.cat([_reduce(rows, level, side, fit) for rows in _chunks(data, path)])
    how = "cropped" if fit == "crop" else "resampled"
    return _split(images, f"{path.name}, {len(images)} images {how} to {side}, above {level:g}")


def _dataset(file: Any, path: Path) -> Any:
    """The dataset, once its form is known to be right."""
    if NAME not in (there := dataset_names(file, path)):
        names = ", ".join(there)[:60] or "none"
        raise InputError(f"{path}: expected a dataset {NAME!r}, there are {names}")
    data = dataset(file, NAME, path)
    if data.ndim != 2 or data.shape[1] != SIDE**2 or data.shape[0] < LEAST:
        expected = f"(n, {SIDE**2}), n at least {LEAST}"
        raise InputError(f"{path}: {NAME!r} has shape {data.shape}, expected {expected}")
    return data


def _chunks(data: Any, path: Path) -> Iterator[Float[Tensor, "rows 101 101"]]:
    """Rows as images, float32, a chunk at a time."""
    for first in range(0, len(data), CHUNK):
        rows = torch.from_numpy(read_rows(data, slice(first, first + CHUNK), path)).float()
        finite = torch.isfinite(rows).all(1)
        if not bool(finite.all()):
            row = first + int((~finite).nonzero()[0])
            raise InputError(f"{path}: {NAME!r} is not finite in row {row}")
        yield rows.unflatten(1, (SIDE, SIDE))


def _level(data: Any, path: Path, threshold: float | None) -> float:
    """The threshold, checked against the range of the values."""
    ranges = torch.stack([torch.stack(rows.aminmax()) for rows in _chunks(data, path)])
    least, largest = float(ranges[:, 0].min()), float(ranges[:, 1].max())
    level = (least + largest) / 2 if threshold is None else threshold
    if not least <= level < largest:
        raise InputError(f"{path}: values {least:g} to {largest:g} are not parted by {level:g}")
    return level


def _reduce(
    rows: Float[Tensor, "rows 101 101"], level: float, side: int, fit: Fit
) -> UInt8[Tensor, "rows side side"]:
    phase = rows > level
    if fit == "crop" or side == SIDE:
        first = (SIDE - side) // 2
        return phase[:, first : first + side, first : first + side].byte()
    weights = area_weights(SIDE, side)
    field = weights @ rows @ weights.T
    return level_cut(field, phase.flatten(1).double().mean(1)).byte()


def _split(images: UInt8[Tensor, "n side side"], source: str) -> Microstructures:
    length = min(BLOCK, len(images) // HELD_OUT)
    block = torch.arange(len(images)) // length
    held = block % HELD_OUT == 0
    train = ~_near(held, length // 8)
    train_part, held_part = (_part(images, block, rows) for rows in (train, held))
    return Microstructures(train_part, held_part, source, periodic=False)


def _near(held: Bool[Tensor, " n"], reach: int) -> Bool[Tensor, " n"]:
    """Rows at most `reach` away from one that is held out."""
    wide = torch.nn.functional.max_pool1d(held[None].float(), 2 * reach + 1, 1, reach)
    return wide[0] > 0


def _part(
    images: UInt8[Tensor, "n side side"], block: Int[Tensor, " n"], rows: Bool[Tensor, " n"]
) -> Images:
    chosen = images[rows]
    fraction = chosen.flatten(1).float().mean(1)
    return Images(chosen, fraction, torch.full_like(fraction, torch.nan), block[rows])
