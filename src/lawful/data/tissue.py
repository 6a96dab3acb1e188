"""Patches of stained tissue, RGB in [0, 1], with a class and what is held out.

What a source is, is told by what is there, in this order:

1. the name `immunohistochemistry`: the picture that comes with scikit-image;
2. a file `*.h5` or `*.hdf5`, or a folder with `training.h5`: LYSTO's published format (Ciompi et
   al. 2019, doi 10.5281/zenodo.3513571), datasets `x` (n, rows, columns, 3) of bytes and `organ`
   (n,) of strings; class: the organ, which is the string up to a `_`;
3. a folder `scale-<N>pc`, or with such folders, or with folders of them: ANHIR's layout (Borovec et
   al., IEEE Transactions on Medical Imaging 39 (2020) 3042), such as
   `lung-lesion_1/scale-5pc/29-041-Izd2-w35-Cc10-5-les1.jpg`; class: the stain, a word of the name;
4. a folder of folders of pictures of one size: class: the folder's name;
5. a folder of pictures of one size: one class.

1 and 3 are large pictures: patches are cut out and held out by region, the right columns, so no
pixel is in both parts; patches next to the border are neighbours. 2, 4 and 5 are many small
pictures: each gives one patch, the centred square averaged by area, and every fifth of a class is
held out; a patient may be in both parts. Of LYSTO's images it is a square of twice the side: a
patch in full resolution shows a cell or two, and nuclei in a whole one would be a few pixels wide.
"""

import re
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, UInt8
from skimage import data as examples
from skimage.transform import resize_local_mean
from torch import Tensor

from lawful.data.labelled import Labelled
from lawful.data.pictures import READERS, read_pixels
from lawful.errors import InputError, LawfulWarning
from lawful.reading import dataset, opened_hdf5, refusing

DEFAULT = "immunohistochemistry"
DEFAULT_COLUMNS = 192  # of 512, held out
STRIDE = 16  # of patches to train on
QUARTER, FIFTH = 4, 5  # part of a picture's columns, and of small images, that is held out
LYSTO, CHUNK = "training.h5", 512
SUFFIXES = tuple(ending for ending in READERS if ending != ".npy")
SCALE = re.compile(r"scale-(\d+)pc")
CHROMA, BRIGHT, LEAST_GLASS = 16, 200, 0.01  # glass is grey, bright, and there at all
ABSORBED, SHOWN = 12, 0.5  # of 255 grey levels; of a window's pixels
STAINS = {
    "he": "HE", "cc10": "Cc10", "cd31": "CD31", "ki67": "Ki67", "prospc": "proSPC",
    "er": "ER", "pr": "PR", "her2": "HER2", "neu": "CNEU", "cneu": "CNEU",
    "pas": "PAS", "mas": "MAS", "sma": "SMA", "cd4": "CD4", "cd68": "CD68", "ebv": "EBV",
    "pancytokeratin": "PanCytokeratin",
}  # fmt: skip
Patches = UInt8[Tensor, "n 3 side side"]
Picture = UInt8[Tensor, "3 rows columns"]
Shown = Bool[Tensor, "rows columns"]
Part = tuple[str, Patches, Bool[Tensor, " n"]]  # class, patches, which of them are held out


def load_tissue(source: str = DEFAULT, *, side: int = 64) -> Labelled:
    """Load patches of tissue; the last call's are kept.

    The default is colonic glands: FHL2 stained by DAB, counterstained with haematoxylin, 512 x 512
    pixels, "acquired at the Center for Microscopy And Molecular Imaging (CMMI)", "no known
    copyright restrictions" (scikit-image's documentation). Its last 192 columns are held out, the
    first 320 are trained on: 493 and 75 patches.

    Arguments:
        source: `immunohistochemistry`, a folder, or an HDF5 file: see the head of this module.
        side: Pixels per side of a patch; even. Where patches are cut out of large pictures they
            overlap, those to train on every 16 pixels and the held-out ones by half a side.

    Raises:
        InputError: The side is no even number; the source is unknown, empty, damaged, or not of
            the form above; an image is not RGB, of another size, or smaller than a patch; or a
            class has nothing to train on or nothing held out.
    """
    if side < 2 or side % 2:
        raise InputError(f"tissue: side {side}; expected a positive even number")
    return _load(source, source if source == DEFAULT else str(Path(source).absolute()), side)


