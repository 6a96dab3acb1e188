"""Micrographs of every kind of file, their threshold, banner and scale, and users' mistakes."""

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from scipy import ndimage

from lawful import InputError, LawfulWarning
from lawful.files import cache
from lawful.materials.images import (
    banner_rows,
    otsu,
    read_like,
    read_micrograph,
    rescaled,
)

SEM = cache() / "nanoporous-gold-aquami-1.1.0.tif"
REAL = Path(__file__).parents[3] / "shared" / "data" / "micrographs"


def smooth(seed=0, rows=120, columns=160, width=4.0):
    """A smooth periodic random field in [0, 1], the grey image of a two-phase structure."""
    noise = np.random.default_rng(seed).standard_normal((rows, columns))
    field = ndimage.gaussian_filter(noise, width, mode="wrap")
    return (1 + np.tanh(2 * field / field.std())) / 2


def bytes_of(field):
    return np.rint(255 * field).astype(np.uint8)


def with_banner(grey, height=20, background=255, ink=0, rule=None):
    """The image with an information banner below it: text, a scale bar, perhaps a rule on top."""
    strip = Image.new("L", (grey.shape[1], height), background)
    draw = ImageDraw.Draw(strip)
    draw.text((4, 4), "20 nm  EHT = 20 kV", fill=ink)
    draw.rectangle((120, 8, 150, 10), fill=ink)
    strip = np.array(strip)
    if rule is not None:
        strip[0] = rule
    return np.concatenate([grey, strip])


@pytest.fixture
def file(tmp_path):
    return lambda name: tmp_path / name


def saved(path, pixels):
    if path.suffix == ".npy":
        np.save(path, pixels)
    elif path.suffix == ".png":
        Image.fromarray(pixels).save(path)
    else:
        tifffile.imwrite(path, pixels)
    return path


@pytest.mark.parametrize("ending", [".png", ".tif", ".TIFF", ".npy"])
@pytest.mark.parametrize("kind", ["uint8", "uint16", "bool"])
def test_every_file_gives_the_same_phases(file, ending, kind):
    x = smooth()
    pixels = {"uint8": bytes_of(x), "uint16": np.rint(9000 * x + 500).astype(np.uint16),
              "bool": x > 0.5}[kind]  # fmt: skip
    found = read_micrograph(saved(file(f"a{ending}"), pixels))
    exact = pixels if kind == "bool" else pixels > otsu(pixels.astype(float))
    np.testing.assert_array_equal(found.image, exact)
    assert (found.threshold is None) == (kind == "bool")
    assert (found.source, found.banner, found.pixel_size) == (f"a{ending}", 0, None)
    dark = read_micrograph(file(f"a{ending}"), phase="dark")
    np.testing.assert_array_equal(dark.image, ~exact)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16])
def test_floats_and_signed_numbers(file, kind):
    x = (900 * (smooth() - 0.4)).astype(kind)
    found = read_micrograph(saved(file("a.npy"), x), threshold=-12.5)
    np.testing.assert_array_equal(found.image, x > -12.5)
    assert found.threshold == -12.5
    tifffile.imwrite(file("a.tif"), x)
    np.testing.assert_array_equal(read_micrograph(file("a.tif")).grey, x)


