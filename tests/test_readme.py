"""What README and docs show runs: every block of Python and every command, in the page's order.

Commands are made small: few samples, two steps of training, and tables of no runs.
"""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import lawful
from lawful import registry
from lawful.cli import study as studying
from lawful.cli.main import main
from lawful.pde import ConservationStudy
from lawful.studies import darcy
from lawful.table import Recipe, Result

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TRAIN = ["--training.steps", "2", "--training.checkpoint", "1"]
NOTHING = Result("nothing", "", {})


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with the files that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    solve = ConservationStudy.reference
    coarse = lambda self, condition, factor=2: solve(self, condition, factor=2)  # noqa: E731
    monkeypatch.setattr(ConservationStudy, "reference", coarse)
    monkeypatch.setattr(darcy, "FRESH", 8)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    rng = np.random.default_rng(0)
    Image.fromarray(blobs(rng)).save("my.tif")
    np.save("z.npy", rng.normal(size=64).astype("float32"))
    np.save("p2.npy", 0.16 + 0.24 * np.exp(-np.arange(32) / 4))
    logo = np.zeros((28, 28, 4), "uint8")
    logo[4:9, 6] = 255
    Image.fromarray(logo).save("logo.png")
    return tmp_path


def blobs(rng):
    noise = np.fft.rfft2(rng.normal(size=(128, 128)))
    waves = np.hypot(*np.meshgrid(np.fft.rfftfreq(128), np.fft.fftfreq(128)))
    field = np.fft.irfft2(noise * np.exp(-((waves / 0.05) ** 2)))
    return 255 * (field > np.quantile(field, 0.6)).astype("uint8")


def python_of(page):
    return "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))


def few_steps(code):
    return re.sub(r"Training\(steps=\d+", "Training(steps=2", code)


def commands_of(page):
    lines = re.findall(r"^    lawful (.*)$", page.read_text(), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def pages(part):
    return [pytest.param(page, id=page.stem) for page in PAGES if part(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_symbol_ends_in_an_asterisk(page):
    # Markdown takes it for emphasis: it vanishes, and the line is in italics up to the next one.
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
    assert re.findall(r"(?<![\w*])\w\*(?!\*)", text) == []


@pytest.mark.parametrize("page", pages(python_of))
def test_python_blocks_run(page, desk):
    torch.manual_seed(0)
    names = {}
    exec(compile(few_steps(python_of(page)), page.name, "exec"), names)
    if "volume" in names:
        half = torch.tensor([0.5])
        x, c = torch.full((1, 1, 4, 4), 0.5), {"volume_fraction": half}
        assert lawful.law(names["volume"]).violation(x, c) == 0


def small(arguments):
    """The same command with few samples, steps and images."""
    command, name, *_ = [*arguments, ""]
    if command == "sample":
        return re.sub(r"-n \d+", "-n 4", shlex.join(arguments)).split()
    if command == "data":
        return [*arguments, "--images", "40", "--side", "16", "--out", "images.h5"]
    if command != "train":
        return arguments
    if "smoke" not in registry.find(name).presets():
        return [*arguments, *TRAIN]
    kept = re.sub(r" --preset \S+", "", shlex.join(arguments))
    return [*kept.split(), "--preset", "smoke", *TRAIN]


@pytest.mark.parametrize("page", pages(commands_of))
def test_commands_run(page, desk, monkeypatch, capsys):
    true = studying.recipe_of
    stub = lambda kind: Recipe(lambda models: NOTHING, lambda *_: {}, true(kind).preset)  # noqa: E731
    monkeypatch.setattr(studying, "compute", lambda name: NOTHING)
    monkeypatch.setattr(studying, "recipe_of", stub)
    for arguments in commands_of(page):
        status = main(small(arguments))
        assert status == 0, (arguments, capsys.readouterr().err)
