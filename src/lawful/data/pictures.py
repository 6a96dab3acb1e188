"""The one door by which pictures come in: PNG, JPEG, BMP, WebP, TIFF and NPY files as arrays.

Whatever a file says of its pixels is obeyed before anyone sees them: palettes, inks, white as
zero, transparency, and the orientation that cameras write. What cannot be obeyed is refused.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from jaxtyping import Shaped
from PIL import Image

from lawful.errors import InputError
from lawful.reading import check_memory, read_npy, reason

FIGURE = {"lawful": "a figure, no data"}  # the text of a PNG file that shows data and is none
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
LOSSY = ("JPEG", "MPO")  # and some WebP files
NANOMETRES = {"fm": 1e-6, "pm": 1e-3, "nm": 1.0, "µm": 1e3, "μm": 1e3, "um": 1e3, "micron": 1e3,
              "\\u00B5m": 1e3, "mm": 1e6, "cm": 1e7, "m": 1e9}  # fmt: skip
ORIENTATION = 274  # the tag of TIFF and of EXIF
KINDS = tifffile.PHOTOMETRIC
ALPHA = {tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA}
SQUARE = 0.01  # relative difference below which the sides of a pixel are equal
CODECS = "its compression or number of bits needs imagecodecs: pip install 'lawful[io]'"


@dataclass(frozen=True)
class Pixels:
    """The one picture of a file.

    Arguments:
        values: Grey, or red, green and blue, in the file's own type.
        opacity: Opacity in the file's own type, where it has transparency.
        pixel_size: Side of a pixel in nanometres, where the file says so and pixels are square.
        lossy: Whether the file's compression changes the values.
    """

    values: Shaped[np.ndarray, "rows columns *colour"]
    opacity: Shaped[np.ndarray, "rows columns"] | None = None
    pixel_size: float | None = None
    lossy: bool = False


@dataclass(frozen=True)
class Source:
    """A file to read, what it is to be, and what its reader will need.

    Arguments:
        noun: What messages call it: `micrograph`, `tissue`, `motif`.
        work: Bytes per pixel that the caller needs beside the values: of grey levels of at most
            16 bits, and of all others.
    """

    path: Path
    noun: str
    work: tuple[int, int] = (0, 0)

    def bad(self, what: str) -> InputError:
        """The one line that is said of the file."""
        return InputError(f"{self.noun} {self.path}: {what}")

    def check(self, shape: tuple[int, ...], bits: int) -> None:
        """Refuse what is no picture, and what memory cannot hold, before memory is asked for."""
        if len(shape) not in (2, 3) or not all(shape):
            raise self.bad(f"an array of shape {shape}; expected one picture, grey or in colour")
        few = bits <= 16 and len(shape) == 2
        each = self.work[0 if few else 1] + 2 * prod(shape[2:]) * max(bits, 8) // 8
        size = f"{shape[0]} x {shape[1]} pixels"
        check_memory(shape[0] * shape[1] * each, f"{self.noun} {self.path}: {size}")


def read_pixels(path: Path, noun: str, *, work: tuple[int, int] = (0, 0)) -> Pixels:
    """Read the one picture of a file.

    Arguments:
        noun, work: As in `Source`.

    Raises:
        InputError: The file is absent, damaged, of another kind, or a figure of this library; it
            holds several pictures, or channels without a meaning; or memory cannot hold it.
    """
    source, ending = Source(path, noun, work), path.suffix.lower()
    if ending not in READERS:
        raise source.bad(f"ending {path.suffix!r}; expected one of {', '.join(READERS)}")
    if not path.is_file():
        raise source.bad("there is no such file")
    try:
        return READERS[ending](source)
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise source.bad(f"{reason(error)} Save it as TIFF or NPY if you trust it.") from None
    except Exception as error:  # noqa: BLE001  decoders of damaged files raise of every kind
        kind = ending[1:].upper()
        raise source.bad(
            f"cannot be read as {kind}: truncated or damaged ({reason(error)})"
        ) from None


def _read_npy(source: Source) -> Pixels:
    place = f"{source.noun} {source.path}"
    found = read_npy(source.path, place, own_type=True, check=source.check)
    if found.ndim == 3 and found.shape[2] not in (1, 3, 4):
        raise source.bad(
            f"an array of shape {found.shape}; expected one picture: (rows, columns), "
            "(rows, columns, 3) or (rows, columns, 4)"
        )
    return _parted(found, alpha=found.shape[2:] == (4,))


def _parted(values: np.ndarray, *, alpha: bool) -> Pixels:
    """Grey or colour, with the last channel apart where it is opacity."""
    if values.ndim == 2:
        return Pixels(values)
    opacity, colour = (values[..., -1], values[..., :-1]) if alpha else (None, values)
    return Pixels(colour[..., 0] if colour.shape[2] == 1 else colour[..., :3], opacity)


def _read_picture(source: Source, formats: tuple[str, ...] = FORMATS) -> Pixels:
    """By Pillow, whatever the file's ending."""
    with warnings.catch_warnings(), Image.open(source.path, formats=formats) as picture:
        warnings.simplefilter("ignore")  # of odd metadata, and of pictures that are large
        if (count := getattr(picture, "n_frames", 1)) > 1:
            raise source.bad(f"{count} pages; expected one picture")
        bands = picture.getbands()
        colours = (len(bands),) if len(bands) > 1 else ()
        source.check((picture.height, picture.width, *colours), 16)
        if len(bands) > 2 and ";16" in str(picture.tile):
            raise source.bad("16 bits per colour, of which Pillow reads 8; save it as TIFF")
        picture.load()
        if FIGURE.items() <= picture.info.items():
            raise source.bad("a figure, which shows data; expected data: save them as .tif")
        plain: Image.Image = picture
        if picture.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
            alpha = picture.mode == "PA" or "transparency" in picture.info
            plain = picture.convert("RGBA" if alpha else "RGB")
        values = _upright(np.asarray(plain), picture.getexif().get(ORIENTATION, 1))
        found = _parted(values, alpha="A" in plain.getbands())
        return replace(found, lossy=picture.format in LOSSY or _lossy_webp(source.path))


