"""Patches of stained tissue cut out of whole pictures, and the layout that ANHIR is published in.

A picture is parted by region: patches to train on come from its left columns, held-out patches
from its right ones, so no pixel is in both. On either side of the border the tissue goes on, so
patches next to it are neighbours, not copies.

ANHIR (Borovec et al., IEEE Transactions on Medical Imaging 39 (2020) 3042) holds a folder a set
of neighbouring sections, in it a folder a scale, in that one picture a stain:
`lung-lesion_1/scale-5pc/29-041-Izd2-w35-Cc10-5-les1.jpg`; the stain is a word of the file's name.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from lawful.data.pictures import READERS, read_pixels
from lawful.errors import InputError, LawfulWarning

SUFFIXES = tuple(ending for ending in READERS if ending != ".npy")
OPAQUE = 255
SCALE = re.compile(r"scale-(\d+)pc")
HELD_OUT = 4  # the last quarter of a picture's columns
CHROMA, BRIGHT, LEAST_GLASS = 16, 200, 0.01  # of glass: grey, bright, and there at all
ABSORBED, SHARE = 12, 0.5
STAINS = {
    "he": "HE", "cc10": "Cc10", "cd31": "CD31", "ki67": "Ki67", "prospc": "proSPC",
    "er": "ER", "pr": "PR", "her2": "HER2", "neu": "CNEU", "cneu": "CNEU",
    "pas": "PAS", "mas": "MAS", "sma": "SMA", "cd4": "CD4", "cd68": "CD68", "ebv": "EBV",
    "pancytokeratin": "PanCytokeratin",
}  # fmt: skip


@dataclass(frozen=True)
class Patches:
    """Patches as bytes.

    Arguments:
        held: Which are held out.
        classes: Names that the labels count.
        source: Where they come from, without the folder above it.
    """

    images: UInt8[Tensor, "n 3 side side"]
    labels: Int[Tensor, " n"]
    held: Bool[Tensor, " n"]
    classes: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class Parted:
    """Patches of one picture's two regions."""

    train: UInt8[Tensor, "train 3 side side"]
    held_out: UInt8[Tensor, "held_out 3 side side"]


def bad(path: Path, what: str) -> InputError:
    """The one line that is said of a file or a folder."""
    return InputError(f"tissue {path}: {what}")


def image_files(folder: Path) -> list[Path]:
    """The pictures right in a folder, by name; hidden files are passed over."""
    found = (path for path in visible(folder) if path.suffix.lower() in SUFFIXES)
    return [path for path in found if path.is_file()]


def visible(folder: Path) -> list[Path]:
    """What is in a folder, by name, but for hidden entries."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def read_rgb(path: Path) -> UInt8[Tensor, "3 rows columns"]:
    """The pixels of a picture in RGB; an opaque fourth channel is lost.

    Raises:
        InputError: The file cannot be read, is not of 8 bits per colour, or has transparent
            pixels; grey is not expanded, for its class would be told by its lack of colour.
    """
    found = read_pixels(path, "tissue")
    if found.values.ndim == 2:
        raise bad(path, "grey; expected RGB")
    if found.values.dtype != np.uint8:
        raise bad(path, f"colours of type {found.values.dtype}; expected 8 bits each")
    if found.opacity is not None and found.opacity.min() < OPAQUE:
        raise bad(path, "transparent pixels; expected RGB")
    return torch.from_numpy(np.array(found.values)).movedim(-1, 0)


def windows(
    picture: UInt8[Tensor, "3 rows columns"], side: int, stride: int
) -> UInt8[Tensor, "down along 3 side side"]:
    """All windows that start at multiples of `stride`; a view."""
    cut = picture.unfold(1, side, stride).unfold(2, side, stride)
    return cut.permute(1, 2, 0, 3, 4)


def glass_colour(picture: UInt8[Tensor, "3 rows columns"]) -> UInt8[Tensor, "3"] | None:
    """The commonest bright grey of a picture, channel by channel; None where 1 % is not such.

    Bare glass lets all light through, so it is the brightest there is, and even. White of padding,
    255 everywhere, is none.
    """
    low, high = picture.amin(0), picture.amax(0)
    bright = (low >= BRIGHT) & (high - low <= CHROMA) & (low < OPAQUE)
    if float(bright.float().mean()) < LEAST_GLASS:
        return None
    return torch.stack([x[bright].long().bincount(minlength=256).argmax() for x in picture]).byte()


def tissue(picture: UInt8[Tensor, "3 rows columns"]) -> Bool[Tensor, "rows columns"]:
    """Which pixels show tissue: it takes light away, more than 12 of 255 of at least one colour.

    Pale tissue is hardly coloured, but darker than glass. Where no glass is seen, all is tissue
    but padding, which is black or white.
    """
    shown = (picture.amax(0) > CHROMA) & (picture.amin(0) < OPAQUE)
    if (glass := glass_colour(picture)) is None:
        return shown
    return shown & ((glass[:, None, None].short() - picture.short()).amax(0) > ABSORBED)


def foreground(
    shown: Bool[Tensor, "rows columns"], side: int, stride: int
) -> Bool[Tensor, "down along"]:
    """Which windows show tissue: at least half of their pixels do."""
    return F.avg_pool2d(shown[None].float(), side, stride)[0] >= SHARE


def parted(
    picture: UInt8[Tensor, "3 rows columns"],
    held_out: int,
    side: int,
    stride: int,
    *,
    glass: bool = False,
) -> Parted:
    """Patches of all but the last `held_out` columns, and of those columns.

    Arguments:
        stride: Of the patches to train on; that of the held-out ones is half a side, so they too
            overlap one another.
        glass: Whether to keep windows that show no tissue.
    """
    border = picture.shape[2] - held_out
    shown = picture.new_ones(picture.shape[1:], dtype=torch.bool) if glass else tissue(picture)
    patches = []
    for part, step in ((slice(border), stride), (slice(border, None), side // 2)):
        cut = windows(picture[..., part], side, step)
        patches.append(cut[foreground(shown[:, part], side, step)])
    return Parted(*patches)


def gathered(
    pictures: Sequence[Parted], labels: Sequence[int], classes: tuple[str, ...], source: str
) -> Patches:
    """The patches of all pictures, each with its picture's label."""
    images = [part for picture in pictures for part in (picture.train, picture.held_out)]
    counts = torch.tensor([len(part) for part in images])
    owner = torch.tensor(labels).repeat_interleave(2).repeat_interleave(counts)
    held = torch.tensor([False, True]).repeat(len(pictures)).repeat_interleave(counts)
    return Patches(torch.cat(images), owner, held, classes, source)


