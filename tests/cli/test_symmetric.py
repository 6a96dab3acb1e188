"""Commands on generators with a symmetry: classes, poses, reports; mistakes are one line."""

import shlex
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from lawful import InputError
from lawful.cli import study as studying
from lawful.cli.main import main
from lawful.model import save_model
from lawful.run import describe
from lawful.studies.histology import HistologyStudy
from lawful.studies.rotmnist import RotatedDigitsStudy, rotmnist_runs

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def untrained(study, folder):
    torch.manual_seed(0)
    save_model(folder, study.network().eval(), describe(study, 0, 0.0))
    return str(folder)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    study = RotatedDigitsStudy.presets()["smoke"]
    return untrained(study, tmp_path_factory.mktemp("digits") / "model")


@pytest.fixture(scope="module")
def tissue(tmp_path_factory):
    study = HistologyStudy.presets()["smoke"]
    return untrained(study, tmp_path_factory.mktemp("tissue") / "model")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_elements_turn_the_same_sample(digits, here):
    np.save("z.npy", np.random.default_rng(0).standard_normal((1, 64)))
    given = ["--noise", "z.npy", "--label", "7", "--element", "0", "1", "2", "3"]
    assert main(["sample", digits, "-n", "4", *given, "--out", "set.h5"]) == 0
    with h5py.File("set.h5") as file:
        fields, labels = file["fields"][:, 0], file["condition/label"][:]
    assert labels.tolist() == [7] * 4
    for k in range(4):
        np.testing.assert_allclose(fields[k], np.rot90(fields[0], k), atol=1e-6)


def test_the_readmes_commands_make_one_digit_in_every_pose(here):
    """The shipped model, as the lines are written there; to a file that keeps numbers."""
    lines = [line.partition("   #")[0].split(maxsplit=2) for line in README.splitlines()
             if line.startswith(("    python -c", "    lawful sample rotmnist"))]  # fmt: skip
    (_, _, code), (_, command, rest) = lines
    exec(code.strip('"'))
    given = shlex.split(rest)
    given[given.index("--out") + 1] = "set.h5"
    assert main([command, *given]) == 0
    with h5py.File("set.h5") as file:
        fields = file["fields"][:, 0]
    for k in range(4):
        np.testing.assert_allclose(fields[k], np.rot90(fields[0], k), atol=1e-4)


def test_a_report_says_whether_the_law_is_invariant(digits, here, capsys):
    assert main(["report", digits, "--out", "report"]) == 0
    assert "Symmetry C4: " in capsys.readouterr().out
    assert "<h2>Symmetry C4</h2>" in (here / "report" / "report.html").read_text()


def test_a_study_without_laws_is_reported(tissue, here, capsys):
    assert main(["sample", tissue, "-n", "5", "--out", "set.h5"]) == 0
    assert main(["report", "set.h5", "--out", "report", "--force"]) == 0
    said = capsys.readouterr().out
    assert said.count("5 samples, raw. The study states no law of a single sample.") == 2
    assert main(["sample", tissue, "-n", "4", "--out", "set.png"]) == 0
    pixels = np.asarray(Image.open("set.png").convert("RGB"))
    assert (pixels.max(2).astype(int) - pixels.min(2)).max() > 10  # in colour


def folder(path, sizes=((64, 64), (64, 64)), classes=("a", "b")):
    for i, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for k, size in enumerate(sizes):  # no two alike, for twins are not held out
            Image.new("RGB", size, (200, 40 * k % 256, 90 + 20 * i)).save(path / name / f"{k}.png")
    return path


def damaged(path):
    folder(path)
    (path / "b" / "1.png").write_bytes((path / "b" / "1.png").read_bytes()[:60])


