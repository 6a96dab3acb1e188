"""Commands end to end, and what they say of a user's mistakes: one line, exit status 2."""

import io
import json
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import tifffile
from lightning_fabric import Fabric
from PIL import Image

import lawful
from lawful.catalogue import shipped
from lawful.cli import demo, export, train
from lawful.cli.main import main
from lawful.cli.options import FORMATS, Devices
from lawful.registry import STUDIES
from lawful.studies.burgers import BurgersStudy
from lawful.study import headline

TINY = str(Path(__file__).parents[1] / "core" / "tiny.py")
SMALL = ["--training.steps", "20", "--training.checkpoint", "5"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A finished run of the tiny study."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", TINY, "--out", str(folder), *SMALL]) == 0
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def coarse(monkeypatch):
    """A reference that takes a fraction of the time."""
    solve = BurgersStudy.reference
    solver = lambda self, condition: solve(self, condition, factor=2)  # noqa: E731
    monkeypatch.setattr(BurgersStudy, "reference", solver)


def said(capsys):
    return capsys.readouterr()


def test_help_of_every_command(capsys):
    assert main([]) == 0
    assert "lawful COMMAND" in said(capsys).out
    for command in ("list", "train", "sample", "report", "study", "stats", "data", "demo"):
        assert main([command, "--help"]) == 0
        assert said(capsys).out.startswith(f"usage: lawful {command} ")
    assert main(["sample", "burgers", "--help"]) == 0
    assert "(drawn where not given)" in said(capsys).out
    assert main(["--version"]) == 0


def test_list_fits_a_terminal(capsys):
    assert main(["list"]) == 0
    out = said(capsys).out
    assert max(map(len, out.splitlines())) <= 80
    words = " ".join(out.split())
    for name, kind in STUDIES.items():
        presets = (f"{p} ({s.training.steps:,} steps)" for p, s in kind.presets().items())
        assert f"{name} {kind.about} presets: {', '.join(presets)}" in words
    for name in shipped():
        model = lawful.load(name)
        assert headline(model.study, model.manifest["quality"]) in words


def test_dry_run_prints_the_resolved_configuration(here, capsys):
    arguments = ["train", "burgers", "--preset", "smoke", "--dry-run", "--width", "24"]
    assert main(arguments) == 0
    out = said(capsys).out
    assert "width: 24" in out
    assert "steps: 400" in out
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("ending", [".h5", ".nc", ".npz"])
def test_samples_survive_the_file_and_are_judged_the_same(run_folder, here, ending, capsys):
    out = f"set{ending}"
    assert main(["sample", str(run_folder), "-n", "150", "--seed", "3", "--out", out]) == 0
    samples = lawful.load(run_folder).sample(150, seed=3)
    with export.reading(Path(out)) as (manifest, chunks):
        assert manifest["sampled"]["seed"] == 3
        parts = list(chunks)
    fields = np.concatenate([np.asarray(part.fields) for part in parts])
    asked = np.concatenate([np.asarray(part.condition["mean"]) for part in parts])
    np.testing.assert_array_equal(fields, samples.fields.numpy())
    np.testing.assert_array_equal(asked, samples.condition["mean"].numpy())
    said(capsys)
    assert main(["report", out, "--out", "r"]) == 0
    found = json.loads((here / "r" / "report.json").read_text())
    assert found["samples"] == 150
    assert found["laws"][0]["violation"]["worst"] == pytest.approx(
        float(samples.report.line("mean").violation.max()), rel=1e-5
    )
    page = (here / "r" / "report.html").read_text()
    assert "data:image/png;base64," in page
    assert "http://" not in page
    assert "https://" not in page


