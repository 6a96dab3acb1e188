"""Patches of stained tissue, RGB in [0, 1], with a class and what is held out.

What a source is, is told by what is there, in this order:

1. the name `immunohistochemistry`: the picture that comes with scikit-image;
2. a file `*.h5` or `*.hdf5`, or a folder with `training.h5`: LYSTO's published format (Ciompi et
   al. 2019, doi 10.5281/zenodo.3513571), datasets `x` (n, 299, 299, 3) of bytes, `y` (n,) counts
   of lymphocytes, `organ` (n,) strings; class: the organ, which is the string up to a `_`;
3. a folder `scale-<N>pc`, or with such folders, or with folders of them: ANHIR's layout; class:
   the stain (`lawful.data.slides`);
4. a folder of folders of pictures of one size: class: the folder's name;
5. a folder of pictures of one size: one class.

1 and 3 are large pictures: patches are cut out, and held out by region. 2, 4 and 5 are many small
ones: each gives one patch, and every fifth of a class is held out. Nothing tells which of those
are of one patient, so a patient may be in both parts.

Of LYSTO's images the middle 2 side x 2 side pixels are averaged two by two: a compromise between
a patch in full resolution, which shows a cell or two, and the whole image, whose nuclei would be a
few pixels wide. Of other small pictures, and where an image is smaller than that, the largest
centred square is averaged by area. The means are rounded to bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from skimage import data as pictures
from torch import Tensor

from lawful.data.pictures import area_weights
from lawful.data.slides import (
    Patches,
    bad,
    gathered,
    image_files,
    parted,
    read_anhir,
    read_rgb,
    scale_folders,
    visible,
)
from lawful.errors import InputError
from lawful.reading import DAMAGED, dataset, opened_hdf5, reason

DEFAULT = "immunohistochemistry"
HELD_OUT_COLUMNS = 192  # of 512
HELD_OUT = 5  # every fifth image of a class, where images are whole
LYSTO, DATASETS, CHUNK = "training.h5", ("x", "y", "organ"), 512
HDF5 = (".h5", ".hdf5")


@dataclass(frozen=True)
class Tissue:
    """Patches of tissue, split into what may be trained on and what is held out.

    Arguments:
        classes: Names that the labels count.
        source: Where they come from, for manifests; the last name of a folder or file only.
    """

    train: Float[Tensor, "train 3 side side"]
    train_labels: Int[Tensor, " train"]
    held_out: Float[Tensor, "test 3 side side"]
    held_out_labels: Int[Tensor, " test"]
    classes: tuple[str, ...]
    source: str


def load_tissue(
    source: str = DEFAULT, *, side: int = 64, train_stride: int = 16, seed: int = 0
) -> Tissue:
    """Load patches of tissue, in [0, 1]; the last call's are kept.

    The default is colonic glands: FHL2 stained by DAB, counterstained with haematoxylin, 512 x 512
    pixels, "acquired at the Center for Microscopy And Molecular Imaging (CMMI)", "no known
    copyright restrictions" (scikit-image's documentation). Its last 192 columns are held out, the
    first 320 are trained on: 493 and 75 patches.

    Arguments:
        source: `immunohistochemistry`, a folder, or an HDF5 file: see the head of this module.
        side: Pixels a side of a patch; even.
        train_stride: Pixels from one training patch to the next where they are cut out of large
            pictures, so they overlap one another. Held-out patches do too: theirs is half a side.
        seed: Of the order of the patches: the first n are drawn from all, not from one corner.

    Raises:
        InputError: An argument is out of range; the source is unknown, empty, damaged, or not of
            the form above; an image is not RGB, of another size, or smaller than a patch; or a
            class has nothing to train on or nothing held out.
    """
    place = source if source == DEFAULT else str(Path(source).absolute())
    return _load(source, place, side, train_stride, seed)


@lru_cache(maxsize=1)
def _load(source: str, place: str, side: int, train_stride: int, seed: int) -> Tissue:
    """The same; `place` tells equal relative paths of different folders apart."""
    if side < 2 or side % 2:
        raise InputError(f"tissue: side {side}; expected a positive even number")
    if train_stride < 1:
        raise InputError(f"tissue: train stride {train_stride}; expected at least 1")
    patches = without_twins(_read(source, side, train_stride))
    _check_classes(patches, source)
    return _tissue(patches, seed)


def _read(source: str, side: int, stride: int) -> Patches:
    if source == DEFAULT:
        return from_scikit_image(side, stride)
    path = Path(source)
    if path.is_file() and path.suffix.lower() in HDF5:
        return from_lysto(path, side)
    if not path.is_dir():
        raise InputError(f"tissue {source!r}: expected {DEFAULT}, a folder, or an HDF5 file")
    if (path / LYSTO).is_file():
        return from_lysto(path / LYSTO, side)
    if homes := scale_folders(path):
        return read_anhir(path, homes, side, stride)
    return from_folder(path, side)


def without_twins(patches: Patches) -> Patches:
    """Without held-out patches that equal one to train on, pixel for pixel; the source says so."""
    words = [image.numpy().tobytes() for image in patches.images]
    known = {words[i] for i in (~patches.held).nonzero()[:, 0].tolist()}
    twin = patches.held & torch.tensor([word in known for word in words], dtype=torch.bool)
    if not bool(twin.any()):
        return patches
    source = f"{patches.source}, {int(twin.sum())} held-out twins of training patches left out"
    return Patches(
        patches.images[~twin], patches.labels[~twin], patches.held[~twin], patches.classes, source
    )


def _check_classes(patches: Patches, source: str) -> None:
    for part, what in ((~patches.held, "to train on"), (patches.held, "held out")):
        counts = patches.labels[part].bincount(minlength=len(patches.classes))
        for name, count in zip(patches.classes, counts.tolist(), strict=True):
            if count == 0:
                raise InputError(f"tissue {source}: no patch of class {name!r} {what}")


def _tissue(patches: Patches, seed: int) -> Tissue:
    order = torch.randperm(len(patches.labels), generator=torch.Generator().manual_seed(seed))
    train, held = order[~patches.held[order]], order[patches.held[order]]
    images = [patches.images[rows].float().div_(255) for rows in (train, held)]
    labels = [patches.labels[rows] for rows in (train, held)]
    return Tissue(images[0], labels[0], images[1], labels[1], patches.classes, patches.source)


def from_scikit_image(side: int, stride: int) -> Patches:
    """The picture that comes with scikit-image, cut; all of it, lumens too."""
    if side > HELD_OUT_COLUMNS:
        raise InputError(f"tissue {DEFAULT}: side {side}; expected at most {HELD_OUT_COLUMNS}")
    picture = torch.from_numpy(np.array(pictures.immunohistochemistry())).movedim(-1, 0)
    cut = parted(picture, HELD_OUT_COLUMNS, side, stride, glass=True)
    return gathered([cut], [0], ("tissue",), "scikit-image immunohistochemistry, 512 x 512")


def from_lysto(path: Path, side: int) -> Patches:
    """One patch an image, read in chunks and only where the patch is."""
    with opened_hdf5(path) as file:
        try:
            x, organs = _datasets(file, path, side)
            images = torch.cat(_middles(x, side))
        except InputError:
            raise
        except DAMAGED as error:
            raise bad(path, f"truncated or damaged ({reason(error)})") from None
    classes = tuple(sorted(set(organs)))
    labels = torch.tensor([classes.index(name) for name in organs])
    source = f"{path.name}, LYSTO's format, {len(organs)} images"
    return Patches(images, labels, _every_fifth(labels), classes, source)


def _datasets(file: Any, path: Path, side: int) -> tuple[Any, list[str]]:
    """The images, unread, and the organs, once the file's form is known to be right."""
    for name in DATASETS:
        if not isinstance(file.get(name), h5py.Dataset):
            there = ", ".join(file) or "none"
            raise bad(path, f"no dataset {name!r}; expected x, y, organ, there are {there}")
    x, y, organ = (dataset(file, name, path, numbers=name != "organ") for name in DATASETS)
    if x.ndim != 4 or x.shape[3] != 3 or x.dtype != np.uint8 or len(x) == 0:
        found = f"shape {x.shape} and type {x.dtype}"
        raise bad(path, f"'x' has {found}; expected (n, rows, columns, 3) of uint8")
    if y.shape != (len(x),) or organ.shape != (len(x),):
        raise bad(path, f"x has {len(x)} images, y is {y.shape}, organ {organ.shape}")
    if h5py.check_string_dtype(organ.dtype) is None:
        raise bad(path, f"'organ' has type {organ.dtype}; expected strings")
    if min(x.shape[1:3]) < side:
        size = f"{x.shape[2]} x {x.shape[1]} pixels"
        raise bad(path, f"images of {size}; expected at least {side} a side")
    return x, [name.split("_")[0] for name in organ.asstr()[:].tolist()]


