"""The mixture study: configurations, runs in little, judging, the table."""

import json
from dataclasses import replace

import pytest
import torch
import yaml
from lightning_fabric import Fabric
from safetensors.torch import load_file

from lawful import InputError, Training
from lawful.cli.main import main
from lawful.model import load
from lawful.run import train
from lawful.studies import mixture
from lawful.studies.mixture import (
    COLUMNS,
    MIXTURE,
    ROWS,
    MixtureStudy,
    energy_distance,
    mixture_quality,
    mixture_result,
    plane_figure,
)
from lawful.study import headline
from lawful.symmetry import plane_rotations
from lawful.symmetry.symmetrize import randomize


def study(**changes):
    return replace(MixtureStudy(Training(6, 20, 5e-4, checkpoint=2), points=40), **changes)


def run(entry, folder, **options):
    for _ in train(entry, folder, Fabric(accelerator="cpu", devices=1), **options):
        pass
    return load(folder)


@pytest.mark.parametrize("generator", ["plain", "random-element", "equivariant"])
def test_every_design_trains_samples_and_is_reported(generator, tmp_path):
    model = run(study(generator=generator), tmp_path / "run")
    samples = model.sample(70, seed=3)
    assert samples.fields.shape == (70, 1, 1, 12)
    assert float(samples.report.line("embedding").violation.max()) > 0
    enforced = model.sample(70, seed=3, enforce=True)
    assert float(enforced.report.line("embedding").violation.max()) == 0.0
    assert torch.equal(enforced.fields[..., :2], samples.fields[..., :2])
    quality = model.manifest["quality"]
    assert {"energy", "p_value"} <= {column.figure for column in COLUMNS.values()} & set(quality)
    assert (quality["p_value"] > 0.01) == (generator != "plain")
    assert "energy distance" in headline(model.study, quality)
    assert model.manifest["data"] == {"points": "40 drawn with seed 1000"}


def test_an_interrupted_run_ends_bit_for_bit_the_same(tmp_path):
    entry = study()
    run(entry, tmp_path / "whole")
    for progress in train(entry, tmp_path / "cut", Fabric(accelerator="cpu", devices=1)):
        if progress.step == 5:
            break
    torch.manual_seed(77)
    run(entry, tmp_path / "cut", resume=True)
    whole, cut = (load_file(tmp_path / n / "model.safetensors") for n in ("whole", "cut"))
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def test_the_commands_take_it(tmp_path, capsys):
    out = tmp_path / "run"
    main(["train", "mixture", "--preset", "smoke", "--critic", "plain", "--out", str(out)])
    main(["sample", str(out), "-n", "5", "--out", str(tmp_path / "x.npz")])
    main(["report", str(out), "--out", str(tmp_path / "report")])
    assert "In the plane" in (tmp_path / "report" / "report.html").read_text()
    assert json.loads((out / "manifest.json").read_text())["config"]["critic"] == "plain"


def test_points_are_of_the_seed_and_augmented_by_turns():
    plain, turned = study().data(), study(augment=True).data()
    assert plain.shape == (40, 1, 1, 12)
    assert turned.shape == (160, 1, 1, 12)
    group = plane_rotations(4, 12)
    torch.testing.assert_close(turned[:40], plain)
    torch.testing.assert_close(turned[40:80], group.act(plain, 1))
    assert not torch.equal(plain, study(training=Training(6, 20, seed=1)).data())
    batch = study().game().draw(torch.Generator().manual_seed(0))
    assert batch.data.shape == (20, 1, 1, 12)
    assert batch.condition["noise"].shape == (20, 10)


def test_the_papers_game_has_constant_rates_and_more_steps_of_the_critic():
    first, second = MixtureStudy.presets()["paper"].game().moves
    assert second.times > first.times
    for move in (first, second):
        for part in move.parts:
            rates = {part.optimizer.rate(step, 100) for step in (0, 50, 99)}
            assert rates == {part.optimizer.learning_rate}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"generator": "plan"}, "generator: expected one of plain, random-element, equivariant"),
        ({"critic": "projected"}, "critic: expected one of"),
        ({"points": 0}, "points: expected at least 1, got 0"),
        ({"critic_steps": 0}, "critic_steps: expected at least 1"),
        ({"alpha": 1.0}, "alpha: expected above 1, got 1"),
        ({"penalty": -1.0}, "penalty: expected at least 0, got -1"),
        ({"critic_rate": 0.0}, "critic_rate: expected above 0, got 0"),
    ],
)
def test_configurations_that_cannot_be_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        study(**changes)


