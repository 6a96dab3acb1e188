"""The one door for pictures: white, inks, stacks, channels, orientation, pixel size, figures."""

import re

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from lawful import InputError, reading
from lawful.data import pictures
from lawful.data.pictures import FIGURE, read_pixels
from lawful.materials.images import read_micrograph

X = np.random.default_rng(0).integers(0, 200, (24, 32)).astype(np.uint8)
BRIGHT = np.zeros((24, 32), dtype=bool)
BRIGHT[4:9, :31] = True  # a fifth of the pixels


def read(path):
    return read_pixels(path, "picture")


def by_pillow(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def compressed(path, pixels, kind, **options):
    """A TIFF in a compression that tifffile cannot write without imagecodecs."""
    pytest.importorskip("imagecodecs")
    tifffile.imwrite(path, pixels, compression=kind, **options)
    return path


@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"])
@pytest.mark.parametrize("compression", [None, "lzw", "zstd"])
def test_white_as_zero_never_swaps_the_phases(tmp_path, kind, compression):
    path, pixels = tmp_path / "a.tif", np.where(BRIGHT, 3, 99).astype(kind)
    if compression:
        pytest.importorskip("imagecodecs")
    tifffile.imwrite(path, pixels, photometric="miniswhite", compression=compression)
    found = read_micrograph(path, crop=0)
    np.testing.assert_array_equal(found.image, BRIGHT)
    tifffile.imwrite(path, pixels, photometric="minisblack", compression=compression)
    np.testing.assert_array_equal(read_micrograph(path, crop=0).image, ~BRIGHT)


def test_white_as_zero_without_other_codecs(tmp_path, monkeypatch):
    """What tifffile cannot decode alone is read by Pillow where Pillow is right, else refused."""

    def refuse(_page):
        raise ValueError("requires the 'imagecodecs' package")

    white = tmp_path / "w.tif"
    tifffile.imwrite(white, X.astype(np.int16), photometric="miniswhite")
    inverted = by_pillow(tmp_path / "a.tif", 255 - X, compression="tiff_lzw")
    wide = by_pillow(tmp_path / "b.tif", 200 * X.astype(np.uint16), compression="tiff_lzw")
    monkeypatch.setattr(tifffile.TiffPage, "asarray", refuse)
    np.testing.assert_array_equal(read(inverted).values, 255 - X)
    np.testing.assert_array_equal(read(wide).values, 200 * X.astype(np.uint16))
    with pytest.raises(InputError, match=r"w.tif: .* needs imagecodecs: pip install"):
        read(white)


@pytest.mark.parametrize("bits", [4, 12])
def test_odd_numbers_of_bits(tmp_path, bits):
    codecs = pytest.importorskip("imagecodecs")
    pixels = (X.astype(int) % (1 << bits)).astype(np.uint8 if bits < 9 else np.uint16)
    packed = codecs.packints_encode(pixels, bits)
    for white in (0, 1):
        path = tmp_path / f"{white}.tif"
        with tifffile.TiffWriter(path) as file:
            file.write(iter([packed]), shape=pixels.shape, dtype=pixels.dtype, bitspersample=bits,
                       photometric=white, compression=1)  # fmt: skip
        expected = pixels if white else (1 << bits) - 1 - pixels
        np.testing.assert_array_equal(read(path).values, expected)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_inks_are_mixed(tmp_path, compression):
    ink = np.where(BRIGHT, 0, 200).astype(np.uint8)
    inks = Image.fromarray(np.dstack([ink, ink, ink, 0 * ink]), "CMYK")
    inks.save(tmp_path / "a.tif", compression=compression)
    inks.save(tmp_path / "a.jpg", quality=100)
    for name in ("a.tif", "a.jpg"):
        found = read_micrograph(tmp_path / name)
        assert found.image.mean() == pytest.approx(BRIGHT.mean(), abs=0.01)


def test_a_stack_is_no_picture_even_in_one_directory(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.stack([X] * 5), photometric="minisblack", truncate=True)
    with pytest.raises(InputError, match=r"stack of shape \(5, 24, 32\); expected one picture"):
        read(path)
    tifffile.imwrite(path, np.stack([X, X]), imagej=True)
    with pytest.raises(InputError, match="stack"):
        read(path)


@pytest.mark.parametrize("meaning", ["unspecified", "unassalpha"])
def test_a_second_channel_must_have_a_meaning(tmp_path, meaning):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.dstack([X, 255 - X]), photometric="minisblack",
                     planarconfig="contig", extrasamples=[meaning])  # fmt: skip
    if meaning == "unspecified":
        with pytest.raises(InputError, match="2 channels of type uint8 that are MINISBLACK"):
            read(path)
        return
    found = read(path)
    np.testing.assert_array_equal(found.values, X)
    np.testing.assert_array_equal(found.opacity, 255 - X)


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("ending", ["tif", "jpg", "png", "webp"])
def test_cameras_orientation_is_obeyed(tmp_path, turned, ending):
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = turned
    path = tmp_path / f"a.{ending}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100}}.get(ending, {})
    if ending == "tif":  # compressed, Pillow turns it on loading
        Image.fromarray(X).save(path, tiffinfo=exif, compression="tiff_lzw")
    else:
        Image.fromarray(np.dstack([X, X, X])).save(path, exif=exif, **options)
    with Image.open(path) as picture:
        picture.load()
        expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(read(path).values, expected)
    if ending == "tif":
        tifffile.imwrite(path, X, extratags=[(pictures.ORIENTATION, 3, 1, turned, True)])
        np.testing.assert_array_equal(read(path).values, expected)


