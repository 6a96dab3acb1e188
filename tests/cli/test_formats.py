"""Fields of every rank in every format, read back by programs that are not lawful."""

import json
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import tifffile
import torch
import xarray
from PIL import Image

import lawful
from lawful.cli.export import WRITERS, Array, Layout, arrays_of, reading, write_samples
from lawful.cli.main import main
from lawful.cli.options import FORMATS
from lawful.cli.page import png
from lawful.laws import Estimate, Projection, merge
from lawful.metrics.figures import comparison_figure, montage_figure
from lawful.metrics.report import LawLine, LawReport
from lawful.model import Samples
from lawful.study import Axis

RANKS = str(Path(__file__).parent / "ranks.py")
SIZES = ["2x5", "1x1", "1x4x6", "3x4x1", "1x3x4x5", "2x1x2x3"]
NUMBER = 3


def train(folder, sizes, *options):
    return main(["train", RANKS, "--out", str(folder), "--sizes", sizes, *options])


@pytest.fixture(scope="module", params=SIZES)
def run(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks") / request.param
    assert train(folder, request.param) == 0
    return folder


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A run of curves."""
    folder = tmp_path_factory.mktemp("ranks") / "line"
    assert train(folder, "1x5", "--no-solver") == 0
    return folder


@pytest.fixture(scope="module")
def samples(run):
    """The samples of the files `a.*` in the run's folder."""
    for ending in FORMATS:
        arguments = ["--seed", "4", "--out", str(run / f"a{ending}")]
        assert main(["sample", str(run), "-n", str(NUMBER), *arguments]) == 0
    return lawful.load(run).sample(NUMBER, seed=4)


def edges(path):
    """The corners of cells, and the cells' values by name, of a legacy VTK image."""
    data = path.read_bytes()
    head, _, rest = data.partition(b"FIELD samples ")
    words = {line.split()[0]: line.split()[1:] for line in head.decode().splitlines()}
    points = [int(word) for word in words["DIMENSIONS"]]
    assert words["DATASET"] == ["STRUCTURED_POINTS"]
    corners = [
        float(start) + float(step) * np.arange(count)
        for start, step, count in zip(words["ORIGIN"], words["SPACING"], points, strict=True)
    ]
    cells = int(words["CELL_DATA"][0])
    assert cells == np.prod([max(count - 1, 1) for count in points])
    number, _, rest = rest.partition(b"\n")
    values = {}
    for _ in range(int(number)):
        title, _, rest = rest.partition(b"\n")
        name, components, tuples, kind = title.decode().split()
        assert (components, int(tuples), kind) == ("1", cells, "float")
        values[name] = np.frombuffer(rest[: 4 * cells], ">f4")
        assert rest[4 * cells : 4 * cells + 1] == b"\n"
        rest = rest[4 * cells + 1 :]
    assert rest == b""
    return corners, values


def test_every_format_holds_the_fields(run, samples):
    fields, mean = samples.fields.numpy(), samples.condition["mean"].numpy()
    channels = fields.shape[1]
    with h5py.File(run / "a.h5") as file:
        np.testing.assert_array_equal(file["fields"][:], fields)
        np.testing.assert_array_equal(file["condition/mean"][:], mean)
        assert [d.label or d[0].name for d in file["fields"].dims][:2] == ["/sample", "/channel"]
    with np.load(run / "a.npz") as archive:
        np.testing.assert_array_equal(archive["fields"], fields)
        np.testing.assert_array_equal(archive["condition/mean"], mean)
        assert archive["outside/mean"].dtype == bool
        assert json.loads(str(archive["lawful"]))["sampled"]["seed"] == 4
    with tifffile.TiffFile(run / "a.tif") as file:
        np.testing.assert_array_equal(file.asarray().reshape(fields.shape), fields)
        assert all(page.shape == fields.shape[-2:] for page in file.pages)
    _, values = edges(run / "a.vtk")
    assert len(values) == NUMBER * channels
    found = np.stack(list(values.values())).reshape(fields.shape)
    np.testing.assert_array_equal(found, fields)
    assert np.asarray(Image.open(run / "a.png").convert("L")).std() > 0


def test_every_format_is_told_of(capsys):
    assert main(["sample", "--help"]) == 0
    told = capsys.readouterr().out
    assert all(ending in told for ending in FORMATS)
    assert set(FORMATS) == WRITERS.keys() - {".hdf5", ".tiff"}  # other names of two of them


def test_coordinates_and_units_are_those_of_the_study(run, samples):
    study = lawful.load(run).study
    sizes = samples.fields.shape[2:]
    with xarray.open_dataset(str(run / "a.nc")) as data:
        np.testing.assert_array_equal(data["fields"], samples.fields)
        assert data["fields"].dims == ("sample", "channel", *(axis.name for axis in study.axes))
        assert data["fields"].attrs == {"units": "K", "long_name": "fields of any rank"}
        assert data["condition_mean"].attrs["units"] == "m"
        for axis, size in zip(study.axes, sizes, strict=True):
            places = data[axis.name].values
            assert data[axis.name].attrs["units"] == axis.unit
            half = 0 if axis.nodes else (axis.upper - axis.lower) / size / 2
            assert places[0] == pytest.approx(axis.lower + half, abs=1e-12)
            if size > 1:
                assert places[-1] == pytest.approx(axis.upper - half, abs=1e-12)
    corners, _ = edges(run / "a.vtk")
    for at, axis, size in zip(corners, reversed(study.axes), reversed(sizes), strict=False):
        middles = np.array([(a + b) / 2 for a, b in pairwise(at)])
        np.testing.assert_allclose(middles, axis.places(size), atol=1e-12)
    with h5py.File(run / "a.h5") as file:
        for number, axis in enumerate(study.axes, 2):
            scale = file["fields"].dims[number][0]
            np.testing.assert_allclose(scale[:], axis.places(len(scale)))


def test_a_report_compares_fields_of_every_rank(run, samples, tmp_path):
    assert main(["report", str(run / "a.h5"), "--out", str(tmp_path / "r")]) == 0
    assert "numerical and difference" in (tmp_path / "r" / "report.html").read_text()


@pytest.mark.parametrize("ending", ["nc", "npz"])
def test_reports_of_other_formats(line, tmp_path, monkeypatch, ending):
    monkeypatch.chdir(tmp_path)
    assert main(["sample", str(line), "-n", "3", "--out", f"a.{ending}"]) == 0
    assert main(["report", f"a.{ending}", "--out", "r"]) == 0
    assert json.loads(Path("r/report.json").read_text())["samples"] == 3


@pytest.mark.parametrize(
    ("shape", "values"),
    [((2, 1, 5), "negative"), ((2, 2, 2, 3), "negative"), ((2, 1, 2, 2, 2), "negative"),
     ((1, 1, 5), "NaN"), ((1, 1, 2, 3), "NaN"), ((1, 1, 5), "infinite"), ((1, 1, 2, 3), "infinite"),
     ((1, 1, 5), "zero"), ((1, 1, 2, 3), "zero"), ((1, 1, 2, 3), "constant")],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_figures_show_whatever_values_there_are(shape, values):
    fields = -torch.rand(shape, generator=torch.Generator().manual_seed(0))
    if values in ("constant", "zero"):
        fields = torch.full(shape, -3.0 if values == "constant" else 0.0)
    elif values != "negative":
        fields.view(-1)[::2] = torch.nan if values == "NaN" else -torch.inf
    places = [(f"x{axis}", np.arange(size) + 0.5) for axis, size in enumerate(shape[2:])]
    png(comparison_figure(fields, fields - 1, ["a"], places))
    montage = montage_figure(fields)
    png(montage)
    shown = shape[0] * shape[1] * (3 if len(shape) == 5 else 1)
    assert sum(bool(axis.images or axis.lines) for axis in montage.axes) == shown


def test_three_cuts_go_through_the_middle():
    x = torch.arange(2 * 3 * 4.0).reshape(1, 1, 2, 3, 4)
    cuts = [axis.images[0].get_array() for axis in montage_figure(x).axes]
    for cut, expected in zip(cuts, (x[0, 0, 1], x[0, 0, :, 1], x[0, 0, :, :, 2]), strict=True):
        np.testing.assert_array_equal(cut, expected)


@pytest.mark.parametrize("sizes", ["3", "1x2x2x2x2", "1x0x2"])
def test_fields_that_no_file_holds_are_refused_before_training(tmp_path, sizes, capsys):
    assert train(tmp_path / "run", sizes, "--no-stated") == 2
    said = capsys.readouterr().err
    assert said.startswith("lawful: study 'ranks': expected fields (batch, channel, *space)")
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_cells_are_counted_where_no_axes_are_stated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train("run", "1x2x3x4", "--no-stated") == 0
    assert main(["sample", "run", "-n", "2", "--out", "a.nc"]) == 0
    with xarray.open_dataset("a.nc") as data:
        assert data["fields"].dims == ("sample", "channel", "z", "y", "x")
        assert data["x"].values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("shape", "count"),
    [((2, 3), 1), ((4, 2, 3), 4), ((3,), None), ((2, 2, 2, 3), None), ((6,), None), ((3, 2), None)],
)
def test_the_quantity_says_what_an_array_is(line, tmp_path, monkeypatch, capsys, shape, count):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.random.default_rng(0).random(shape))
    status = main(["sample", str(line), "--flow", "a.npy", "--out", "a.h5"])
    said = capsys.readouterr().err
    if count is None:
        assert status == 2
        assert f"a.npy: expected an array of shape (2, 3), or a stack of them, got {shape}" in said
        assert not Path("a.h5").exists()
        return
    assert status == 0
    with h5py.File("a.h5") as file:
        assert len(file["fields"]) == count
        np.testing.assert_allclose(file["condition/flow"], np.load("a.npy").reshape(-1, 2, 3))