@lru_cache(maxsize=1)
def _load(source: str, place: str, side: int) -> Labelled:
    """The same; `place` tells equal relative paths of different folders apart."""
    parts, origin = _read(source, side)
    classes = tuple(dict.fromkeys(name for name, _, _ in parts))
    labels = torch.cat([torch.full((len(x),), classes.index(name)) for name, x, _ in parts])
    images = torch.cat([patches for _, patches, _ in parts])
    held = torch.cat([right for _, _, right in parts])
    twin = _twins(images, held)
    if bool(twin.any()):
        origin += f", {int(twin.sum())} held-out twins of training patches left out"
    kept = (~twin).nonzero()[:, 0]
    order = kept[torch.randperm(len(kept), generator=torch.Generator().manual_seed(0))]
    train, right = order[~held[order]], order[held[order]]
    for chosen, what in ((train, "to train on"), (right, "held out")):
        present = labels[chosen].unique().tolist()
        if missing := [name for label, name in enumerate(classes) if label not in present]:
            raise InputError(f"tissue {source}: no patch of class {missing[0]!r} {what}")
    unit = images.float() / 255
    return Labelled(unit[train], labels[train], unit[right], labels[right], classes, origin)


def _twins(images: Patches, held: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Held-out patches that equal one to train on, pixel for pixel."""
    words = [image.numpy().tobytes() for image in images]
    known = {word for word, right in zip(words, held.tolist(), strict=True) if not right}
    return held & torch.tensor([word in known for word in words], dtype=torch.bool)


def _read(source: str, side: int) -> tuple[list[Part], str]:
    path = Path(source)
    if source == DEFAULT:
        return _scikit_image(side)
    if path.is_file() and path.suffix.lower() in (".h5", ".hdf5"):
        return _lysto(path, side)
    if not path.is_dir():
        raise InputError(f"tissue {source!r}: expected {DEFAULT}, a folder, or an HDF5 file")
    if (path / LYSTO).is_file():
        return _lysto(path / LYSTO, side)
    homes = _scale_folders(path)
    return _anhir(path, homes, side) if homes else _folder(path, side)


def _bad(path: Path, what: str) -> InputError:
    return InputError(f"tissue {path}: {what}")


def _shown(picture: Tensor) -> str:
    return f"{picture.shape[-1]} x {picture.shape[-2]}"


def read_rgb(path: Path) -> Picture:
    """The pixels of a picture in RGB; an opaque fourth channel is lost.

    Raises:
        InputError: The file cannot be read, is not of 8 bits per colour, or has transparent
            pixels; grey is not expanded, for its class would be told by its lack of colour.
    """
    found = read_pixels(path, "tissue")
    if found.values.ndim == 2:
        raise _bad(path, "grey; expected RGB")
    if found.values.dtype != np.uint8:
        raise _bad(path, f"colours of type {found.values.dtype}; expected 8 bits each")
    if found.opacity is not None and found.opacity.min() < 255:
        raise _bad(path, "transparent pixels; expected RGB")
    return torch.from_numpy(np.array(found.values)).movedim(-1, 0)


# Large pictures: patches are windows


def tissue(picture: Picture) -> Shown:
    """Which pixels show tissue: it takes light away, more than 12 of 255 of at least one colour.

    Pale tissue is hardly coloured, but darker than glass, which lets all light through: the
    commonest bright grey. Where less than 1 % is such, all is tissue but padding, which is black or
    white.
    """
    low, high = picture.amin(0), picture.amax(0)
    shown = (high > CHROMA) & (low < 255)
    bright = (low >= BRIGHT) & (high - low <= CHROMA) & (low < 255)
    if float(bright.float().mean()) < LEAST_GLASS:
        return shown
    glass = torch.stack([x[bright].long().bincount().argmax() for x in picture])
    return shown & ((glass[:, None, None] - picture.short()).amax(0) > ABSORBED)


def foreground(shown: Shown, side: int, stride: int) -> Bool[Tensor, "down along"]:
    """Which windows show tissue: at least half of their pixels do."""
    return F.avg_pool2d(shown[None].float(), side, stride)[0] >= SHOWN


def _windows(
    picture: Picture, shown: Shown, held_out: int, side: int
) -> tuple[Patches, Bool[Tensor, " n"]]:
    """Windows that show tissue, and which of them are of the last `held_out` columns."""
    border, parts = picture.shape[2] - held_out, []
    for columns, step in ((slice(border), STRIDE), (slice(border, None), side // 2)):
        cut = picture[..., columns].unfold(1, side, step).unfold(2, side, step)
        parts.append(cut.permute(1, 2, 0, 3, 4)[foreground(shown[:, columns], side, step)])
    counts = torch.tensor([len(part) for part in parts])
    return torch.cat(parts), torch.tensor([False, True]).repeat_interleave(counts)


def _scikit_image(side: int) -> tuple[list[Part], str]:
    """The whole picture, lumens too."""
    if side > DEFAULT_COLUMNS:
        raise InputError(f"tissue {DEFAULT}: side {side}; expected at most {DEFAULT_COLUMNS}")
    picture = torch.from_numpy(np.array(examples.immunohistochemistry())).movedim(-1, 0)
    everywhere = torch.ones(picture.shape[1:], dtype=torch.bool)
    cut = _windows(picture, everywhere, DEFAULT_COLUMNS, side)
    return [("tissue", *cut)], "scikit-image immunohistochemistry, 512 x 512"


def _anhir(folder: Path, homes: Sequence[Path], side: int) -> tuple[list[Part], str]:
    """Pictures whose names tell no stain, such as `S1.jpg` of the COAD sets, are left out."""
    paths = [path for home in homes for path in _pictures(home)]
    stained = {path: name for path in paths if (name := stain(path)) is not None}
    if not stained:
        known = ", ".join(dict.fromkeys(STAINS.values()))
        raise _bad(paths[0], f"no stain in this name nor in others; expected one of {known}")
    parts = []
    for path, name in sorted(stained.items(), key=lambda item: item[1].casefold()):
        picture = read_rgb(path)
        held_out = picture.shape[2] // QUARTER
        if min(picture.shape[1], held_out) < side:
            least = f"{QUARTER * side} x {side}"
            raise _bad(path, f"{_shown(picture)} pixels; expected {least} for patches of {side}")
        parts.append((name, *_windows(picture, tissue(picture), held_out, side)))
    scales = ", ".join(sorted({home.resolve().name for home in homes}))
    source = f"{folder.resolve().name}, ANHIR's layout, {scales}, {len(stained)} pictures"
    if left := [path.name for path in paths if path not in stained]:
        source += f", {len(left)} left out whose names tell no stain"
        said = f"tissue {folder}: no stain in {', '.join(left[:3])}; left out: {len(left)}"
        warnings.warn(said, LawfulWarning, stacklevel=2)
    return parts, source


def stain(path: Path) -> str | None:
    """The one stain that a file's name tells: `29-041-Izd2-w35-proSPC-4-les1` is of `proSPC`."""
    words = re.split(r"[^a-z0-9]+", path.stem.lower().replace("pro-spc", "prospc"))
    found = {STAINS[word] for word in words if word in STAINS}
    return found.pop() if len(found) == 1 else None


def _scale_folders(folder: Path) -> list[Path]:
    """The folders of pictures where `folder` is a scale's, a set's, or of sets; else none.

    Of several scales the smallest is taken that every set has.
    """
    if SCALE.fullmatch(folder.resolve().name):
        return [folder]
    scales: dict[int, list[Path]] = {}
    for path in (path for home in (folder, *_visible(folder)) for path in _visible(home)):
        if (match := SCALE.fullmatch(path.name)) and path.is_dir():
            scales.setdefault(int(match[1]), []).append(path)
    sets = {path.parent for homes in scales.values() for path in homes}
    common = [scale for scale, homes in scales.items() if len(homes) == len(sets)]
    if sets and not common:
        raise _bad(folder, "its sets have no scale in common; expected the same scale-Npc in each")
    return scales[min(common)] if sets else []


def _visible(folder: Path) -> list[Path]:
    """What is in a folder, by name, but for hidden entries; nothing where it is a file."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if not path.name.startswith("."))


def _pictures(folder: Path, least: int = 1) -> list[Path]:
    found = [path for path in _visible(folder) if path.suffix.lower() in SUFFIXES]
    found = [path for path in found if path.is_file()]
    if len(found) < least:
        raise _bad(folder, "no picture in it")
    return found


# Small pictures: each is a patch


def _middle(path: Path, images: Tensor, side: int, most: int) -> Patches:
    """The centred square of at most `most` pixels, averaged over the area of each new pixel."""
    rows, columns = images.shape[2:]
    span = min(most, rows, columns)
    if span < side:
        raise _bad(path, f"{_shown(images)} pixels; expected at least {side} per side")
    top, left = (rows - span) // 2, (columns - span) // 2
    square = images[..., top : top + span, left : left + span]
    if span == side:
        return square
    planes = square.flatten(0, 1).numpy()
    means = resize_local_mean(planes, (side, side), channel_axis=0, preserve_range=True)
    return torch.from_numpy(means).round().byte().unflatten(0, (-1, 3))


def _part(name: str, images: Patches) -> Part:
    """The first and every fifth image from there is held out."""
    return name, images, torch.arange(len(images)) % FIFTH == 0


def _lysto(path: Path, side: int) -> tuple[list[Part], str]:
    with opened_hdf5(path) as file, refusing(f"tissue {path}: truncated or damaged"):
        x, organ = (dataset(file, name, path, numbers=name == "x") for name in ("x", "organ"))
        right = x.ndim == 4 and x.shape[3:] == (3,) and x.dtype == np.uint8 and len(x)
        if not (right and organ.shape == x.shape[:1] and h5py.check_string_dtype(organ.dtype)):
            found = f"x is {x.shape} of {x.dtype}, organ {organ.shape} of {organ.dtype}"
            wanted = "(n, rows, columns, 3) of uint8 and (n,) of strings"
            raise _bad(path, f"{found}; expected {wanted}")
        names = np.array([name.split("_")[0] for name in organ.asstr()[:].tolist()])
        chunks = (torch.from_numpy(x[k : k + CHUNK]) for k in range(0, len(x), CHUNK))
        images = [_middle(path, part.movedim(-1, 1), side, 2 * side) for part in chunks]
    every = torch.cat(images)
    parts = [_part(name, every[names == name]) for name in sorted(set(names.tolist()))]
    return parts, f"{path.name}, LYSTO's format, {len(names)} images"


def _folder(folder: Path, side: int) -> tuple[list[Part], str]:
    homes = [path for path in _visible(folder) if path.is_dir()]
    if homes and _pictures(folder, 0):
        raise _bad(folder, "images and folders side by side; expected one or the other")
    paths = {home: _pictures(home) for home in homes or [folder]}
    first = next(iter(paths.values()))[0]
    size = read_rgb(first).shape

    def patch(path: Path) -> Patches:
        picture = read_rgb(path)
        if picture.shape != size:
            like = f"{size[2]} x {size[1]} like {first.name}"
            raise _bad(path, f"{_shown(picture)} pixels; expected {like}")
        return _middle(path, picture[None], side, max(size))

    parts = [_part(home.resolve().name, torch.cat([*map(patch, p)])) for home, p in paths.items()]
    return parts, f"{folder.resolve().name}, {sum(map(len, paths.values()))} images"