def _lossy_webp(path: Path) -> bool:
    """Whether a file is WebP and its picture is a chunk `VP8 `: lossless ones are `VP8L`
    (https://developers.google.com/speed/webp/docs/riff_container)."""
    with path.open("rb") as file:
        head = file.read(12)
        while head[8:] == b"WEBP" and len(chunk := file.read(8)) == 8:
            if chunk[:4] in (b"VP8 ", b"VP8L"):
                return chunk[:4] == b"VP8 "
            size = int.from_bytes(chunk[4:], "little")
            file.seek(size + size % 2, 1)
    return False


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turned and mirrored as the tag of TIFF and EXIF says: 1 is upright, 5 to 8 lie on a side."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    down = -1 if orientation in (3, 4, 7, 8) else 1
    along = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::down, ::along]


def _read_tiff(source: Source) -> Pixels:
    with _quiet(), tifffile.TiffFile(source.path) as file:
        pages: list[Any] = [page for page in file.pages if not getattr(page, "is_reduced", False)]
        if len(pages) != 1:
            raise source.bad(f"{len(pages)} pages; expected one picture")
        page = pages[0]
        whole = next((s.shape for s in file.series if s.keyframe.index == page.index), page.shape)
        if np.prod(whole) != np.prod(page.shape) or set(page.axes) - set("YXS"):
            raise source.bad(f"a stack of shape {tuple(whole)}; expected one picture")
        source.check(page.shape, page.bitspersample)
        size = _pixel_size(file)
        try:
            found = _tiff_pixels(source, page)
        except (ValueError, NotImplementedError) as error:
            if "imagecodecs" not in str(error):
                raise
            if not _pillow_is_right(page):
                raise source.bad(CODECS) from None
            found = _read_picture(source, ("TIFF",))
        return replace(found, pixel_size=size)