@pytest.fixture(scope="module")
def fresh():
    return MIXTURE.sample(5_000, torch.Generator().manual_seed(5))


def test_quality_knows_what_is_missing(fresh):
    whole = mixture_quality(fresh)
    assert whole["energy"] < 0.01
    assert whole["symmetrized"] < 0.01
    assert whole["least"] > 0.23
    assert whole["off_plane"] == 0.0
    one = fresh[MIXTURE.cluster(fresh) == 0]
    flawed = mixture_quality(one)
    assert flawed["least"] == 0.0
    assert flawed["energy"] > 1.0
    assert flawed["symmetrized"] < 0.05  # an invariant critic is content
    assert flawed["p_value"] <= 0.001
    turned = randomize(one, plane_rotations(4, 12), torch.Generator().manual_seed(0))
    assert mixture_quality(turned)["energy"] < 0.05
    assert mixture_quality(turned)["p_value"] > 0.01
    shrunk = mixture_quality(fresh.clamp(-12, 12) + 0.5)
    assert shrunk["tail"] < 15 < whole["tail"]
    assert shrunk["off_plane"] == pytest.approx(0.5)


def test_energy_distance_of_closed_form():
    x, y = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    assert energy_distance(x, y) == pytest.approx(5.0 - 0.0 - 2.5)
    assert energy_distance(y, y) == pytest.approx(0.0)
    z = torch.randn(1200, 2, generator=torch.Generator().manual_seed(0)).double()
    mean = (torch.cdist(z, z).mean(), torch.cdist(z, z + 1).mean())
    assert energy_distance(z, z + 1) == pytest.approx(float(2 * (mean[1] - mean[0])))


@pytest.mark.parametrize("preset", MixtureStudy.presets())
def test_every_preset_has_all_rows_and_no_row_is_another_under_a_new_label(preset):
    runs = mixture.RECIPE.runs(MixtureStudy.presets()[preset], preset)
    assert len({yaml.safe_dump(entry.config()) for entry in runs.values()}) == len(runs)
    assert len({row.label for row in ROWS}) == len(ROWS)


def test_the_table_has_a_line_for_every_row_and_the_floors(tmp_path):
    runs = mixture.RECIPE.runs(study(), "tiny")
    chosen = ("plain-generator-plain-critic-0", "plain-generator-plain-critic-1",
              "random-element-generator-invariant-critic-0")  # fmt: skip
    names = [f"tiny-{name}" for name in chosen]
    result = mixture_result({name: run(runs[name], tmp_path / name) for name in names})
    assert "40 training points where not said otherwise; 6 steps" in result.markdown
    lines = [line.split(" | ")[:2] for line in result.markdown.splitlines() if line[:2] == "| "]
    assert [line for line in lines][2:7] == [
        ["| plain generator, plain critic", "2"],
        ["| random-element generator, invariant critic", "1"],
        ["| fresh samples (the floor)", ""],
        ["| the 40 training points", ""],
        ["| their quarter turns", ""],
    ]
    assert "| as above | " in result.markdown
    assert set(result.figures) == {"plane"}
    (floor,) = (e for e in result.data["records"] if e["row"] == "fresh samples (the floor)")
    assert floor["energy"] < 0.01

    model = load(tmp_path / names[0])
    broken = replace(model, manifest={**model.manifest, "quality": {"energy": "low"}})
    with pytest.raises(InputError, match=r"quality\.energy: expected a number"):
        mixture_result({names[0]: broken})


def test_pictures_are_drawn(fresh):
    figure = plane_figure({"one": fresh, "two, of them": fresh[:9]})
    assert [axis.get_title() for axis in figure.axes] == ["one", "two\nof them"]