def _middles(x: Any, side: int) -> list[UInt8[Tensor, "_ 3 side side"]]:
    rows, columns = x.shape[1:3]
    span = min(2 * side, rows, columns)
    top, left = (rows - span) // 2, (columns - span) // 2
    found = []
    for first in range(0, len(x), CHUNK):
        block = x[first : first + CHUNK, top : top + span, left : left + span]
        found.append(_averaged(torch.from_numpy(block).movedim(-1, 1), side))
    return found


def _averaged(images: UInt8[Tensor, "n 3 span span"], side: int) -> UInt8[Tensor, "n 3 side side"]:
    """Means over the area of each new pixel, rounded to bytes."""
    span = images.shape[-1]
    if span == side:
        return images
    weights = area_weights(span, side)
    return (weights @ images.float() @ weights.T).round().byte()


def _every_fifth(labels: Int[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """The first of each class, and every fifth from there."""
    held = torch.zeros(len(labels), dtype=torch.bool)
    for label in labels.unique():
        held[(labels == label).nonzero()[::HELD_OUT, 0]] = True
    return held


def from_folder(folder: Path, side: int) -> Patches:
    """One patch a picture; a class a sub-folder, or one class where there are none."""
    homes, here = [path for path in visible(folder) if path.is_dir()], image_files(folder)
    if here and homes:
        raise bad(folder, "images and folders side by side; expected one or the other")
    homes = homes or [folder]
    paths, labels = [], []
    for label, home in enumerate(homes):
        found = image_files(home)
        if not found and home == folder:
            raise bad(folder, "no picture in it")
        if not found:
            raise InputError(f"tissue: no image of class {home.name!r} in {folder}")
        paths += found
        labels += [label] * len(found)
    images, owner = _same_size(paths, side), torch.tensor(labels)
    classes = tuple(home.resolve().name for home in homes)
    source = f"{folder.resolve().name}, {len(paths)} images"
    return Patches(images, owner, _every_fifth(owner), classes, source)


def _same_size(paths: Sequence[Path], side: int) -> UInt8[Tensor, "_ 3 side side"]:
    found: list[Tensor] = []
    expected: tuple[int, ...] = ()
    for path in paths:
        picture = read_rgb(path)
        rows, columns = picture.shape[1:]
        expected = expected or (rows, columns)
        if (rows, columns) != expected:
            like = f"{expected[1]} x {expected[0]} like {paths[0].name}"
            raise bad(path, f"{columns} x {rows} pixels; expected {like}")
        if min(rows, columns) < side:
            raise bad(path, f"{columns} x {rows} pixels; expected at least {side} a side")
        span = min(rows, columns)
        top, left = (rows - span) // 2, (columns - span) // 2
        middle = picture[None, :, top : top + span, left : left + span]
        found.append(_averaged(middle, side))
    return torch.cat(found)
