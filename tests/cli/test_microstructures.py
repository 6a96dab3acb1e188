"""Commands on microstructures: sizes, pictures, tolerances, files; mistakes are one line."""

import json
import re

import h5py
import numpy as np
import pytest
import tifffile
import torch

from lawful.cli.export import reading
from lawful.cli.main import main
from lawful.materials.fields import level_cut, random_field
from lawful.materials.statistics import correlation_map, two_point


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A barely trained generator of microstructures."""
    folder = tmp_path_factory.mktemp("runs") / "smoke"
    small = ["--training.steps", "2", "--training.checkpoint", "2"]
    assert main(["train", "microstructure", "--preset", "smoke", "--out", str(folder), *small]) == 0
    return str(folder)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(path, phi=0.35, side=96):
    """A micrograph: grey levels of two phases with some noise."""
    noise = torch.randn(1, side, side, generator=torch.Generator().manual_seed(1))
    correlation = torch.exp(-(torch.arange(32.0).square()) / 50)[None]
    binary = level_cut(random_field(noise, correlation, blur=1.0), torch.tensor([phi]))[0].numpy()
    grey = 60 + 120 * binary + 5 * np.random.default_rng(0).standard_normal(binary.shape)
    tifffile.imwrite(path, grey.astype(np.uint8))
    return binary


def test_like_a_picture_of_any_size_within_a_tolerance(model, here, capsys):
    binary = picture("my.tif")
    arguments = ["sample", model, "--volume-fraction", "0.4", "--like", "my.tif", "-n", "6",
                 "--size", "128", "--tolerance", "1e-3", "--out", "set.h5"]  # fmt: skip
    assert main(arguments) == 0
    with h5py.File("set.h5") as file:
        fields, target = file["fields"][:], file["condition/two_point"][:]
        reached = file["refinement/reached"][:]
        assert "condition/noise" not in file
    assert fields.shape == (6, 1, 128, 128)
    assert set(np.unique(fields)) == {0, 1}
    assert np.abs(fields.mean((1, 2, 3)) - 0.4).max() <= 1 / 128**2
    # The picture's correlation, not taken for periodic, at the fraction that was asked for.
    own = two_point(binary > 0.5, periodic=False).numpy()
    rho = (own - own[0] ** 2) / (own[0] - own[0] ** 2)
    np.testing.assert_allclose(target[0], 0.16 + 0.24 * rho, atol=2e-3)
    error = np.sqrt(np.square(two_point(fields[:, 0] > 0.5).numpy() - target).mean(1))
    np.testing.assert_array_equal(reached, error <= 1e-3 + 1e-7)
    assert reached.mean() > 0.5
    assert "refined to 0.001" in capsys.readouterr().out
    assert main(["report", "set.h5", "--out", "r"]) == 0
    found = json.loads((here / "r" / "report.json").read_text())["refinement"]
    assert found["reached"] == reached.sum()
    assert "Two-point correlation, asked for and found" in (here / "r" / "report.html").read_text()


def test_it_is_said_how_a_picture_was_read(model, here, capsys):
    grey = np.rint(60 + 120 * picture("my.tif")).astype(np.uint8)
    grey[::7, ::5] = 90
    tifffile.imwrite("my.tif", grey, imagej=True, resolution=(4.0, 4.0), metadata={"unit": "nm"})
    arguments = ["sample", model, "--like", "my.tif", "-n", "2", "--out", "a.h5"]
    assert main([*arguments, "--crop", "10", "--phase", "dark"]) == 0
    said = capsys.readouterr()
    words = " ".join(said.out.split())
    assert (
        "like my.tif: 86 x 96 pixels of 0.25 nm, 10 rows cut at the bottom; threshold 135" in words
    )
    assert "dark phase, p1 = 0." in words
    assert "my.tif: grey levels gather at 3 values (60, 90, 180)" in said.err
    with reading(here / "a.h5") as (manifest, _):
        told = manifest["sampled"]["like"]
    assert (told["path"], told["threshold"], told["banner"]) == ("my.tif", 135.0, 10)
    assert (told["pixel_size"], told["unit"], told["phase"]) == (0.25, "nm", "dark")


def test_statistics_of_a_picture_are_a_target(model, here, capsys):
    picture("my.tif")
    assert main(["stats", "my.tif"]) == 0
    for shown, out in (("my.tif", "a.h5"), ("statistics/statistics.csv", "b.h5")):
        assert main(["sample", model, "--like", shown, "-n", "2", "--out", out]) == 0
    with h5py.File("a.h5") as a, h5py.File("b.h5") as b:
        np.testing.assert_array_equal(a["condition/two_point"][:], b["condition/two_point"][:])
        np.testing.assert_array_equal(a["fields"][:], b["fields"][:])
    for content in ("", "r,p2\n0,0.4\n", "r,p2\n1,0.4\n", "r,p2\n0,x\n", "a,b\n1,2\n"):
        (here / "bad.csv").write_text(content)
        capsys.readouterr()
        assert main(["sample", model, "--like", "bad.csv", "--out", "c.h5"]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_target_that_no_image_of_the_size_can_have_is_explained(model, here, capsys):
    """Where structures are larger than the sample: on the terminal, in the report, on the page."""
    target = 0.16 + 0.24 * np.exp(-np.arange(32) / 24)
    capsys.readouterr()
    assert main(["sample", model, *lines_of(target), "-n", "2", "--tolerance", "1e-2",
                 "--out", "a.h5"]) == 0  # fmt: skip
    said = capsys.readouterr()
    assert "0 of 2 samples within 0.01" in " ".join(said.out.split())
    reason = "No periodic image of 64 x 64 pixels comes nearer than"
    left_out = "two_point of 2 samples is outside the trained range: the network is left out"
    assert f"lawful: warning: {reason}" in said.err
    assert f"lawful: warning: {left_out}" in said.err
    assert main(["report", "a.h5", "--out", "r"]) == 0
    page = (here / "r" / "report.html").read_text()
    warnings = json.loads((here / "r" / "report.json").read_text())["warnings"]
    for words in (reason, left_out):
        assert words in page
        assert any(line.startswith(words) for line in warnings)
    assert main(["sample", model, "-n", "1", "--volume-fraction", "0.40002", "--tolerance", "1e-4",
                 "--out", "b.h5"]) == 0  # fmt: skip
    assert "No image of 64 x 64 pixels comes nearer than 1.2e-04" in capsys.readouterr().err


def test_a_map_of_lags_is_not_taken_for_curves(model, here, capsys):
    binary = torch.from_numpy(picture("my.tif", side=64)).float()
    capsys.readouterr()
    lags = correlation_map(binary[None])[0, :32, :32]
    assert main(["sample", model, *lines_of(lags), "--out", "a.h5"]) == 2
    assert "two_point: a map of lags; expected radial curves" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [".nc", ".npz"])
def test_refinement_survives_every_format(model, here, ending):
    assert main(["sample", model, "-n", "3", "--tolerance", "2e-3", "--out", f"a{ending}"]) == 0
    with reading(here / f"a{ending}") as (_, chunks):
        chunk = next(chunks)
    assert chunk.fields.dtype == torch.float32
    assert chunk.report.projection.reached.dtype == torch.bool
    torch.testing.assert_close(
        two_point(chunk.fields[:, 0])[:, 0], chunk.condition["volume_fraction"], atol=2e-4, rtol=0
    )
    assert main(["report", f"a{ending}", "--out", "r"]) == 0


def test_stacks_and_vtk_images(model, here):
    for ending in ("tif", "vtk", "h5"):
        assert main(["sample", model, "-n", "70", "--out", f"a.{ending}"]) == 0
    with h5py.File("a.h5") as file:
        fields = file["fields"][:, 0]
    np.testing.assert_array_equal(tifffile.imread("a.tif"), 255 * fields)
    content = (here / "a.vtk").read_bytes()
    head, _, body = content.partition(b"FIELD samples ")
    assert b"DIMENSIONS 65 65 1" in head
    assert int(body.partition(b"\n")[0]) == 70
    places = [m.end() for m in re.finditer(rb"sample_\d{6} 1 4096 unsigned_char\n", content)]
    assert len(places) == 70
    last = np.frombuffer(content[places[69] : places[69] + 4096], np.uint8).reshape(64, 64)
    np.testing.assert_array_equal(last[::-1], fields[69])  # the first row of a picture is on top


def lines_of(curve, path="p2.npy"):
    np.save(path, np.asarray(curve, dtype=np.float32))
    return ["--two-point", path]


def good():
    return 0.16 + 0.24 * np.exp(-(np.arange(32.0) ** 2) / 40)


def shown():
    picture("my.tif")
    return "my.tif"


def too_high():
    curve = good()
    curve[5] = 0.5
    return curve


def no_triangle():
    return 0.16 + 0.24 * np.where(np.arange(32) < 6, 1 - np.arange(32) / 12, -0.3)


def no_spectrum():
    """A plateau at half the variance: its variogram is a metric, its spectrum has deep lobes."""
    r = np.arange(32)
    return 0.16 + 0.24 * np.where(r == 0, 1.0, np.where(r < 14, 0.5, 0.0))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (lambda: [*lines_of(good()), "--volume-fraction", "0.3"], "p2(0)"),
        (lambda: lines_of(too_high()), "p2 is at most the volume fraction"),
        (lambda: lines_of(no_triangle()), "triangle inequality"),
        (lambda: lines_of(no_spectrum()), "spectrum of p2 - phi^2"),
        (lambda: lines_of(good()[:20]), "--two-point p2.npy: expected an array of shape (32,)"),
        (lambda: lines_of(np.where(np.arange(32) == 3, np.nan, good())), "finite"),
        (lambda: ["--volume-fraction", "1.0"], "0 < volume fraction < 1"),
        (lambda: ["--size", "66"], "side: expected a multiple of 4"),
        (lambda: ["--size", "32"], "side"),
        (lambda: ["--tolerance", "0"], "tolerance"),
        (lambda: ["--tolerance", "1e-3", "--enforce"], "enforce"),
        (lambda: ["--size", "100000"], "side"),
        (lambda: ["--scale", "2"], "--scale 2.0: goes with --like"),
        (lambda: ["--like", "none.tif"], "none.tif"),
        (lambda: ["--like", "a.npy", *lines_of(good())], "there is no such file"),
        (lambda: ["--like", shown(), *lines_of(good())], "like, two_point: expected one"),
    ],
)
def test_mistakes_are_one_line(model, here, capsys, arguments, words):
    capsys.readouterr()
    assert main(["sample", model, "-n", "2", "--out", "a.h5", *arguments()]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.err.count("\n") == 1
    assert not (here / "a.h5").exists()


def test_other_models_take_no_picture_and_have_one_size(here, capsys):
    picture("a.tif")
    for extra in (["--like", "a.tif"], ["--size", "32"]):
        assert main(["sample", "motif-plus", "-n", "2", "--out", "a.png", *extra]) == 2
        assert capsys.readouterr().err.count("\n") == 1