def test_both_estimates_and_their_judge_are_in_the_file_and_the_report(here, coarse, capsys):
    out = "set.h5"
    given_here = ["--frequency", "4", "2.5", "--viscosity", "0.01", "--refine", "2"]
    assert main(["sample", "burgers", *given_here, "--out", out]) == 0
    judge = "burgers on 256 cells and 126 steps"
    text = " ".join(said(capsys).out.split())
    samples = lawful.load("burgers").sample(frequency=[4.0, 2.5], viscosity=0.01, refine=2)
    taken = int(samples.report.accepted.sum())
    assert judge in text
    assert f"Corrections: {taken} of 4 taken; {4 - taken} refused" in text
    assert main(["report", out, "--out", "r"]) == 0
    assert judge in (here / "r" / "report.html").read_text()
    found = json.loads((here / "r" / "report.json").read_text())
    assert found["corrections_accepted"] == taken
    assert found["judge"] == samples.report.estimate.judge == judge
    for name, kind in (("estimated_error", "relative"), ("estimated_error_absolute", "absolute")):
        worst = float(getattr(samples.report.estimate, kind).max())
        assert found[name]["worst"] == pytest.approx(worst, rel=1e-5)


def test_other_programs_read_netcdf(run_folder, here):
    xarray = pytest.importorskip("xarray")
    assert main(["sample", str(run_folder), "-n", "9", "--out", "a.nc"]) == 0
    with xarray.open_dataset("a.nc") as data:
        assert dict(data["fields"].sizes)["sample"] == 9
        assert "violation_mean" in data


def test_violations_are_in_the_file(run_folder, here):
    asked = ["-n", "5", "--mean", "0.1", "2.5", "--out", "a.h5"]
    assert main(["sample", str(run_folder), *asked]) == 0
    with h5py.File("a.h5") as file:
        samples = lawful.load(run_folder).sample(5, mean=[0.1, 2.5])
        found = file["violation/mean"][:]
        np.testing.assert_allclose(found, samples.report.line("mean").violation, rtol=1e-6)
        assert file["outside/mean"][:].tolist() == [False, True, False, True, False]


def test_pictures_and_stacks(run_folder, here):
    assert main(["sample", str(run_folder), "-n", "70", "--out", "a.png"]) == 0
    assert Image.open("a.png").size[0] > 200
    assert main(["sample", str(run_folder), "-n", "70", "--out", "a.tif"]) == 0
    fields = lawful.load(run_folder).sample(70).fields.numpy()
    np.testing.assert_array_equal(tifffile.imread("a.tif"), fields[:, 0])


def test_digits_are_pictures_and_their_noise_is_in_the_file(here, capsys):
    assert main(["sample", "motif-cross", "-n", "9", "--enforce", "--out", "a.h5"]) == 0
    assert "affine laws enforced" in said(capsys).out
    with h5py.File("a.h5") as file:
        noise, fields = file["condition/noise"][:], file["fields"][:]
    np.save("noise.npy", noise[4])
    arguments = ["sample", "motif-cross", "--noise", "noise.npy", "--enforce", "--out", "b.h5"]
    assert main(arguments) == 0
    with h5py.File("b.h5") as file:
        np.testing.assert_allclose(file["fields"][0], fields[4], atol=1e-5)
    assert main(["report", "a.h5", "--out", "r"]) == 0
    page = (here / "r" / "report.html").read_text()
    assert "affine laws enforced" in page
    assert "MNIST" in page  # where its data came from
    assert json.loads((here / "r" / "report.json").read_text())["laws"][0]["largest_residual"] == 0
    assert main(["sample", "motif-cross", "-n", "9", "--out", "a.png"]) == 0
    picture = np.asarray(Image.open("a.png").convert("RGB"), dtype=int)
    assert np.abs(picture[..., 0] - picture[..., 2]).max() == 0  # grey


def test_outside_the_trained_range_is_a_warning_and_in_the_report(run_folder, here, capsys):
    assert main(["sample", str(run_folder), "-n", "3", "--mean", "1.5", "--out", "a.h5"]) == 0
    assert "mean of 3 samples is outside the trained range" in said(capsys).err
    assert main(["report", "a.h5", "--out", "r"]) == 0
    found = json.loads((here / "r" / "report.json").read_text())
    assert found["outside_trained_range"] == {"mean": 3}