@contextmanager
def _quiet() -> Iterator[None]:
    """tifffile logs a line for each odd tag of a damaged file; one line of ours is enough."""
    log = logging.getLogger("tifffile")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _pillow_is_right(page: Any) -> bool:
    """Whether Pillow reads a compressed page as it is meant; it swaps white of some others."""
    whole_bytes = page.bitspersample in (1, 8 * page.dtype.itemsize)
    wide = page.dtype in (np.uint16, np.float32) and page.photometric == KINDS.MINISBLACK
    return whole_bytes and (page.dtype in (np.bool_, np.uint8) or wide)


def _tiff_pixels(source: Source, page: Any) -> Pixels:
    """Pixels as they are meant: colours of a palette, inks mixed, white as the largest value."""
    pixels, extra = page.asarray(), page.extrasamples
    if "S" in page.axes:
        pixels = np.moveaxis(pixels, page.axes.index("S"), -1)
    pixels = _upright(pixels, page.tags.valueof(ORIENTATION, 1))
    kind, samples = page.photometric, page.samplesperpixel - len(extra)
    if kind == KINDS.PALETTE and page.samplesperpixel == 1:
        colours = np.rint(page.colormap.T / 257).astype(np.uint8)
        return Pixels(colours[pixels.astype(np.uint16)])
    if kind in (KINDS.MINISBLACK, KINDS.MINISWHITE) and samples == 1 and set(extra) <= ALPHA:
        found = _parted(pixels, alpha=bool(extra))
        # tifffile stores a NumPy mask as it is, yet with the tag that says white is zero.
        mask = page.is_shaped and pixels.dtype == bool
        if kind == KINDS.MINISBLACK or mask:
            return found
        return replace(found, values=_mirrored(found.values, page.bitspersample))
    jpeg = page.compression.name.endswith("JPEG")
    if (kind, samples) == (KINDS.RGB, 3) or (jpeg and (kind, samples) == (KINDS.YCBCR, 3)):
        alpha = any(entry in ALPHA for entry in extra)
        return replace(_parted(pixels[..., : 3 + alpha], alpha=alpha), lossy=jpeg)
    if (kind, samples) == (KINDS.SEPARATED, 4) and pixels.dtype == np.uint8:
        inks = Image.fromarray(np.ascontiguousarray(pixels[..., :4]), "CMYK")
        return Pixels(np.asarray(inks.convert("RGB")))
    raise source.bad(
        f"{page.samplesperpixel} channels of type {page.dtype} that are {kind.name}; expected "
        "grey, RGB, a palette or 8-bit CMYK"
    )


def _mirrored(pixels: np.ndarray, bits: int) -> np.ndarray:
    """White is zero: numbers without a sign count down from the largest, others within their own
    range."""
    if pixels.dtype == bool:
        return ~pixels
    if pixels.dtype.kind == "u":
        return pixels.dtype.type(2**bits - 1) - pixels
    wide = pixels.astype(np.float64 if pixels.dtype.kind == "f" else np.int64)
    return (wide.min() + wide.max() - wide).astype(pixels.dtype)


def _pixel_size(file: Any) -> float | None:
    """Of the tags that Zeiss and FEI microscopes and ImageJ write, in nanometres."""
    sides: tuple[Any, ...] = ()
    if zeiss := (file.sem_metadata or {}).get("ap_image_pixel_size"):
        sides = (zeiss[1] * NANOMETRES.get(zeiss[2], np.nan),)
    elif scan := (file.fei_metadata or {}).get("Scan"):
        sides = tuple(scan[name] * NANOMETRES["m"] for name in ("PixelWidth", "PixelHeight"))
    elif unit := NANOMETRES.get(str((file.imagej_metadata or {}).get("unit"))):
        tags = file.pages.first.tags
        rates = [tags.valueof(name) for name in ("XResolution", "YResolution")]
        sides = tuple(unit * rate[1] / rate[0] for rate in rates if rate and rate[0])
    usable = sides and all(0 < side < np.inf for side in sides)
    return float(sides[0]) if usable and max(sides) < (1 + SQUARE) * min(sides) else None


READERS: dict[str, Callable[[Source], Pixels]] = {
    ".png": _read_picture, ".jpg": _read_picture, ".jpeg": _read_picture, ".bmp": _read_picture,
    ".webp": _read_picture, ".tif": _read_tiff, ".tiff": _read_tiff, ".npy": _read_npy,
}  # fmt: skip
