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
from PIL import Image
from torch import Tensor

from lawful.errors import InputError

FORMATS = ("PNG", "JPEG", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
OPAQUE = 255
SCALE = re.compile(r"scale-(\d+)pc")
HELD_OUT = 4  # the last quarter of a picture's columns
CHROMA, SHARE = 16, 0.5
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
    """The pixels of a PNG, JPEG or TIFF file in RGB; opaque RGBA loses its fourth channel.

    Raises:
        InputError: The file is damaged or truncated, holds several images, or is in another mode:
            grey is not expanded, for its class would be told by its lack of colour.
    """
    try:
        with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as picture:
            warnings.simplefilter("ignore")
            count, mode = getattr(picture, "n_frames", 1), picture.mode
            picture.load()
            pixels = np.array(picture)
    except Exception as error:  # noqa: BLE001  decoders of damaged files raise of every kind
        reason = " ".join(str(error).split())[:80]
        raise bad(path, f"truncated or damaged, or no PNG, JPEG or TIFF ({reason})") from None
    if count > 1:
        raise bad(path, f"{count} images; expected one")
    if mode not in ("RGB", "RGBA"):
        raise bad(path, f"mode {mode}; expected RGB")
    if mode == "RGBA" and pixels[..., 3].min() < OPAQUE:
        raise bad(path, "RGBA with transparent pixels; expected RGB")
    return torch.from_numpy(pixels[..., :3]).movedim(-1, 0)


def windows(
    picture: UInt8[Tensor, "3 rows columns"], side: int, stride: int
) -> UInt8[Tensor, "down along 3 side side"]:
    """All windows that start at multiples of `stride`; a view."""
    cut = picture.unfold(1, side, stride).unfold(2, side, stride)
    return cut.permute(1, 2, 0, 3, 4)


def foreground(
    picture: UInt8[Tensor, "3 rows columns"], side: int, stride: int
) -> Bool[Tensor, "down along"]:
    """Which windows show tissue: at least half of their pixels have colour.

    A pixel has colour where its largest and smallest channel differ by more than 16 of 255. Glass
    is white or grey, padding black or white: neither has.
    """
    coloured = picture.amax(0) - picture.amin(0) > CHROMA
    return F.avg_pool2d(coloured[None].float(), side, stride)[0] >= SHARE


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
    patches = []
    for region, step in ((picture[..., :border], stride), (picture[..., border:], side // 2)):
        cut = windows(region, side, step)
        patches.append(cut.flatten(0, 1) if glass else cut[foreground(region, side, step)])
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

    Raises:
        InputError: A folder has no picture; a file's name has no stain or several; a picture is
            damaged, or too small for a patch in its last quarter.
    """
    paths = []
    for home in homes:
        if not (found := image_files(home)):
            raise bad(home, "no PNG, JPEG or TIFF image in it")
        paths += found
    stains = [stain(path) for path in paths]
    classes = tuple(sorted(set(stains), key=str.casefold))
    pictures = [_slide(path, side, stride) for path in paths]
    scales = ", ".join(sorted({home.resolve().name for home in homes}))
    source = f"{folder.resolve().name}, ANHIR's layout, {scales}, {len(paths)} pictures"
    return gathered(pictures, [classes.index(name) for name in stains], classes, source)


def _slide(path: Path, side: int, stride: int) -> Parted:
    picture = read_rgb(path)
    rows, columns = picture.shape[1:]
    if rows < side or columns // HELD_OUT < side:
        least = f"{HELD_OUT * side} x {side}"
        raise bad(path, f"{columns} x {rows} pixels; expected {least} for patches of {side}")
    return parted(picture, columns // HELD_OUT, side, stride)


def stain(path: Path) -> str:
    """The stain that a file's name tells: `29-041-Izd2-w35-proSPC-4-les1` is of `proSPC`."""
    words = re.split(r"[^a-z0-9]+", path.stem.lower().replace("pro-spc", "prospc"))
    found = {STAINS[word] for word in words if word in STAINS}
    if len(found) != 1:
        known = ", ".join(dict.fromkeys(STAINS.values()))
        raise bad(path, f"{len(found)} stains in its name; expected one of {known}")
    return found.pop()


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