def mistakes(run):
    """Arguments, and what the line must name."""
    sample = ["sample", run, "--out", "a.h5"]
    return {
        "no such command": (["fly"], "fly"),
        "no such study": (["train", "waves"], "waves"),
        "no such result": (["study", "waves"], "game, symmetry, or"),
        "no such file": (["train", "mine.py"], "mine.py"),
        "no such preset": (["train", "burgers", "--preset", "huge"], "huge"),
        "no such option": (["train", "burgers", "--speed", "3"], "--speed"),
        "not a number": (["train", "burgers", "--training.steps", "many"], "many"),
        "no steps": (["train", "burgers", "--training.steps", "0"], "training.steps"),
        "no model": (["sample"], "STR"),
        "unknown model": (["sample", "rivers", "--out", "a.h5"], "rivers"),
        "no samples": ([*sample, "-n", "0"], "at least 1"),
        "fewer than none": ([*sample, "-n", "-3"], "at least 1"),
        "NaN": ([*sample, "--mean", "nan"], "finite"),
        "below the minimum": ([*sample, "--mean", "-7"], "-7"),
        "no such condition": ([*sample, "--viscosity", "1"], "--viscosity"),
        "no refinement": ([*sample, "--refine", "2"], "refine"),
        "unknown ending": (["sample", run, "--out", "a.xyz"], ".xyz"),
        "no folder": (["sample", run, "--out", "file/a.h5"], "file"),
        "a folder": (["sample", run, "--out", "folder.h5"], "folder.h5"),
        "empty file": (["report", "empty.h5"], "empty.h5"),
        "empty archive": (["report", "empty.npz"], "empty.npz"),
        "array for an archive": (["report", "array.npz"], "array.npz"),
        "no conditions": (["report", "bare.h5"], "bare.h5"),
        "foreign file": (["report", "foreign.npz"], "foreign.npz"),
        "huge seed": ([*sample, "--seed", "x1"], "x1"),
        "no such device": (["train", TINY, "--device.accelerator", "abacus"], "abacus"),
        "impossible width": (["train", "burgers", "--width", "-3"], "width"),
        "impossible share": (["train", "burgers", "--variety", "1.5"], "1.5"),
        "huge training seed": (["train", TINY, "--training.seed", "9" * 20], "training.seed"),
        "no mapping": (["sample", "list", "--out", "a.h5"], "expected names"),
        "finished elsewhere": (["train", TINY, "--out", "odd"], "--resume"),
        "no such precision": (["train", TINY, "--device.precision", "64-true"], "64-true"),
        "swapped weights": (["sample", "swapped", "--out", "a.h5"], "swapped"),
        "half a file": (["report", "half.h5"], "half.h5"),
        "report of nothing": (["report", "nothing"], "nothing"),
        "report into a file": (["report", run, "--out", "file"], "file"),
        "used run folder": (["train", TINY, "--out", run, *SMALL], "--resume"),
        "half a model": (["sample", "halved", "--out", "a.h5"], "halved"),
        "foreign manifest": (["sample", "odd", "--out", "a.h5"], "manifest.json"),
        "other study's model": (["study", "burgers", "--model", run], "tiny"),
        "nothing to enforce": ([*sample, "--enforce"], "no affine law"),
        "computed study": (["study", "game", "--preset", "full"], "is computed"),
        "computed study of a model": (["study", "game", "--model", "x"], "takes no --model"),
        "folder in a file": (["study", "game", "--out", "/dev/null/x"], "no folder"),
        "overrides of a computed study": (["study", "game", "--training.steps", "3"], "computed"),
        "overrides of a model": (["study", TINY, "--model", run, "--training.steps", "3"], "steps"),
        "device of a model": (["study", TINY, f"--model={run}", "--device.devices", "2"], "device"),
        "override that no run takes": (["study", "mixture", "--alpha", "4"], "own"),
        "study on no such device": (["study", TINY, "--device.accelerator", "abacus"], "abacus"),
        "study with no such option": (["study", TINY, "--speed", "3"], "--speed"),
        "study last": (["study", "--preset", "smoke", "motif"], "comes first"),
        "motif off the image": (["train", "motif", "--row", "1"], "do not fit into 28 x 28"),
        "motif of even size": (["train", "motif", "--size", "6"], "odd"),
        "motif without a picture": (["train", "motif", "--motif", "circle"], "circle"),
        "motif of no picture": (["train", "motif", "--motif", "file"], "expected one of .png"),
        "motif of another size": (["train", "motif", "--motif", "small.png"], "28 x 28"),
        "no such rule": (["train", "motif", "--rule", "zigzag"], "zigzag"),
        "no digits": (["train", "motif", "--digits", "nowhere"], "nowhere"),
        "digits that are none": (["train", "motif", "--digits", "folder.h5"], "train-images"),
        "joint rule, unequal steps": (
            ["train", "motif", "--rule", "optimistic", "--critic-steps", "2"], "as often; got 1"),
        "noise of another length": (
            ["sample", "motif-plus", "--noise", "three.npy", "--out", "a.h5"], "64"),
    }  # fmt: skip