def read_anhir(folder: Path, homes: Sequence[Path], side: int, stride: int) -> Patches:
    """Patches of the tissue in every picture of `homes`, one class a stain.

    Pictures whose names tell no stain, such as `S1.jpg` of the COAD sets, are left out; the source
    says how many.

    Raises:
        InputError: A folder has no picture; no name tells a stain; a picture is damaged, or too
            small for a patch in its last quarter.
    """
    paths = []
    for home in homes:
        if not (found := image_files(home)):
            raise bad(home, "no picture in it")
        paths += found
    stained = {path: name for path in paths if (name := stain(path)) is not None}
    if not stained:
        known = ", ".join(dict.fromkeys(STAINS.values()))
        raise bad(paths[0], f"no stain in this name nor in others; expected one of {known}")
    classes = tuple(sorted(set(stained.values()), key=str.casefold))
    pictures = [_slide(path, side, stride) for path in stained]
    scales = ", ".join(sorted({home.resolve().name for home in homes}))
    source = f"{folder.resolve().name}, ANHIR's layout, {scales}, {len(stained)} pictures"
    if left := [path.name for path in paths if path not in stained]:
        source += f", {len(left)} left out whose names tell no stain"
        said = f"tissue {folder}: no stain in {', '.join(left[:3])}; left out: {len(left)}"
        warnings.warn(said, LawfulWarning, stacklevel=2)
    labels = [classes.index(name) for name in stained.values()]
    return gathered(pictures, labels, classes, source)


def _slide(path: Path, side: int, stride: int) -> Parted:
    picture = read_rgb(path)
    rows, columns = picture.shape[1:]
    if rows < side or columns // HELD_OUT < side:
        least = f"{HELD_OUT * side} x {side}"
        raise bad(path, f"{columns} x {rows} pixels; expected {least} for patches of {side}")
    return parted(picture, columns // HELD_OUT, side, stride)


def stain(path: Path) -> str | None:
    """The one stain that a file's name tells: `29-041-Izd2-w35-proSPC-4-les1` is of `proSPC`."""
    words = re.split(r"[^a-z0-9]+", path.stem.lower().replace("pro-spc", "prospc"))
    found = {STAINS[word] for word in words if word in STAINS}
    return found.pop() if len(found) == 1 else None


def scale_folders(folder: Path) -> list[Path]:
    """The folders of pictures where `folder` is of ANHIR's layout; none where it is not.

    `folder` may be that of one scale, of one set, or of sets; of several scales the smallest is
    taken that every set has.

    Raises:
        InputError: The sets have no scale in common.
    """
    if SCALE.fullmatch(folder.resolve().name):
        return [folder]
    sets = [found] if (found := _scales(folder)) else []
    sets = sets or [found for path in visible(folder) if (found := _scales(path))]
    if not sets:
        return []
    if not (common := set.intersection(*(set(found) for found in sets))):
        raise bad(folder, "its sets have no scale in common; expected the same scale-Npc in each")
    return [found[min(common)] for found in sets]


def _scales(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    found = ((SCALE.fullmatch(path.name), path) for path in visible(folder) if path.is_dir())
    return {int(match[1]): path for match, path in found if match}