def test_a_square_array_is_a_stack_of_its_rows(line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.eye(3))
    assert main(["sample", str(line), "--wind", "a.npy", "a.npy", "--out", "a.h5"]) == 0
    with h5py.File("a.h5") as file:
        np.testing.assert_array_equal(file["condition/wind"], np.tile(np.eye(3), (2, 1)))


def test_a_report_is_not_replaced_unless_told(line, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(line), "-n", "2"]) == 0
    before = Path("report/report.html").read_bytes()
    capsys.readouterr()
    assert main(["report", str(line), "-n", "3"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert Path("report/report.html").read_bytes() == before
    assert main(["report", str(line), "-n", "3", "--force"]) == 0
    assert json.loads(Path("report/report.json").read_text())["samples"] == 3


def test_archives_are_the_same_where_savez_takes_no_options(line, tmp_path, monkeypatch):
    stored, real = [], np.savez

    def savez(file, **arrays):  # as NumPy 1.26 does
        stored.extend(arrays)
        real(file, **arrays)

    monkeypatch.setattr(np, "savez", savez)
    assert main(["sample", str(line), "-n", "1", "--out", str(tmp_path / "a.npz")]) == 0
    assert "fields" in stored
    assert "allow_pickle" not in stored


@pytest.mark.parametrize("ending", ["h5", "nc"])
def test_scales_of_vectors_meet_no_array(tmp_path, ending):
    shapes = {"fields": (2, 1, 4), "condition/a": (2, 3), "condition/a_1": (2,)}
    chunk = {name: Array(np.ones(shape, np.float32)) for name, shape in shapes.items()}
    path = tmp_path / f"a.{ending}"
    write_samples(path, iter([chunk]), Layout(2, chunk, {}, False, [Axis("x", 0, 1)]))
    with xarray.open_dataset(str(path), group="/") as data:
        assert data.sizes["condition_a.1"] == 3


@pytest.mark.parametrize("ending", ["h5", "nc", "npz"])
def test_what_was_found_of_samples_survives_the_file(tmp_path, ending):
    r, whole = torch.linspace(0, 1, 70), torch.arange(70)
    done = Projection(
        tolerance=0.5, raw=r, iterations=whole, exchanges=whole + 1, displacement=r / 2,
        reached=r < 0.9, worsened=r < 0.2,
    )  # fmt: skip
    estimate = Estimate(r, 2 * r, "all laws together")
    report = LawReport(
        (LawLine("a law", "1", r, r),), estimate, (("a/b", r > 0.5),), 2, whole, True, done
    )
    samples = Samples(torch.rand(70, 1, 4), {"a/b": r, "c": torch.rand(70, 2, 3)}, report)
    study = SimpleNamespace(unit="K", about="", binary=False, quantities=())
    arrays = arrays_of(samples, study)
    sampled = {"refine": 2, "enforce": True, "tolerance": 0.5, "judge": estimate.judge}
    manifest = {"study": "ranks", "config": {}, "sampled": sampled}
    path = tmp_path / f"a.{ending}"
    write_samples(path, iter([arrays]), Layout(70, arrays, manifest, False, [Axis("x", 0, 1)]))
    with reading(path) as (told, chunks):
        parts = list(chunks)
    assert told == manifest
    assert [len(part.fields) for part in parts] == [64, 6]
    whole = merge(parts)
    found = arrays_of(whole, study)
    assert found.keys() == arrays.keys() - {"violation/a_law"}  # they are judged afresh
    for name, array in found.items():
        np.testing.assert_array_equal(array.values, arrays[name].values)
    assert (whole.report.tried, whole.report.enforced) == (2, True)
    assert (whole.report.projection.tolerance, whole.report.estimate.judge) == (0.5, estimate.judge)
