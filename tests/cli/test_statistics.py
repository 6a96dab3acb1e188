"""`lawful stats`: table, files and mistakes."""

import csv
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lawful import InputError, reading
from lawful.cli.export import Array, Layout, write_samples
from lawful.cli.statistics import run, statistics_of
from lawful.materials import images, statistics
from lawful.materials.images import otsu, read_micrograph
from lawful.materials.statistics import lineal_path, specific_surface, two_point
from lawful.study import Axis


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a noisy grey micrograph and its mask."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    y, x = np.mgrid[:60, :90]
    mask = np.sin(0.35 * x) + np.sin(0.4 * y + 1) > 0.4
    grey = np.clip(80 + 90 * mask + 8 * random.standard_normal(mask.shape), 0, 255)
    Image.fromarray(grey.astype(np.uint8)).save("grey.png")
    np.save("mask.npy", mask)
    np.save("flat.npy", np.ones((20, 20)))
    (tmp_path / "file").write_text("x")
    return tmp_path


@pytest.mark.parametrize("periodic", [False, True])
def test_files_and_table_say_the_same(here, capsys, periodic):
    run(["grey.png", "--pixel-size", "0.5", "--radii", "20", "--out", "s"]
        + periodic * ["--periodic"])  # fmt: skip
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    mask = np.load("mask.npy")
    found = json.loads((here / "s" / "statistics.json").read_text())
    grey = np.asarray(Image.open("grey.png"), dtype=float)
    assert found["threshold"] == otsu(grey)
    assert (found["size"], found["banner"], found["periodic"]) == ([60, 90], 0, periodic)
    assert found["p1"] == mask.mean()
    surface = float(specific_surface(mask, periodic=periodic))
    assert found["specific_surface"] == surface
    assert f"{surface:.5f} per pixel = {2 * surface:.5g} per unit" in out
    assert f"volume fraction p1       {mask.mean():.5f} (bright phase)" in out
    assert "60 x 90 pixels of 0.5 units" in out
    np.testing.assert_array_equal(found["p2"], two_point(mask, 20, periodic=periodic))
    with (here / "s" / "statistics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["r"]) for row in rows] == list(range(20))
    path = [float(row["lineal_path"]) for row in rows]
    np.testing.assert_array_equal(path, lineal_path(mask, 20, periodic=periodic))
    assert Image.open(here / "s" / "statistics.png").size[0] > 600
    assert sorted(p.name for p in (here / "s").iterdir()) == [
        "statistics.csv", "statistics.json", "statistics.png"
    ]  # fmt: skip


def test_phases_are_each_others_complement(here, capsys):
    run(["mask.npy", "--out", "a"])
    run(["mask.npy", "--phase", "dark", "--out", "b"])
    out = capsys.readouterr().out
    assert "none: two values" in out
    assert " = " not in out
    bright, dark = (json.loads((here / f / "statistics.json").read_text()) for f in "ab")
    assert bright["p1"] + dark["p1"] == pytest.approx(1)
    assert bright["specific_surface"] == dark["specific_surface"]
    for name in ("mean_chord", "components"):
        assert bright[name] == dark[f"{name}_other"]
    assert bright["pixel_size"] is None
    assert len(bright["p2"]) == 31


def test_threshold_crop_and_median_are_passed_on(here):
    run(["grey.png", "--threshold", "90", "--crop", "12", "--median", "3"])
    found = json.loads((here / "statistics" / "statistics.json").read_text())
    assert (found["threshold"], found["banner"], found["median"]) == (90, 12, 3)
    assert found["size"] == [48, 90]


def test_anisotropy():
    stripes = np.arange(60) // 5 % 2 > 0
    x = np.broadcast_to(stripes, (60, 60)).copy()
    assert statistics_of(x, 20)["anisotropy"] == pytest.approx(0.5)
    board = np.indices((60, 60)).sum(0) % 2 > 0
    assert statistics_of(board, 20)["anisotropy"] == 0


def test_figures_are_not_read_as_data(here):
    run(["grey.png"])
    arrays = {"fields": Array(np.load("mask.npy").astype(np.float32)[None, None])}
    space = (Axis("y", 0, 60), Axis("x", 0, 90))
    write_samples(here / "samples.png", iter([arrays]), Layout(1, arrays, {}, True, space))
    for name in ("statistics/statistics.png", "samples.png"):
        with pytest.raises(InputError, match=rf"{name}: a figure.*save them as \.tif"):
            run([name])


def test_what_is_odd_of_a_picture_is_said(here, capsys):
    levels = np.random.default_rng(0).choice([10, 120, 240], (60, 60)).astype(np.uint8)
    Image.fromarray(levels).save("three.png")
    run(["three.png"])
    said = capsys.readouterr().err
    assert "three.png: grey levels gather at 3 values (10, 120, 240)" in said
    found = json.loads((here / "statistics" / "statistics.json").read_text())
    assert said.count("\n") == len(found["notes"]) == 1


@pytest.mark.parametrize("kind", ["uint8", "bool", "uint16", "float64", "colour"])
def test_memory_stays_within_what_is_counted(here, monkeypatch, kind):
    """Bytes per pixel of reading and measuring, but for the parts of large images."""
    monkeypatch.setattr(images, "FEW", 2**14)
    monkeypatch.setattr(statistics, "TILE", 128)
    field = 100 + 90 * np.sin(np.arange(600)[:, None] / 9) * np.sin(np.arange(700) / 9)
    grey = field > 120 if kind == "bool" else field.astype("uint8" if kind == "colour" else kind)
    pixels = np.dstack([grey, grey // 2, grey]) if kind == "colour" else grey
    np.save("x.npy", pixels)
    few = kind in ("uint8", "bool", "uint16")
    bound = images.WORK[0 if few else 1] * grey.size + 2 * pixels.nbytes
    tracemalloc.start()
    try:
        statistics_of(read_micrograph("x.npy").image, 6)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= bound + 10**6


PEAKS = """
import re, sys
from pathlib import Path
import numpy as np
from lawful.materials import statistics
status = Path("/proc/self/status").read_text
size = lambda name: 1024 * int(re.search(name + r":\\s+(\\d+)", status())[1])
statistics.two_point(np.eye(100) > 0)
for shape, radii in (((900, 1000), 20), ((1100, 1500), 60), ((1100, 1200), 300)):
    x = np.random.default_rng(0).random(shape, np.float32) < 0.3
    Path("/proc/self/clear_refs").write_text("5")
    before = size("VmRSS")
    statistics.two_point(x, radii, periodic=False)
    print(size("VmHWM") - before, statistics.lag_memory(shape, radii))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux tells peaks")
def test_lags_take_no_more_memory_than_is_asked_for():
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", PEAKS], env=environment, capture_output=True, text=True, check=True
    )
    for line in done.stdout.splitlines():
        taken, bound = map(int, line.split())
        assert bound / 4 < taken <= bound


def test_lags_that_memory_cannot_hold_are_refused(here, monkeypatch):
    monkeypatch.setattr(reading, "free_memory", lambda: 10**6)
    with pytest.raises(InputError, match=r"--radii 60: needs .* GB of memory, .* are free"):
        run(["grey.png", "--radii", "60"])
    assert not (here / "statistics").exists()


MISTAKES = {
    "no image": ([], "lawful stats --help"),
    "no such image": (["none.png"], "none.png: there is no such file"),
    "unknown ending": (["file"], "expected one of .png"),
    "one phase": (["flat.npy"], "flat.npy: every pixel has the value 1; expected two phases"),
    "threshold": (["grey.png", "--threshold", "999"], "threshold 999; expected from"),
    "no number": (["grey.png", "--threshold", "high"], "high"),
    "phase": (["grey.png", "--phase", "red"], "red"),
    "crop": (["grey.png", "--crop", "58"], "2 x 90 pixels after 58 rows were cut"),
    "pixel size": (["grey.png", "--pixel-size", "-1"], "pixel size -1"),
    "median": (["grey.png", "--median", "4"], "median filter of 4"),
    "radii": (["grey.png", "--radii", "61"], "--radii 61: expected 2 to 60 for an image of 60"),
    "periodic": (["grey.png", "--radii", "32", "--periodic"], "expected 2 to 31"),
    "too few": (["grey.png", "--radii", "1"], "--radii 1: expected 2"),
    "out": (["grey.png", "--out", "file"], "file: cannot be written"),
    "out below": (["grey.png", "--out", "file/x"], "file/x: cannot be written"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(case, here):
    arguments, said = MISTAKES[case]
    before = sorted(here.rglob("*"))
    with pytest.raises(InputError) as error:
        run(arguments)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert sorted(here.rglob("*")) == before
