"""Tissue from every source: patches are its pixels, parts are disjoint, misuse is named."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from lawful import InputError, LawfulWarning
from lawful.data import tissue as module
from lawful.data.tissue import STAINS, foreground, load_tissue, read_rgb, stain, tissue

LESIONS = {
    "29-041-Izd2-w35-CD31-3-les1": "CD31",
    "29-041-Izd2-w35-Cc10-5-les1": "Cc10",
    "29-041-Izd2-w35-He-les1": "HE",
    "29-041-Izd2-w35-Ki67-7-les1": "Ki67",
    "29-041-Izd2-w35-proSPC-4-les1": "proSPC",
}


@pytest.fixture(autouse=True)
def _uncached():
    module._load.cache_clear()
    yield
    module._load.cache_clear()


def coordinates(rows, columns, blue=200):
    """A picture whose red is the row, whose green the column, and which has colour everywhere."""
    down, along = np.mgrid[:rows, :columns]
    return np.stack([down, along, np.full_like(down, blue)], -1).astype(np.uint8)


def noise(rows, columns, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3)).astype(np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def as_bytes(images):
    return (images * 255).round().byte()


def pixels(images):
    """All pixels that occur, as numbers."""
    r, g, b = as_bytes(images).long().movedim(1, 0)
    return set((65536 * r + 256 * g + b).flatten().tolist())


def check_cut(images, picture):
    """Each patch, found by its first pixel, is the picture there."""
    side = images.shape[-1]
    for patch in as_bytes(images):
        top, left = int(patch[0, 0, 0]), int(patch[1, 0, 0])
        part = picture[top : top + side, left : left + side]
        np.testing.assert_array_equal(patch.movedim(0, -1).numpy(), part)


# The picture that comes with scikit-image


def test_the_default_is_the_tissue_of_scikit_image():
    found = load_tissue()
    assert found.train.shape == (493, 3, 64, 64)
    assert found.held_out.shape == (75, 3, 64, 64)
    assert found.classes == ("tissue",)
    assert set(found.train_labels.tolist()) == set(found.held_out_labels.tolist()) == {0}
    assert 0 <= float(found.train.min()) < float(found.train.max()) <= 1
    assert found.train.dtype == torch.float32
    assert found.source == "scikit-image immunohistochemistry, 512 x 512"
    picture = torch.from_numpy(module.examples.immunohistochemistry()).movedim(-1, 0)
    corner = picture[:, :64, :64].float() / 255
    assert bool((found.train == corner).flatten(1).all(1).any())
    assert load_tissue() is found


def test_regions_of_the_default_are_disjoint(monkeypatch):
    """Every pixel of the picture has a colour of its own."""
    down, along = np.mgrid[:512, :512]
    coded = np.stack([down % 256, along % 256, 2 * (down // 256) + along // 256], -1)
    monkeypatch.setattr(module.examples, "immunohistochemistry", lambda: coded.astype(np.uint8))
    found = load_tissue()
    train, held = pixels(found.train), pixels(found.held_out)
    assert not train & held
    assert len(train) == 512 * 320
    assert len(held) == 512 * 192


@pytest.mark.parametrize("side", [2, 192])
def test_the_smallest_and_the_largest_side_of_the_default(side):
    found = load_tissue(side=side)
    assert found.train.shape[1:] == found.held_out.shape[1:] == (3, side, side)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"side": 0}, "side 0; expected a positive even number"),
        ({"side": -2}, "side -2"),
        ({"side": 33}, "side 33"),
        ({"side": 194}, "side 194; expected at most 192"),
    ],
)
def test_arguments_out_of_range_are_named(options, said):
    with pytest.raises(InputError, match=said):
        load_tissue(**options)


def test_an_unknown_source_is_named(tmp_path):
    for source in ("lysto", str(tmp_path / "absent"), str(save(tmp_path / "a.png", noise(9, 9)))):
        with pytest.raises(InputError, match="expected immunohistochemistry, a folder, or an HDF5"):
            load_tissue(source)


# ANHIR's layout


@pytest.fixture
def lesions(tmp_path):
    """Two sets of five stains, at two scales; landmarks lie about."""
    for number in (1, 2):
        for index, name in enumerate(LESIONS):
            home = tmp_path / "anhir" / f"lung-lesion_{number}"
            name = name.replace("les1", f"les{number}")
            save(home / "scale-5pc" / f"{name}.png", coordinates(40, 128, 200 + index))
            save(home / "scale-10pc" / f"{name}.png", coordinates(80, 256, 100 + index))
            (home / "scale-5pc" / f"{name}.csv").write_text(",X,Y\n0,1,2\n")
    return tmp_path / "anhir"


def test_a_class_of_anhir_is_a_stain(lesions):
    found = load_tissue(str(lesions), side=16)
    assert found.classes == ("Cc10", "CD31", "HE", "Ki67", "proSPC")
    assert found.source == "anhir, ANHIR's layout, scale-5pc, 10 pictures"
    # 96 columns to train on, 32 held out; 40 rows; two sets
    assert found.train_labels.bincount().tolist() == [2 * 6 * 2] * 5
    assert found.held_out_labels.bincount().tolist() == [2 * 3 * 4] * 5
    order = [list(LESIONS.values()).index(name) for name in found.classes]
    for part, labels in (
        (found.train, found.train_labels),
        (found.held_out, found.held_out_labels),
    ):
        for label, index in enumerate(order):
            check_cut(part[labels == label], coordinates(40, 128, 200 + index))
    assert not pixels(found.train) & pixels(found.held_out)
    green = as_bytes(found.train)[:, 1], as_bytes(found.held_out)[:, 1]
    assert int(green[0].max()) == 95
    assert int(green[1].min()) == 96


def test_a_set_or_a_scale_of_anhir_may_be_named(lesions):
    one = load_tissue(str(lesions / "lung-lesion_1"), side=16)
    assert one.source == "lung-lesion_1, ANHIR's layout, scale-5pc, 5 pictures"
    larger = load_tissue(str(lesions / "lung-lesion_1" / "scale-10pc"), side=16)
    assert "scale-10pc" in larger.source
    assert int(as_bytes(larger.train)[:, 1].max()) == 191


def test_empty_glass_is_left_out(tmp_path):
    picture = coordinates(64, 256)
    picture[32:] = 240  # glass
    picture[:, :32] = 0  # padding
    save(tmp_path / "set_1" / "scale-5pc" / "x_HE.png", picture)
    found = load_tissue(str(tmp_path), side=16)
    tops, lefts = as_bytes(found.train)[:, 0, 0, 0], as_bytes(found.train)[:, 1, 0, 0]
    assert set(tops.tolist()) == {0, 16}
    assert sorted(set(lefts.tolist())) == list(range(32, 192, 16))
    half = torch.zeros(4, 4, dtype=torch.bool)
    half[:2] = True
    assert foreground(half, 4, 1).tolist() == [[True]]
    half[1, 3] = False
    assert foreground(half, 4, 1).tolist() == [[False]]


@pytest.mark.parametrize("glass", [(243, 243, 243), (250, 246, 245), (230, 226, 222)])
@pytest.mark.parametrize("pale", [(14, 14, 14), (16, 14, 10), (40, 30, 10), (120, 160, 60)])
def test_pale_tissue_is_not_taken_for_glass(glass, pale):
    """Tissue is told by the light that it takes away, whatever its colour."""
    random = np.random.default_rng(0)
    shown = np.zeros((60, 80), dtype=bool)
    shown[20:50, 10:70] = True
    picture = np.array(glass) - shown[..., None] * np.array(pale)
    picture = np.clip(picture + random.integers(-1, 2, picture.shape), 0, 255).astype(np.uint8)
    picture[:, :5], picture[:, 75:] = 0, 255  # padding
    found = tissue(torch.from_numpy(picture).movedim(-1, 0))
    np.testing.assert_array_equal(found.numpy(), shown)


def test_without_glass_all_is_tissue_but_padding():
    picture = np.full((40, 40, 3), (150, 140, 145), dtype=np.uint8)
    picture[:10], picture[-5:] = 255, 3
    shown = tissue(torch.from_numpy(picture).movedim(-1, 0)).numpy()
    assert shown[10:-5].all()
    assert not shown[:10].any()
    assert not shown[-5:].any()


@pytest.mark.parametrize(
    ("name", "least"), [("Rat-Kidney_PanCytokeratin", 480), ("Izd2-29-041-w35_proSPC", 300)]
)
def test_real_pale_stains_are_kept(name, least):
    """Of 714 windows of a kidney half show tissue, of 546 of a lung three in five."""
    path = Path(__file__).parents[3] / "shared" / "data" / "anhir" / f"{name}.jpg"
    if not path.is_file():
        pytest.skip("the pictures are not here")
    assert int(foreground(tissue(read_rgb(path)), 64, 32).sum()) > least


def test_anhir_in_a_form_that_cannot_be_used_is_named(tmp_path):
    path = save(tmp_path / "a_1" / "scale-5pc" / "S1.png", coordinates(64, 256))
    with pytest.raises(InputError, match=r"S1.png: no stain in this name .* expected one of HE"):
        load_tissue(str(tmp_path), side=16)
    glass = path.rename(path.with_name("a_HE.png"))
    save(glass, np.full((64, 256, 3), 240, np.uint8))
    with pytest.raises(InputError, match="no patch of class 'HE' to train on"):
        load_tissue(str(tmp_path), side=16)
    save(glass, coordinates(64, 60))
    with pytest.raises(InputError, match=r"a_HE.png: 60 x 64 pixels; expected 64 x 16"):
        load_tissue(str(tmp_path), side=16)
    other = tmp_path / "b_1" / "scale-10pc"
    other.mkdir(parents=True)
    with pytest.raises(InputError, match="no scale in common"):
        load_tissue(str(tmp_path), side=16)
    with pytest.raises(InputError, match="scale-10pc: no picture in it"):
        load_tissue(str(tmp_path / "b_1"), side=16)


def test_names_without_a_stain_are_left_out_and_counted(tmp_path):
    home = tmp_path / "COAD_01" / "scale-5pc"
    for index, name in enumerate(("S1", "S2", "a_HE")):
        save(home / f"{name}.png", coordinates(64, 256, 100 + index))
    with pytest.warns(LawfulWarning, match=r"no stain in S1.png, S2.png; left out: 2"):
        found = load_tissue(str(tmp_path), side=16)
    assert found.classes == ("HE",)
    assert "1 pictures, 2 left out whose names tell no stain" in found.source
    assert set(as_bytes(found.train)[:, 2].unique().tolist()) == {102}


def test_twins_of_training_patches_are_not_held_out(tmp_path):
    for i in range(12):
        save(tmp_path / "set" / f"{i:02d}.png", noise(16, 16, 0 if i in (0, 7) else i))
    found = load_tissue(str(tmp_path / "set"), side=16)
    assert len(found.held_out) == 2
    assert "1 held-out twins of training patches left out" in found.source
    train = {image.numpy().tobytes() for image in found.train}
    assert not train & {image.numpy().tobytes() for image in found.held_out}


def test_tissue_on_one_side_only_is_named(tmp_path):
    picture = coordinates(64, 256)
    picture[:, 192:] = 240
    save(tmp_path / "set_1" / "scale-5pc" / "x_HE.png", picture)
    with pytest.raises(InputError, match="no patch of class 'HE' held out"):
        load_tissue(str(tmp_path), side=16)


def test_stains_are_words_of_the_name(tmp_path):
    names = LESIONS | {
        "29-039-U-35W-Izd1-1-HE": "HE",
        "29-039-U-35W-Izd1-3-Pro-SPC": "proSPC",
        "29-039-U-35W-Izd1-4-cc10": "Cc10",
        "s1_36-CNEU_A4926-4L": "CNEU",
        "s2_68-ER-A4962-4L": "ER",
        "Rat-Kidney_PanCytokeratin": "PanCytokeratin",
    }
    assert {name: stain(tmp_path / f"{name}.jpg") for name in names} == names
    assert set(names.values()) <= set(STAINS.values())
    assert {stain(tmp_path / f"{name}.jpg") for name in ("S1", "mammary", "a-HE-PAS")} == {None}


# LYSTO's format


def write_lysto(path, count=30, rows=37, **changed):
    organs = [("colon_1", "breast_2", "prostate_3")[i % 3].encode() for i in range(count)]
    content = {
        "x": np.random.default_rng(0).integers(0, 256, (count, rows, rows, 3)).astype(np.uint8),
        "y": np.arange(count),
        "organ": np.array(organs),
    } | changed
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            if values is not None:
                file[name] = values
    return content


def test_a_class_of_lysto_is_an_organ(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 7)
    x = write_lysto(tmp_path / "lysto" / "training.h5")["x"]
    found = load_tissue(str(tmp_path / "lysto"), side=16)
    assert found.classes == ("breast", "colon", "prostate")
    assert found.source == "training.h5, LYSTO's format, 30 images"
    assert found.train_labels.bincount().tolist() == [8, 8, 8]
    assert found.held_out_labels.bincount().tolist() == [2, 2, 2]
    middle = torch.from_numpy(x[:, 2:34, 2:34]).movedim(-1, 1).float()
    means = torch.nn.functional.avg_pool2d(middle, 2).round().byte()
    rows = {image.numpy().tobytes(): i for i, image in enumerate(means)}
    held = [rows[image.numpy().tobytes()] for image in as_bytes(found.held_out)]
    train = [rows[image.numpy().tobytes()] for image in as_bytes(found.train)]
    assert sorted(held) == [0, 1, 2, 15, 16, 17]  # the first and the sixth of each organ
    assert sorted(held + train) == list(range(30))
    assert [(1, 0, 2)[i % 3] for i in train] == found.train_labels.tolist()
    again = load_tissue(str(tmp_path / "lysto" / "training.h5"), side=16)
    assert torch.equal(again.train, found.train)


def test_a_large_side_takes_what_there_is_of_lysto(tmp_path):
    x = write_lysto(tmp_path / "training.h5", rows=36)["x"]
    whole = load_tissue(str(tmp_path), side=36)
    assert pixels(whole.train) | pixels(whole.held_out) == pixels(
        torch.from_numpy(x).movedim(-1, 1) / 255
    )
    flat = np.full((30, 36, 36, 3), np.arange(30)[:, None, None, None], np.uint8)
    write_lysto(tmp_path / "training.h5", x=flat)
    found = load_tissue(str(tmp_path), side=22)
    assert set(as_bytes(torch.cat([found.train, found.held_out])).unique().tolist()) == {*range(30)}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"organ": None}, "'organ': no such dataset in this file"),
        ({"x": None}, "'x': no such dataset"),
        ({"organ": np.array([b"colon"] * 31)}, r"organ \(31,\)"),
        ({"organ": np.arange(30)}, r"organ \(30,\) of int64; expected .* strings"),
        ({"organ": np.array([b"\xff"] * 30)}, "truncated or damaged"),
        ({"organ": np.array([b"colon"] * 29 + [b"breast"])}, "class 'breast' to train on"),
        ({"x": np.zeros((30, 37, 37, 3))}, r"of float64, .*; expected .* of uint8"),
        ({"x": np.zeros((30, 37, 37), np.uint8)}, r"x is \(30, 37, 37\)"),
        ({"x": np.zeros((30, 37, 37, 4), np.uint8)}, r"x is \(30, 37, 37, 4\)"),
        ({"x": np.zeros((0, 37, 37, 3), np.uint8)}, r"x is \(0, 37, 37, 3\)"),
        ({"x": np.zeros((30, 37, 14, 3), np.uint8)}, "14 x 37 pixels; expected at least 16"),
    ],
)
def test_lysto_in_a_form_that_cannot_be_used_is_named(tmp_path, changed, said):
    write_lysto(tmp_path / "training.h5", **changed)
    with pytest.raises(InputError, match=said) as error:
        load_tissue(str(tmp_path), side=16)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 100, 3_000, 60_000])
def test_a_truncated_hdf5_file_is_named(tmp_path, keep):
    path = tmp_path / "other.h5"
    write_lysto(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"other.h5: truncated or damaged"):
        load_tissue(str(path), side=16)


# Plain folders


@pytest.mark.parametrize("suffix", ["png", "tif", "TIFF"])
def test_a_class_of_a_plain_folder_is_a_sub_folder(tmp_path, suffix):
    for name, count in (("tumour", 7), ("normal", 6)):
        for i in range(count):
            save(tmp_path / "set" / name / f"{i}.{suffix}", noise(16, 16, 10 * count + i))
    (tmp_path / "set" / ".hidden").mkdir()
    (tmp_path / "set" / "readme.txt").write_text("not an image")
    found = load_tissue(str(tmp_path / "set"), side=16)
    assert found.classes == ("normal", "tumour")
    assert found.source == "set, 13 images"
    assert found.train_labels.bincount().tolist() == [4, 5]
    assert found.held_out_labels.bincount().tolist() == [2, 2]
    files = {
        read_rgb(tmp_path / "set" / name / f"{i}.{suffix}").contiguous().numpy().tobytes(): (
            label,
            i,
        )
        for label, (name, count) in enumerate((("normal", 6), ("tumour", 7)))
        for i in range(count)
    }
    part = lambda images: [files[image.numpy().tobytes()] for image in as_bytes(images)]  # noqa: E731
    assert sorted(part(found.held_out)) == [(0, 0), (0, 5), (1, 0), (1, 5)]
    assert [label for label, _ in part(found.train)] == found.train_labels.tolist()


def test_a_folder_of_images_is_one_class_and_large_ones_are_averaged(tmp_path):
    pictures = [noise(24, 34, seed) for seed in range(3)]
    for i, picture in enumerate(pictures):
        save(tmp_path / "glands" / f"{i}.png", picture)
    found = load_tissue(str(tmp_path / "glands"), side=12)
    assert found.classes == ("glands",)
    middle = torch.from_numpy(pictures[0][:, 5:29]).movedim(-1, 0)[None].float()
    expected = torch.nn.functional.avg_pool2d(middle, 2).round().byte()
    assert torch.equal(as_bytes(found.held_out), expected)
    assert load_tissue(str(tmp_path / "glands"), side=14).train.shape == (2, 3, 14, 14)


def test_opaque_rgba_is_taken_as_rgb(tmp_path):
    picture = noise(16, 16)
    opaque = np.concatenate([picture, np.full((16, 16, 1), 255, np.uint8)], -1)
    found = read_rgb(save(tmp_path / "a.png", opaque))
    np.testing.assert_array_equal(found.movedim(0, -1).numpy(), picture)
    opaque[3, 4, 3] = 254
    with pytest.raises(InputError, match=r"a.png: transparent pixels"):
        read_rgb(save(tmp_path / "a.png", opaque))


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey_is_named(tmp_path, mode):
    Image.fromarray(noise(16, 16)).convert(mode).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a.png: grey; expected RGB"):
        load_tissue(str(tmp_path), side=16)


def test_colours_of_a_palette_are_colours(tmp_path):
    flat = noise(16, 16) // 128 * 255
    Image.fromarray(flat).quantize(8).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png").movedim(0, -1).numpy(), flat)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98])
def test_a_truncated_image_is_named(tmp_path, suffix, share):
    path = save(tmp_path / f"a.{suffix}", noise(70, 70))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=rf"a.{suffix}: .*truncated or damaged"):
        load_tissue(str(tmp_path), side=64)


def test_a_damaged_image_is_named(tmp_path):
    path = save(tmp_path / "a.png", noise(70, 70))
    content = bytearray(path.read_bytes())
    content[7_000:7_032] = bytes(32)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a.png: .*truncated or damaged"):
        load_tissue(str(tmp_path), side=64)
    Image.fromarray(noise(70, 70)).save(path, "GIF")
    with pytest.raises(InputError, match="cannot be read as PNG"):
        load_tissue(str(tmp_path), side=64)


def test_other_misuse_of_a_plain_folder_is_named(tmp_path):
    home = tmp_path / "set"
    home.mkdir()
    with pytest.raises(InputError, match="set: no picture in it"):
        load_tissue(str(home), side=16)
    save(home / "x" / "a.png", noise(16, 16))
    with pytest.raises(InputError, match="no patch of class 'x' to train on"):
        load_tissue(str(home), side=16)
    save(home / "x" / "b.png", noise(16, 16))
    save(home / "x" / "c.png", noise(17, 18))
    with pytest.raises(InputError, match=r"c.png: 18 x 17 pixels; expected 16 x 16 like a.png"):
        load_tissue(str(home), side=16)
    (home / "x" / "c.png").unlink()
    with pytest.raises(InputError, match=r"a.png: 16 x 16 pixels; expected at least 18 per side"):
        load_tissue(str(home), side=18)
    (home / "y").mkdir()
    with pytest.raises(InputError, match=r"y: no picture in it"):
        load_tissue(str(home), side=16)
    save(home / "z.png", noise(16, 16))
    with pytest.raises(InputError, match="images and folders side by side"):
        load_tissue(str(home), side=16)


def test_several_images_in_one_file_are_named(tmp_path):
    first, second = (Image.fromarray(noise(16, 16, seed)) for seed in (0, 1))
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second])
    with pytest.raises(InputError, match=r"a.tif: 2 pages; expected one picture"):
        load_tissue(str(tmp_path), side=16)