def empty_class(path):
    folder(path)
    (path / "c").mkdir()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: folder(path, ((64, 64), (80, 64))), ("1.png", "64")),
        (damaged, ("1.png",)),
        (empty_class, ("tissue/c", "no picture")),
        (lambda path: folder(path, ((32, 32),)), ("0.png", "32")),
        (lambda path: None, ("tissue",)),
    ],
    ids=["mixed sizes", "corrupt", "empty class", "too small", "missing"],
)
def test_bad_folders_are_one_line(here, capsys, make, words):
    make(here / "tissue")
    given = ["--preset", "smoke", "--tissue", "tissue", "--out", "run"]
    assert main(["train", "histology", *given]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert said.startswith("lawful: ")
    assert all(word in said for word in words)
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "rotmnist", "--group", "E4"], "group 'E4'"),
        (["train", "rotmnist", "--generator", "plain"], "pose latent"),
        (["train", "rotmnist", "--treatment", "canonical"], "needs pose output"),
        (["train", "rotmnist", "--share", "0.5", "--digits", "uci"], "30,000"),
        (["train", "rotmnist", "--penalty", "-1"], "penalty"),
        (["train", "rotmnist", "--share", "nan"], "share: expected above 0, got nan"),
        (["train", "rotmnist", "--subset", "-1"], "subset: expected at least 0, got -1"),
        (["train", "rotmnist", "--growth", "1", "0"], "growth: expected at least 1, got 0"),
        (["train", "rotmnist", "--growth", "1", "1", "1", "1"], "cannot be halved 3 times"),
        (["study", "rotmnist", "--share", "2"], "share: expected at most 1, got 2"),
        (["study", "rotmnist", "--loss", "alpha"], "loss: this table's runs have their own"),
        (["study", "rotmnist", "--treatment", "augmented"], "treatment: this table's runs"),
        (["train", "rotmnist", "--critic-kernel", "2"], "critic_kernel"),
        (["train", "rotmnist", "--critic-kernel", "9"], "critic_kernel"),
        (["train", "histology", "--features", "nowhere.safetensors"], "nowhere.safetensors"),
        (["train", "microstructure", "--group", "C8"], "got C8"),
    ],
)
def test_mistakes_are_one_line(here, capsys, arguments, words):
    assert main([*arguments, "--preset", "smoke", "--out", "run"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert words in said
    assert not (here / "run").exists()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--label", "10"], "label: expected whole numbers from 0 to 9, got 10"),
        (["--label", "2.5"], "label: expected whole numbers"),
        (["--element", "4"], "element: expected whole numbers from 0 to 3, got 4"),
    ],
)
def test_labels_are_checked(digits, here, capsys, given, words):
    assert main(["sample", digits, "-n", "2", *given, "--out", "set.h5"]) == 2
    assert words in capsys.readouterr().err
    assert not (here / "set.h5").exists()


def test_a_model_of_a_folder_does_without_it(here, capsys):
    folder(here / "tissue", ((64, 64),) * 20)
    study = replace(HistologyStudy.presets()["smoke"], tissue="tissue", names=())
    assert study.classes == ("a", "b")
    path = untrained(study, here / "model")
    (here / "tissue").rename(here / "gone")
    assert main(["sample", path, "-n", "2", "--label", "1", "--out", "set.h5"]) == 0


def test_too_few_held_out_patches_are_refused_before_the_training(here, capsys):
    folder(here / "tissue", ((64, 64),) * 10)
    given = ["--preset", "smoke", "--tissue", "tissue", "--names", "a", "b", "--out", "run"]
    assert main(["train", "histology", *given]) == 2
    assert "4 held-out patches; expected at least 6" in capsys.readouterr().err
    assert not (here / "run").exists()


def test_a_table_is_trained_on_tissue_of_a_folder(here, monkeypatch, capsys):
    """The classes' names, which follow from the folder, are not taken for an override."""
    folder(here / "tissue", ((64, 64),) * 20)
    asked = []

    def begun(study, folder, **_):
        asked.append(study)
        raise InputError("enough")

    monkeypatch.setattr(studying, "train_with_progress", begun)
    given = ["--preset", "smoke", "--tissue", "tissue", "--out", "table"]
    assert main(["study", "histology", *given]) == 2
    assert capsys.readouterr().err.strip().endswith("lawful: enough")
    assert [(s.tissue, s.classes) for s in asked] == [("tissue", ("a", "b"))]


@pytest.fixture
def untaught(monkeypatch):
    """No training may begin."""

    def begun(study, folder, **_):
        pytest.fail(f"{folder} is trained")

    monkeypatch.setattr(studying, "train_with_progress", begun)


def test_a_share_of_later_runs_is_refused_before_the_first(untaught, here, capsys):
    given = ["--preset", "smoke", "--share", "0.01"]  # the table's other runs have ten times that
    assert main(["study", "rotmnist", *given, "--out", "table"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert "share: 0.1 of 60,000 digits is 6,000; expected 10 to 1,437" in said
    assert not (here / "table").exists()


def test_another_run_in_a_later_folder_is_refused_before_the_first(untaught, here, capsys):
    study = RotatedDigitsStudy.presets()["smoke"]
    last = list(rotmnist_runs(study, "smoke"))[-1]
    untrained(study, here / "table" / last)
    (here / "table" / last / "config.yaml").write_text("study: rotmnist\ntraining: {steps: 3}\n")
    assert main(["study", "rotmnist", "--preset", "smoke", "--out", "table"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert f"{last}/config.yaml: " in said
    assert "training.steps: the run's is 3, asked for 20" in said