def test_colour_is_luminance_and_transparency_is_dropped(file):
    r, g, b = (bytes_of(smooth(seed)) for seed in range(3))
    colour = np.stack([r, g, b], -1)
    grey = 0.299 * r + 0.587 * g + 0.114 * b
    alpha = np.dstack([colour, np.full_like(r, 7)])
    pictures = {
        "rgb.png": colour, "rgba.png": alpha, "rgb.tif": colour, "rgb.npy": colour,
        "rgba.npy": alpha,
    }  # fmt: skip
    for name, pixels in pictures.items():
        np.testing.assert_allclose(read_micrograph(saved(file(name), pixels)).grey, grey)
    planes = np.moveaxis(colour, -1, 0)
    tifffile.imwrite(file("p.tif"), planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_allclose(read_micrograph(file("p.tif")).grey, grey)
    equal = saved(file("g.png"), np.stack([r, r, r], -1))
    np.testing.assert_array_equal(read_micrograph(equal).grey, r)
    two = np.dstack([r, np.full_like(r, 9)])
    Image.fromarray(two, "LA").save(file("la.png"))
    np.testing.assert_array_equal(read_micrograph(file("la.png")).grey, r)


def test_palettes_and_white_as_zero(file):
    x = bytes_of(smooth())
    turned = np.repeat(257 * np.arange(255, -1, -1, dtype=np.uint16)[None], 3, 0)
    tifffile.imwrite(file("p.tif"), x, photometric="palette", colormap=turned)
    np.testing.assert_array_equal(read_micrograph(file("p.tif")).grey, 255 - x)
    tifffile.imwrite(file("w.tif"), x, photometric="miniswhite")
    np.testing.assert_array_equal(read_micrograph(file("w.tif")).grey, 255 - x)
    bits = Image.fromarray(x > 99)
    bits.save(file("b.tif"))
    np.testing.assert_array_equal(read_micrograph(file("b.tif")).image, x > 99)
    bits.save(file("l.tif"), compression="tiff_lzw")
    np.testing.assert_array_equal(read_micrograph(str(file("l.tif"))).image, x > 99)
    picture = Image.fromarray(x).convert("P")
    picture.putpalette([v for k in range(256) for v in (255 - k,) * 3])
    picture.save(file("p.png"))
    np.testing.assert_array_equal(read_micrograph(file("p.png")).grey, 255 - x)


def test_compressed_tiff_and_a_thumbnail(file):
    x = bytes_of(smooth())
    Image.fromarray(x).save(file("lzw.tif"), compression="tiff_lzw")
    np.testing.assert_array_equal(read_micrograph(file("lzw.tif")).grey, x)
    with tifffile.TiffWriter(file("two.tif")) as writer:
        writer.write(x)
        writer.write(x[::4, ::4], subfiletype=1)
    np.testing.assert_array_equal(read_micrograph(file("two.tif")).grey, x)


def between_classes(x, t):
    below, above = x[x <= t], x[x > t]
    return len(below) * len(above) / len(x) ** 2 * (above.mean() - below.mean()) ** 2


@given(
    st.lists(st.one_of(st.integers(0, 255), st.floats(-1e3, 1e3)), min_size=2, max_size=60),
    st.floats(0.1, 10),
)
@settings(max_examples=60, deadline=None)
def test_otsu_is_the_best_of_all_thresholds(values, scale):
    x = scale * np.array(values, dtype=float)
    if np.ptp(x) < 1e-6:
        return
    levels = np.unique(x)
    best = max(between_classes(x, t) for t in levels[:-1])
    assert between_classes(x, otsu(x)) == pytest.approx(best, rel=1e-9)
    assert between_classes(-x, otsu(-x)) == pytest.approx(best, rel=1e-9)


def test_otsu_of_two_classes_by_hand():
    assert otsu(np.array([1.0, 2, 2, 9, 10, 10])) == 5.5
    assert otsu(np.array([[0.0, 1.0]])) == 0.5
    with pytest.raises(InputError, match="equal"):
        otsu(np.ones(4))


def synthetic():
    """Grey two-phase fields that a banner must not be seen in."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:120, :160]
    for seed in range(6):
        yield smooth(seed, width=1.5 + seed)
        yield bytes_of(smooth(seed))
        yield ndimage.zoom((smooth(seed, 60, 80) > 0.2 + 0.1 * seed).astype(float), 2, order=1)
        hard = (smooth(seed) > 0.15 * (seed + 1)).astype(float)
        yield hard + 0.1 * random.standard_normal(hard.shape)
        yield hard
        yield np.where(random.random(hard.shape) < 0.01, 0.5, hard)
    for period in (3, 8, 20, 60):
        yield (y // period % 2).astype(float)
        yield (x // period % 2).astype(float)
        yield (y // period % 2) + 0.05 * random.standard_normal(y.shape)
        yield np.sin(2 * np.pi * y / period)
    yield random.random(y.shape)
    yield random.integers(0, 3, y.shape)
    yield y / 120 + 0 * x
    yield (y > 100) * 0.8 + 0.1 * smooth(0)
    yield (y > 100) + 0.001 * x
    yield np.zeros(y.shape)


def test_no_banner_in_two_phase_fields():
    for grey in synthetic():
        assert banner_rows(np.asarray(grey, dtype=float)) == 0


@pytest.mark.parametrize("name", ["alloy", "copolymer", "sandstone"])
def test_no_banner_in_segmented_micrographs(name):
    path = REAL / f"{name}.npy"
    if not path.is_file():
        pytest.skip("the micrographs are not here")
    found = read_micrograph(path)
    assert (found.banner, found.threshold) == (0, None)
    np.testing.assert_array_equal(found.image, np.load(path))


@pytest.mark.parametrize("look", [(255, 0, 0), (255, 0, None), (0, 255, None), (30, 220, 255)])
@pytest.mark.parametrize("height", [14, 20, 40])
def test_a_banner_is_cut(file, look, height):
    for seed in range(4):
        grey = bytes_of(0.3 + 0.4 * smooth(seed))
        noise = np.random.default_rng(seed).integers(-2, 3, (120 + height, 160))
        whole = with_banner(grey, height, *look)
        for pixels in (whole, np.clip(whole.astype(int) + noise, 0, 255).astype(np.uint8)):
            found = read_micrograph(saved(file("a.png"), pixels))
            assert found.banner == height
            assert found.image.shape == grey.shape
    assert read_micrograph(file("a.png"), crop=0).banner == 0
    assert read_micrograph(file("a.png"), crop=30).image.shape == (90 + height, 160)


def test_median_filter_removes_specks(file):
    x = bytes_of(smooth(width=6))
    specks = np.random.default_rng(1).random(x.shape) < 0.02
    path = saved(file("a.png"), np.where(specks, 255 - x, x))
    clean = x > 127
    plain, filtered = (read_micrograph(path, threshold=127.0, median=k).image for k in (1, 3))
    assert (filtered != clean).mean() < 0.25 * (plain != clean).mean()


def test_pixel_size(file):
    path = saved(file("a.npy"), smooth())
    found = read_micrograph(path, pixel_size=2.5)
    assert (found.pixel_size, found.unit) == (2.5, "unit")
    half = rescaled(found, 0.5)
    assert half.pixel_size == 5.0
    assert half.image.shape == (60, 80)


@given(
    seed=st.integers(0, 99),
    factor=st.floats(0.11, 3),
    phase=st.sampled_from(["bright", "dark"]),
    binary=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_rescaling_keeps_the_volume_fraction(tmp_path_factory, seed, factor, phase, binary):
    x = smooth(seed, 80, 96)
    path = tmp_path_factory.mktemp("scale") / "a.npy"
    before = read_micrograph(saved(path, x > 0.4 if binary else x), phase=phase)
    after = rescaled(before, factor)
    assert after.image.shape == (int(80 * factor + 1e-9), int(96 * factor + 1e-9))
    assert abs(after.image.mean() - before.image.mean()) <= 0.5 / after.image.size + 1e-12
    low, high = after.grey[after.image], after.grey[~after.image]
    if phase == "bright":
        low, high = high, low
    assert low.max() <= high.min() + 1e-12


def test_rescaling_by_whole_numbers_and_by_one(file):
    x = smooth()
    found = read_micrograph(saved(file("a.npy"), x))
    np.testing.assert_allclose(
        rescaled(found, 0.25).grey, x.reshape(30, 4, 40, 4).mean((1, 3)), atol=1e-13
    )
    np.testing.assert_array_equal(rescaled(found, 1.0).image, found.image)
    twice = rescaled(rescaled(found, 2.0), 0.5)
    assert (twice.image != found.image).mean() < 0.01


def test_rescaling_a_binary_image_keeps_its_shape(file):
    y, x = np.mgrid[:90, :90] - 44.5
    found = read_micrograph(saved(file("a.npy"), np.hypot(x, y) < 31))
    disc = np.hypot(*(np.mgrid[:30, :30] - 14.5)) * 3 < 31
    assert (rescaled(found, 1 / 3).image != disc).sum() <= 8


@pytest.mark.skipif(not SEM.is_file(), reason="benchmarks/like_micrographs.py fetches it")
def test_a_real_scanning_electron_micrograph():
    found = read_micrograph(SEM, median=3)
    assert found.banner == 77
    assert found.image.shape == (691, 1024)
    assert found.threshold == 118.5
    assert found.image.mean() == pytest.approx(0.723, abs=0.001)
    assert found.pixel_size == pytest.approx(556 / 1024, rel=1e-3)  # "Width = 556.0 nm"
    assert found.unit == "nm"


GREY = bytes_of(smooth())
FILES = {
    "missing.png": None,
    "a.gif": b"x",
    "none": b"x",
    "empty.png": b"",
    "noise.png": b"\x89PNG\r\n\x1a\nxxxxxxxxxxxxxxxx",
    "noise.tif": b"II*\0\xff\xff\xff\xff",
    "empty.tif": b"",
    "noise.npy": b"nothing",
    "line.npy": np.arange(50),
    "stack.npy": np.zeros((9, 20, 20)),
    "stack.tif": np.stack([GREY, GREY]),
    "pair.npy": np.stack([GREY, GREY], -1),
    "nothing.npy": np.zeros((0, 20)),
    "objects.npy": np.array([{}, 1], dtype=object),
    "text.npy": np.array([["a", "b"]]),
    "nan.npy": np.where(np.eye(20) > 0, np.nan, 1.0),
    "inf.npy": np.where(np.eye(20) > 0, np.inf, 1.0),
    "flat.png": np.full((20, 20), 7, dtype=np.uint8),
    "small.png": GREY[:7],
    "grey.png": GREY,
}
MISTAKES = [
    ("missing.png", {}, "no such file"),
    ("a.gif", {}, "ending '.gif'; expected one of .png, .jpg, .jpeg, .bmp, .webp, .tif"),
    ("none", {}, "ending ''"),
    ("empty.png", {}, "cannot be read as PNG"),
    ("noise.png", {}, "cannot be read as PNG"),
    ("half.png", {}, "cannot be read as PNG"),
    ("empty.tif", {}, "cannot be read as TIF"),
    ("noise.tif", {}, "noise.tif: "),
    ("half.tif", {}, "cannot be read as TIF"),
    ("noise.npy", {}, "noise.npy: not a .npy file"),
    ("half.npy", {}, "half.npy: not a .npy file, or truncated"),
    ("archive.npy", {}, "archive.npy: not a .npy file"),
    ("objects.npy", {}, "Python objects in dtype"),
    ("text.npy", {}, "expected numbers, found values of type '<U1'"),
    ("line.npy", {}, "shape (50,); expected one picture"),
    ("stack.npy", {}, "shape (9, 20, 20); expected one picture"),
    ("stack.tif", {}, "2 pages; expected one picture"),
    ("pair.npy", {}, "shape (120, 160, 2); expected one picture"),
    ("nothing.npy", {}, "shape (0, 20); expected one picture"),
    ("nan.npy", {}, "NaN or infinite"),
    ("inf.npy", {}, "NaN or infinite"),
    ("flat.png", {}, "every pixel has the value 7; expected two phases"),
    ("small.png", {}, "7 x 160 pixels; expected 8 a side"),
    ("grey.png", {"threshold": 300.0}, "threshold 300; expected from"),
    ("grey.png", {"threshold": -1.0}, "threshold -1; expected from"),
    ("grey.png", {"threshold": float("nan")}, "threshold nan; expected from"),
    ("grey.png", {"crop": 115}, "5 x 160 pixels after 115 rows were cut; expected 8 a side"),
    ("grey.png", {"crop": 999}, "0 x 160 pixels"),
    ("grey.png", {"crop": -1}, "crop -1; expected 0 rows or more"),
    ("grey.png", {"phase": "grey"}, "phase 'grey'; expected bright or dark"),
    ("grey.png", {"pixel_size": 0.0}, "pixel size 0; expected a positive number"),
    ("grey.png", {"median": 2}, "median filter of 2 pixels; expected an odd number"),
    ("grey.png", {"median": 4294967297}, "expected an odd number up to 99"),
]


@pytest.mark.parametrize(("name", "options", "said"), MISTAKES)
def test_mistakes_are_one_line_that_names_the_file(name, options, said, tmp_path, capfd):
    path = tmp_path / name
    content = FILES.get(name)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        saved(path, content)
    elif name == "archive.npy":
        np.savez(tmp_path / "a.npz", a=GREY)
        (tmp_path / "a.npz").rename(path)
    elif name.startswith("half"):
        whole = saved(tmp_path / f"whole{path.suffix}", GREY).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=re.escape(said)) as error:
        read_micrograph(path, **options)
    assert "\n" not in str(error.value)
    assert name in str(error.value) or set(options) & {"crop", "phase", "pixel_size", "median"}
    output = capfd.readouterr()
    assert output.out + output.err == ""


@pytest.mark.parametrize("ending", [".png", ".tif", ".npy"])
def test_a_damaged_file_is_never_a_traceback(ending, tmp_path):
    whole = saved(tmp_path / f"whole{ending}", GREY[:40, :40]).read_bytes()
    random, path = np.random.default_rng(0), tmp_path / f"a{ending}"
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.integers(0, min(len(whole), 400), 3):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged[: random.integers(len(whole) // 2, len(whole) + 1)])
        try:
            read_micrograph(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017
    assert refused > 30


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (0.0, "factor 0; expected above 0"),
        (float("nan"), "factor nan"),
        (0.06, "leaves 7 x 9 pixels of a.npy; expected 8 a side"),
    ],
)
def test_mistakes_of_scale(file, factor, said):
    with pytest.raises(InputError, match=re.escape(said)):
        rescaled(read_micrograph(saved(file("a.npy"), smooth())), factor)


def test_a_speck_is_lost_by_scaling_down(file):
    x = np.zeros((80, 80))
    x[3, 3] = 1
    with pytest.raises(InputError, match=r"leaves a\.npy one phase"):
        rescaled(read_micrograph(saved(file("a.npy"), x)), 0.125)


def test_what_is_to_be_known_of_a_file_is_said_where_nobody_asks_for_it(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(GREY).save(path)
    with pytest.warns(LawfulWarning, match=r"a\.jpg: a lossy format"):
        found = read_like(path)
    assert any("lossy" in note for note in found.notes)