@pytest.fixture
def litter(here, run_folder):
    """Things a user might have lying about."""
    (here / "file").write_text("x")
    (here / "folder.h5").mkdir()
    (here / "empty.h5").touch()
    np.savez(here / "foreign.npz", a=np.zeros(3))
    (here / "empty.npz").touch()
    np.save(here / "three.npy", np.zeros(3))
    Image.new("RGB", (8, 8), "white").save(here / "small.png")
    np.save(here / "array.npy", np.zeros(3))
    (here / "array.npy").rename(here / "array.npz")
    manifest = (run_folder / "manifest.json").read_text()
    with h5py.File(here / "bare.h5", "w") as file:
        file.attrs["lawful"] = np.bytes_(manifest)
        file["fields"] = np.zeros((3, 1, 4, 4), dtype=np.float32)
    main(["sample", str(run_folder), "-n", "3", "--out", "whole.h5"])
    data = (here / "whole.h5").read_bytes()
    (here / "half.h5").write_bytes(data[: len(data) // 2])
    (here / "whole.h5").unlink()
    for name in ("halved", "odd", "swapped", "list"):
        (here / name).mkdir()
        for part in ("model.safetensors", "manifest.json"):
            (here / name / part).write_bytes((run_folder / part).read_bytes())
    weights = (here / "halved" / "model.safetensors").read_bytes()
    (here / "halved" / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    flipped = bytearray(weights)
    flipped[-1] ^= 1
    (here / "swapped" / "model.safetensors").write_bytes(flipped)
    (here / "list" / "manifest.json").write_text('{"study": "burgers", "config": []}')
    (here / "odd" / "manifest.json").write_text('{"name": "something else"}')
    return here


@pytest.mark.parametrize("case", mistakes("RUN"))
def test_a_mistake_is_one_line_and_nothing_is_written(case, litter, run_folder, capsys):
    arguments, named = mistakes(str(run_folder))[case]
    before = sorted(str(path) for path in litter.rglob("*"))
    said(capsys)
    assert main(arguments) == 2
    output = said(capsys)
    assert output.err.startswith("lawful: ")
    assert output.err.count("\n") == 1
    assert named in output.err
    assert "Traceback" not in output.err
    assert sorted(str(path) for path in litter.rglob("*")) == before


@contextmanager
def filling_up(size):
    """Files may not grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_does_not_crash_the_interpreter(run_folder, here):
    code = (
        "import resource, sys; from lawful.cli.main import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["sample", str(run_folder), "-n", "8000", "--out", "a.h5"]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("lawful: ")
    assert done.stderr.count("\n") == 1
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("ending", FORMATS)
def test_a_disk_that_fills_up_leaves_one_line_and_the_old_file(run_folder, here, capsys, ending):
    out = here / f"a{ending}"
    out.write_text("old")
    said(capsys)
    with filling_up(5_000):
        assert main(["sample", str(run_folder), "-n", "500", "--out", str(out)]) == 2
    output = said(capsys)
    assert output.err.startswith(f"lawful: {out}: cannot be written (File too large)")
    assert output.err.count("\n") == 1
    assert out.read_text() == "old"
    assert list(here.iterdir()) == [out]


def test_a_disk_that_fills_up_while_training_keeps_the_last_checkpoint(run_folder, here, capsys):
    shutil.copytree(run_folder, "run")
    before = {path.name: path.read_bytes() for path in Path("run", "checkpoints").iterdir()}
    said(capsys)
    with filling_up(4_000):
        longer = ["--resume", "--training.steps", "40", "--training.checkpoint", "5"]
        assert main(["train", TINY, "--out", "run", *longer]) == 2
        assert main(["train", TINY, "--out", "other", *SMALL]) == 2
    lines = said(capsys).err.splitlines()
    assert sum(line.startswith("lawful: ") and "cannot be" in line for line in lines) == 2
    assert not list(Path("other", "checkpoints").glob("*"))
    assert before == {path.name: path.read_bytes() for path in Path("run", "checkpoints").iterdir()}


def test_too_little_room_is_said_before_any_sample(run_folder, here, monkeypatch, capsys):
    monkeypatch.setattr(export.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    assert main(["sample", str(run_folder), "-n", "3", "--out", "a.h5"]) == 2
    assert "are free" in said(capsys).err
    assert list(here.iterdir()) == []


def test_as_many_samples_as_values_where_no_number_is_given(run_folder, here, capsys):
    assert main(["sample", str(run_folder), "--mean", "0.1", "0.2", "0.7", "--out", "a.h5"]) == 0
    with h5py.File("a.h5") as file:
        np.testing.assert_allclose(file["condition/mean"][:], [0.1, 0.2, 0.7])
    said(capsys)
    arguments = ["sample", str(run_folder), "--mean", "0.1", "0.2", "-n", "1", "--out", "a.h5"]
    assert main(arguments) == 0
    assert "only the first 1 of 2 values" in said(capsys).err


def test_a_field_that_is_not_finite_is_reported_in_valid_json(run_folder, here):
    main(["sample", str(run_folder), "-n", "4", "--out", "a.h5"])
    with h5py.File("a.h5", "r+") as file:
        file["fields"][1] = np.nan
    assert main(["report", "a.h5", "--out", "r"]) == 0
    text = (here / "r" / "report.json").read_text()
    found = json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert found["laws"][0]["violation"]["worst"] is None
    assert found["laws"][0]["largest_residual"] is None


def test_tracking_writes_events(here):
    pytest.importorskip("tensorboard")
    assert main(["train", TINY, "--out", "run", "--track", *SMALL]) == 0
    assert list((here / "run" / "tensorboard").glob("events*"))


def test_two_processes_train_one_run(here):
    arguments = ["train", TINY, "--out", "run", "--device.devices", "2", *SMALL]
    command = [sys.executable, "-m", "lawful", *arguments, "--device.strategy", "ddp"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model: run") == 1
    assert lawful.load("run").sample(mean=0.5).fields.isfinite().all()


def test_initial_conditions_from_files(here, capsys):
    np.save("bump.npy", np.exp(-((np.linspace(0, 1, 64) - 0.3) ** 2) / 0.01))
    np.save("short.npy", np.zeros(63))
    np.save("hole.npy", np.full(64, np.nan))
    Path("text.npy").write_text("not an array")
    np.savez("pair.npz", a=np.zeros(64))
    np.save("nothing.npy", np.zeros((64, 0)))
    start = ["sample", "burgers", "--out", "a.h5", "--viscosity", "0.01", "--initial"]
    assert main([*start, "bump.npy"]) == 0
    with h5py.File("a.h5") as file:
        np.testing.assert_allclose(file["fields"][0, 0, 0], np.load("bump.npy"), atol=1e-6)
    os.unlink("a.h5")
    for name, message in (
        ("short.npy", "shape (64,), or a stack of them, got (63,)"),
        ("hole.npy", "expected finite"),
        ("text.npy", "not a .npy file"),
        ("gone.npy", "no such file"),
        ("pair.npz", "not a .npy file"),
        ("nothing.npy", "expected an array"),
    ):
        said(capsys)
        assert main([*start, name]) == 2
        assert message in said(capsys).err
        assert not Path("a.h5").exists()


def test_the_demo_trains_samples_and_reports(here, coarse, monkeypatch, capsys):
    quick = {"smoke": BurgersStudy(lawful.Training(steps=2, batch=2))}
    monkeypatch.setattr(demo.BurgersStudy, "presets", classmethod(lambda cls: quick))
    monkeypatch.setattr(demo, "SAMPLES", 2)
    assert main(["demo", "--no-open"]) == 0
    out = said(capsys).out
    assert max(map(len, out.splitlines())) <= 80
    assert (here / "demo" / "report.html").stat().st_size > 50_000


def test_a_study_of_ones_own_gets_a_table(here, capsys):
    Path("mine.py").write_text(Path(TINY).read_text().replace("steps=60", "steps=12"))
    assert main(["study", "mine.py", "--out", "s"]) == 0
    assert "mean (1)" in (here / "s" / "table.md").read_text()
    assert "laws" in json.loads((here / "s" / "table.json").read_text())


def test_help_of_a_study_shows_its_configuration_and_the_device(capsys):
    assert main(["study", "mixture", "--preset", "paper", "--help"]) == 0
    out = said(capsys).out
    for option in ("--points", "--training.steps", "--device.accelerator", "200000"):
        assert option in out


TWO = """

from lawful.studies.results import quality_result
from lawful.table import Recipe, Row

RECIPE = Recipe(quality_result, Row("two", seeds=2).runs)
"""


def test_every_run_of_a_study_has_the_overrides_and_one_device(here, monkeypatch, capsys):
    Path("tiny.py").write_text(Path(TINY).read_text() + TWO)
    launches, launch = [], train.launch
    monkeypatch.setattr(train, "launch", lambda asked: launches.append(asked) or launch(asked))
    asked = ["study", "tiny.py", "--out", "s", "--training.checkpoint", "5"]
    device = ["--device.precision", "bf16-mixed"]
    assert main([*asked, "--training.steps", "6", "--training.seed", "3", *device]) == 0
    found = [lawful.load(f"s/full-two-{k}").manifest["config"]["training"] for k in (0, 1)]
    assert [(run["steps"], run["seed"]) for run in found] == [(6, 3), (6, 4)]
    assert launches == [Devices(precision="bf16-mixed")]
    said(capsys)
    assert main([*asked, "--training.steps", "7"]) == 2
    error = said(capsys).err
    assert error.count("\n") == 1
    assert "full-two-0/config.yaml: training." in error


def test_another_process_than_the_first_writes_no_result(here, monkeypatch):
    monkeypatch.setattr(Fabric, "is_global_zero", property(lambda self: False))
    assert main(["study", TINY, "--out", "s", *SMALL]) == 0
    assert not Path("s").exists()


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("option", ["--element", "--sed"])
def test_an_unknown_option_is_named_once_in_any_encoding(
    here, capsys, monkeypatch, encoding, option
):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding))
    assert main(["sample", "burgers", option, "3", "--out", "a.h5"]) == 2
    said = f"lawful: Unrecognized options: {option}, 3; see lawful sample --help\n"
    assert capsys.readouterr().err == said