@pytest.mark.parametrize("ending", ["bmp", "webp", "jpg", "jpeg", "JPG"])
def test_common_formats(tmp_path, ending):
    options = {"webp": {"lossless": True}}.get(ending, {"quality": 95})
    pixels = np.repeat(np.repeat(np.where(BRIGHT, 220, 20).astype(np.uint8), 8, 0), 8, 1)
    found = read_micrograph(by_pillow(tmp_path / f"a.{ending}", pixels, **options))
    np.testing.assert_array_equal(found.image, pixels > 100)
    assert any("lossy" in note for note in found.notes) == (ending not in ("bmp", "webp"))


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("extended", [{}, {"icc_profile": b"odd"}, {"exif": Image.Exif()}])
def test_a_webp_file_is_lossy_where_it_says_so(tmp_path, lossless, extended):
    if "exif" in extended:
        extended["exif"][pictures.ORIENTATION] = 1
    path = by_pillow(tmp_path / "a.webp", X, lossless=lossless, **extended)
    assert read(path).lossy != lossless


ZEISS = b"AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 2.50 nm\r\n"
FEI = b"[Scan]\r\nPixelWidth=2.5e-09\r\nPixelHeight=2.5e-09\r\n"


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m", "nm", "pixel", "inch", None])
def test_pixel_size_of_imagej(tmp_path, unit):
    path = tmp_path / "a.tif"
    metadata = {} if unit is None else {"unit": unit}
    tifffile.imwrite(path, X, imagej=True, resolution=(4.0, 4.0), metadata=metadata)
    found = read_micrograph(path)
    expected = {"nm": 0.25, "pixel": None, "inch": None, None: None}.get(unit, 250.0)
    assert found.pixel_size == (expected and pytest.approx(expected))
    assert read_micrograph(path, pixel_size=3.0).pixel_size == 3.0
    tifffile.imwrite(path, X, imagej=True, resolution=(4.0, 8.0), metadata=metadata)
    assert read_micrograph(path).pixel_size is None  # not square


@pytest.mark.parametrize(("tag", "content"), [(34118, ZEISS), (34680, FEI), (34682, FEI)])
def test_pixel_size_of_microscopes(tmp_path, tag, content):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, X, extratags=[(tag, 2, len(content), content, True)])
    found = read_micrograph(path)
    assert (found.pixel_size, found.unit) == (pytest.approx(2.5), "nm")
    assert "24 x 32 pixels of 2.5 nm" in found.described()


def test_a_figure_is_not_read_as_data(tmp_path):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().imshow(X)
    figure.savefig(tmp_path / "a.png", metadata=FIGURE)
    for noun in ("micrograph", "tissue"):
        with pytest.raises(InputError, match=f"{noun} .*a.png: a figure.*save them as .tif"):
            read_pixels(tmp_path / "a.png", noun)
    figure.savefig(tmp_path / "b.png")
    assert read(tmp_path / "b.png").values.ndim == 3


def test_more_than_two_phases_are_told(tmp_path):
    random = np.random.default_rng(0)
    three = random.choice([10, 120, 240], (60, 60)).astype(np.uint8)
    noisy = np.clip(three + 8 * random.standard_normal(three.shape), 0, 255).astype(np.uint8)
    for name, pixels in (("a.png", three), ("b.png", noisy)):
        (note,) = read_micrograph(by_pillow(tmp_path / name, pixels)).notes
        assert "gather at 3 values" in note
    two = random.choice([60, 180], (60, 60))
    noisy = np.clip(two + 20 * random.standard_normal(two.shape), 0, 255).astype(np.uint8)
    wide = np.clip(127 + 60 * random.standard_normal(two.shape), 0, 255).astype(np.uint8)
    for name, pixels in (("c.png", two.astype(np.uint8)), ("d.png", noisy), ("e.png", wide)):
        assert read_micrograph(by_pillow(tmp_path / name, pixels)).notes == ()


def test_colours_of_sixteen_bits_are_not_halved_in_silence(tmp_path):
    colour = np.dstack([X, X, 0 * X]).astype(np.uint16) * 257
    tifffile.imwrite(tmp_path / "a.tif", colour, photometric="rgb")
    np.testing.assert_array_equal(read(tmp_path / "a.tif").values, colour)


def test_memory_is_counted_before_it_is_asked_for(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", X)
    by_pillow(tmp_path / "a.png", X)
    tifffile.imwrite(tmp_path / "a.tif", X)
    monkeypatch.setattr(reading, "free_memory", lambda: 24 * 32 * 8 - 1)

    def fail(*_arguments, **_options):
        raise AssertionError("pixels were asked for")

    monkeypatch.setattr(Image.Image, "load", fail)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", fail)
    monkeypatch.setattr(np, "array", fail)
    for ending in ("npy", "png", "tif"):
        with pytest.raises(InputError, match=r"24 x 32 pixels: needs .* GB of memory, .* are free"):
            read_micrograph(tmp_path / f"a.{ending}")


def test_a_declared_shape_beyond_all_memory_is_one_line(tmp_path):
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (10**7, 10**7)}
        )
        file.write(b"x")
    with pytest.raises(InputError, match=r"a.npy: ") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_a_decompression_bomb_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match=r"exceeds limit of 200 pixels.*Save it as TIFF or NPY"):
        read(by_pillow(tmp_path / "a.png", X))


def test_a_channel_less_is_named(tmp_path):
    np.save(tmp_path / "a.npy", np.stack([X, X], -1))
    with pytest.raises(InputError, match=re.escape("shape (24, 32, 2); expected one picture")):
        read(tmp_path / "a.npy")
