"""Two-phase images from pictures: grey levels, banner, threshold, scale.

References: Otsu, IEEE Transactions on Systems, Man, and Cybernetics 9 (1979) 62, the threshold.
"""

import csv
import warnings
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage, signal

from lawful.data.pictures import Pixels, read_pixels
from lawful.errors import InputError, LawfulWarning
from lawful.reading import check_memory, read_text, reason
from lawful.typed import shown

LEAST = 8  # pixels a side
WIDEST = 99  # pixels of a median filter, whose time grows with them
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
SEGMENTED = 16  # values at most of an image whose phases somebody told apart already
PEAK, BLUR, LEVELS = 0.03, 4.0, 256  # of the histogram that more than two phases are looked for in
NEAR, SHARE = 17, 0.05  # levels near a peak, and the least share of the pixels there
FEW = 2**22  # pixels that a banner is looked for in
WORK = (6, 48)  # bytes per pixel that reading and measuring take at most: see `read_pixels`
LOSSY = (
    "a lossy format changes grey levels beside interfaces: surface and short distances are less "
    "certain; prefer TIFF or PNG"
)

Grey = Shaped[np.ndarray, "rows columns"]
Correlation = Float[np.ndarray, " radius"]  # two-point, at 0, 1, 2, … pixels


@dataclass(frozen=True)
class Micrograph:
    """A two-phase image.

    Arguments:
        image: The indicator: true in the phase that is described.
        grey: What was thresholded, in the file's grey values and, where they are not mixed from
            colours, their type; after the crop and the median filter.
        threshold: Pixels above it are bright; `None` where the file held two values only.
        phase: `bright` or `dark`: which one the indicator is of.
        source: Name of the file, without its folder.
        pixel_size: Side of a pixel in `unit`; `None` where nobody said.
        unit: `nm` where the file said so, `unit` where the caller did.
        banner: Rows that were cut at the bottom.
        notes: What a user should know of the file before its statistics are believed.
    """

    image: Bool[np.ndarray, "rows columns"]
    grey: Grey
    threshold: float | None
    phase: str
    source: str
    pixel_size: float | None = None
    unit: str = "unit"
    banner: int = 0
    notes: tuple[str, ...] = ()

    def described(self) -> str:
        """What was read, and how its phases were told apart, in a line."""
        rows, columns = self.image.shape
        size = "" if self.pixel_size is None else f" of {self.pixel_size:g} {self.unit}"
        cut = f", {self.banner} rows cut at the bottom" if self.banner else ""
        level = "two values" if self.threshold is None else f"threshold {self.threshold:g}"
        return (
            f"{self.source}: {rows} x {columns} pixels{size}{cut}; {level}; {self.phase} phase, "
            f"p1 = {float(self.image.mean()):.4f}"
        )


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

    Colour becomes luminance; transparency is ignored. A file of two values is not thresholded. Of
    a file with more than two phases those on one side of the threshold are one: a note says so.

    Arguments:
        threshold: In the file's own grey values; Otsu's unless given.
        phase: `bright` (above the threshold) or `dark`.
        crop: Rows to cut at the bottom; unless given, an information banner is looked for.
        pixel_size: Side of a pixel; unless given, from the tags that Zeiss and FEI microscopes and
            ImageJ write.
        median: Side of a median filter before the threshold. Noise makes specks, and specks
            surface: 3 or 5 for scanning electron micrographs. 1 is none.

    Raises:
        InputError: The file cannot be read, is no single two-dimensional image of finite values
            with at least 8 pixels a side, or has but one phase; memory cannot hold it and its
            statistics; or an argument is out of range.
    """
    for right, said in (
        (phase in ("bright", "dark"), f"phase {phase!r}; expected bright or dark"),
        (crop is None or crop >= 0, f"crop {crop}; expected 0 rows or more"),
        (pixel_size is None or 0 < pixel_size < np.inf,
         f"pixel size {pixel_size or 0:g}; expected a positive number"),
        (1 <= median <= WIDEST and median % 2,
         f"median filter of {shown(median)} pixels; expected an odd number up to {WIDEST}"),
    ):  # fmt: skip
        if not right:
            raise InputError(f"micrograph: {said}")
    path = Path(path)
    pixels = read_pixels(path, "micrograph", work=WORK)
    grey, unit = _grey(pixels, path), "unit"
    if pixel_size is None and pixels.pixel_size is not None:
        pixel_size, unit = pixels.pixel_size, "nm"
    banner = banner_rows(grey) if crop is None else crop
    grey = grey[: max(len(grey) - banner, 0)]
    if min(grey.shape) < LEAST:
        cut = f" after {banner} rows were cut" if banner else ""
        raise _bad(path, f"{grey.shape[0]} x {grey.shape[1]} pixels{cut}; expected {LEAST} a side")
    if median > 1:
        grey = ndimage.median_filter(grey, median, mode="reflect")
    level, found = _threshold(grey, threshold, path)
    image = grey > level if phase == "bright" else grey <= level
    notes = (LOSSY,) * pixels.lossy + _several_phases(grey, level)
    return Micrograph(image, grey, found, phase, path.name, pixel_size, unit, banner, notes)


def _bad(path: Path, what: str) -> InputError:
    return InputError(f"micrograph {path}: {what}")


def read_like(path: Path) -> Micrograph | Correlation:
    """A picture, or the two-point correlation of a `statistics.csv`, by the file's ending.

    Warns of what a user should know of a picture before its statistics are believed.
    """
    if path.suffix.lower() == ".csv":
        return read_correlation(path)
    found = read_micrograph(path)
    for note in found.notes:  # told where `Model.like` is called
        warnings.warn(f"{found.source}: {note}", LawfulWarning, stacklevel=5)
    return found


def read_correlation(path: Path) -> Correlation:
    """The column `p2` of the `statistics.csv` that `lawful stats` writes.

    Raises:
        InputError: The file cannot be read, or has no such column of finite numbers at the
            distances 0, 1, 2, … in its column `r`.
    """
    try:
        rows = list(csv.DictReader(StringIO(read_text(path), newline="")))
        found = np.array([float(row["p2"]) for row in rows])
        distances = [float(row["r"]) for row in rows]
    except InputError as error:
        raise InputError(f"statistics {error}") from None
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        why = reason(error)
        raise InputError(f"statistics {path}: expected columns r and p2 ({why})") from None
    if not rows or distances != list(range(len(rows))) or not np.isfinite(found).all():
        raise InputError(f"statistics {path}: expected finite p2 at r = 0, 1, 2, …")
    return found


def _grey(pixels: Pixels, path: Path) -> Grey:
    """Luminance in the file's own values, and in its own type where it is grey already."""
    values = pixels.values
    values = values.view(np.uint8) if values.dtype == bool else values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise _bad(path, "NaN or infinite pixels; expected finite values")
    if values.ndim == 2:
        return values
    red, green, blue = (values[..., i] for i in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return red
    grey = np.multiply(red, LUMINANCE[0], dtype=float)
    for weight, colour in zip(LUMINANCE[1:], (green, blue), strict=True):
        grey += weight * colour  # one colour at a time: memory is counted
    return grey


def _two_values(grey: Grey) -> bool:
    """Whether an image holds its least and its largest value only."""
    return bool(((grey == grey.min()) | (grey == grey.max())).all())


def _threshold(grey: Grey, asked: float | None, path: Path) -> tuple[float, float | None]:
    """The level between the phases, and the threshold to tell of."""
    low, high = float(grey.min()), float(grey.max())
    if low == high:
        raise _bad(path, f"every pixel has the value {low:g}; expected two phases")
    if asked is not None and not low <= asked < high:
        raise _bad(path, f"threshold {asked:g}; expected from {low:g} to below {high:g}")
    if asked is None and _two_values(grey):
        return (low + high) / 2, None
    level = otsu(grey) if asked is None else asked
    return level, level


def _several_phases(grey: Grey, level: float) -> tuple[str, ...]:
    """A note where grey levels gather at more than two values.

    These are the few values there are, or peaks of the histogram. A peak stands out of it,
    smoothed, by more than 3 % of the highest, and 5 % of the pixels are near it: saturated ones, at
    either end, seldom are as many.
    """
    counts, edges = np.histogram(grey, LEVELS, (float(grey.min()), float(grey.max())))
    if np.count_nonzero(counts) <= SEGMENTED:
        phases = np.unique(grey)
    else:
        smooth = ndimage.gaussian_filter1d(counts.astype(float), BLUR, mode="constant")
        peaks, _ = signal.find_peaks(np.pad(smooth, 1), prominence=PEAK * smooth.max())
        near = ndimage.uniform_filter1d(counts.astype(float), NEAR, mode="constant") * NEAR
        peaks = peaks[near[peaks - 1] >= SHARE * grey.size] - 1
        phases = (edges[peaks] + edges[peaks + 1]) / 2
    if len(phases) <= 2:
        return ()
    values = ", ".join(f"{value:.4g}" for value in phases.astype(float))
    return (
        f"grey levels gather at {len(phases)} values ({values}): more than two phases? Those on "
        f"one side of {level:.4g} are taken as one",
    )


def otsu(grey: Shaped[np.ndarray, "*shape"]) -> float:
    r"""The threshold of largest variance between the classes (Otsu 1979).

    .. math:: \sigma_B^2(t) = \omega_0 \omega_1 (\mu_1 - \mu_0)^2

    with the shares ω and the means μ of the pixels up to and above t. All distinct values are
    tried, without a histogram, in double precision; scikit-image counts in single precision, which
    fails beyond 2^24 pixels. The result is halfway between two values.

    Raises:
        InputError: All values are equal.
    """
    values, counts = np.unique(grey, return_counts=True)
    if len(values) < 2:
        raise InputError("threshold: all values are equal; expected two phases")
    values = values.astype(float)
    centred = values - np.average(values, weights=counts)
    below = np.cumsum(counts)[:-1] / counts.sum()
    moment = np.cumsum(counts * centred)[:-1] / counts.sum()
    best = int(np.argmax(moment**2 / (below * (1 - below))))
    return float(values[best] + (values[best + 1] - values[best]) / 2)


def banner_rows(grey: Grey) -> int:
    """Rows of the information banner at the bottom of an electron micrograph; 0 without one.

    A banner starts at a seam (the median change of grey from a row to the next stands out from
    that of the rows above), takes at most the lowest quarter, and is of one background colour
    with marks on it, which the rows above are not. An image of two values is left alone. Of a
    large image every second, third, … column is looked at.
    """
    rows = len(grey)
    if _two_values(grey):
        return 0
    few, low, high = grey[:, :: 1 + grey.size // FEW], float(grey.min()), float(grey.max())
    x = (few - low) / (high - low)
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
    plain, plain_above = (np.abs(z - background) < 0.02 for z in (block, above))
    marks = (np.abs(block - background) > 0.25).mean()
    return bool(
        plain.mean() > 0.6
        and (plain.mean(1) > 0.5).mean() > 0.75
        and (plain_above.mean(1) > 0.5).mean() < 0.2
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
    grey, (rows, columns) = micrograph.grey, micrograph.grey.shape
    each = 4 * factor * (rows**2 + columns**2) + (3 + 4 * factor**2) * rows * columns
    check_memory(8 * each, f"rescaled: {rows} x {columns} pixels by {factor:g}")
    down, along = (_averages(side, factor) for side in grey.shape)
    if min(len(down), len(along)) < LEAST:
        raise InputError(
            f"rescaled: factor {factor:g} leaves {len(down)} x {len(along)} pixels of "
            f"{micrograph.source}; expected {LEAST} a side"
        )
    mean = down @ grey @ along.T
    # A file of two values has many equal means: a wider mean settles which come first.
    wide = down @ ndimage.gaussian_filter(grey.astype(float), max(1.0, 1 / factor)) @ along.T
    sign = -1 if micrograph.phase == "bright" else 1
    order = np.lexsort((sign * wide.ravel(), sign * mean.ravel()))
    count = round(float(micrograph.image.mean()) * mean.size)
    if not 0 < count < mean.size:
        raise InputError(f"rescaled: factor {factor:g} leaves {micrograph.source} one phase")
    image = np.zeros(mean.size, dtype=bool)
    image[order[:count]] = True
    size = None if micrograph.pixel_size is None else micrograph.pixel_size / factor
    return replace(micrograph, image=image.reshape(mean.shape), grey=mean, pixel_size=size)


def _averages(side: int, factor: float) -> Float[np.ndarray, "new old"]:
    """Rows of weights: the share of each old pixel in the window of each new one."""
    centre = (np.arange(int(side * factor + 1e-9)) + 0.5) / factor
    half = max(1.0, 1 / factor) / 2
    start, stop = (centre - half)[:, None], (centre + half)[:, None]
    old = np.arange(side)
    share = np.clip(np.minimum(stop, old + 1) - np.maximum(start, old), 0, None)
    return share / share.sum(1, keepdims=True)
