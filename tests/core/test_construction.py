"""What a network obeys by construction is a law: in reports, kept by whatever moves samples."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from lawful import InputError, Quantity, Study, Training, registry
from lawful.cli.main import main
from lawful.cli.report import from_file
from lawful.data.masks import MotifLaw, plus
from lawful.laws import CorrectableLaw
from lawful.materials.laws import VolumeFraction
from lawful.metrics.report import relative_error
from lawful.model import Model
from lawful.run import train
from lawful.studies.burgers import BurgersStudy
from lawful.training import Enforced

HEAT = str(Path(__file__).parents[2] / "examples" / "heat.py")
SIDE = 12


def untrained(study):
    torch.manual_seed(0)
    return Model(study, study.network().eval(), {})


def heat():
    return untrained(registry.find(HEAT)())


def names(samples):
    return [line.name for line in samples.report.lines]


def test_an_initial_row_that_holds_by_construction_is_reported_once():
    samples = heat().sample(3)
    assert names(samples) == ["heat", "initial"]
    assert float(samples.report.line("initial").violation.max()) == 0
    burgers = untrained(BurgersStudy.presets()["smoke"]).sample(2)
    assert names(burgers) == ["burgers", "mass", "initial", "boundary"]


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_projected_samples_keep_their_initial_row_and_an_estimate_of_their_true_error(tolerance):
    model = heat()
    given = {"diffusivity": torch.tensor([0.02, 0.1, 0.2]), "mode": torch.tensor([1.0, 2, 3])}
    raw, done = model.sample(**given), model.sample(**given, tolerance=tolerance)
    assert bool(done.report.projection.reached.all())
    assert torch.equal(done.fields[:, :, 0], raw.fields[:, :, 0])
    assert float(done.report.line("initial").violation.max()) == 0
    truth = model.study.reference(done.condition)
    for samples in (raw, done):
        ratio = samples.report.estimate.relative / relative_error(samples.fields, truth)
        assert bool(((ratio > 0.9) & (ratio < 1.1)).all())
    # A tolerance is of the violation: the error stays larger, but is a fraction of what it was.
    share = relative_error(done.fields, truth) / relative_error(raw.fields, truth)
    moved = done.report.projection.iterations > 0
    assert bool(moved.any())
    assert bool((share < torch.where(moved, 0.1, 1.001)).all())
    assert "of the discrete law only" in done.report.estimate.judge


def test_files_and_reports_carry_the_law_and_the_estimate(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    study = registry.find(HEAT)(Training(2, 4, checkpoint=2))
    list(train(study, tmp_path / "run", Fabric(accelerator="cpu", devices=1)))
    assert main(["sample", "run", "-n", "3", "--tolerance", "1e-3", "--out", "a.npz"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "initial" in said
    assert "of the discrete law only" in said
    report = from_file(tmp_path / "a.npz").data
    assert [entry["law"] for entry in report["laws"]] == ["heat", "initial"]
    assert report["estimated_error"]["worst"] < 1


class Grey(nn.Module):
    """Smooth fields of noise; of 0 and 1 where they are cut."""

    def __init__(self, cut=False):
        super().__init__()
        self.layer, self.cut = nn.Conv2d(1, 1, 5, padding=2, padding_mode="circular"), cut

    def forward(self, condition):
        x = 0.5 + self.layer(condition["noise"][:, None])
        return (x > 0.5).to(x) if self.cut else x


def share(x, c):
    return (x[..., : SIDE // 2] - 0.3).mean((1, 2, 3))


@dataclass(frozen=True)
class Planted(Study):
    """Fields of noise whose motif holds by construction."""

    training: Training = Training(2)
    name = "planted"
    about = "fields with a motif"
    quantities = (Quantity("noise", 0, 1, shape=(SIDE, SIDE), distribution="normal"),)

    def laws(self):
        return (share,)

    def motif(self):
        mask = plus(SIDE, 5, 5, 5)
        return MotifLaw(mask, 0.5 * mask)

    def network(self):
        return Enforced(Grey(), [self.motif()])


def test_a_motif_enforced_by_the_network_is_reported_and_kept():
    model = untrained(Planted())
    raw, done = model.sample(4), model.sample(4, tolerance=1e-5)
    assert names(raw) == ["share", "motif"]
    assert float(raw.report.line("share").violation.min()) > 1e-3
    assert bool(done.report.projection.reached.all())
    motif = model.study.motif()
    assert float(motif.violation(done.fields, {}).max()) == 0
    assert raw.report.estimate is done.report.estimate is None  # the laws leave fields free


def test_only_what_no_later_enforcement_can_break_is_claimed():
    masks = plus(SIDE, 5, 5, 5), plus(SIDE, 5, 6, 5)
    laws = [MotifLaw(mask, k * mask.float(), f"m{k}") for k, mask in enumerate(masks)]
    for network in (Enforced(Grey(), laws), Enforced(Enforced(Grey(), laws[:1]), laws[1:])):
        x = network({"noise": torch.zeros(2, SIDE, SIDE)}).detach()
        assert [law.name for law in network.obeys()] == ["m1"]
        assert float(laws[1].violation(x, {}).max()) == 0 < float(laws[0].violation(x, {}).min())
    assert Enforced(Enforced(Grey(), laws[:1]), []).obeys() == (laws[0],)


class Flat(CorrectableLaw):
    """x = 1/2, with a correction that is exact and knows nothing of the motif."""

    name = "flat"

    def __call__(self, x, c):
        return x - 0.5

    def correction(self, x, c):
        return 0.5 - x


@dataclass(frozen=True)
class Corrected(Planted):
    """Planted, with a corrector that cares for the motif or does not."""

    careful: bool = False
    name = "corrected"

    def corrector(self):
        return Careful() if self.careful else Flat()

    def motif(self):
        mask = plus(SIDE, 5, 5, 5)
        return MotifLaw(mask, mask.float())


class Careful(Flat):
    def correction(self, x, c):
        return Corrected().motif().hide(0.5 - x, c)


@pytest.mark.parametrize(("careful", "taken"), [(False, 0), (True, 1)])
def test_no_correction_is_taken_that_breaks_what_holds_by_construction(careful, taken):
    model = untrained(Corrected(careful=careful))
    raw, done = model.sample(4), model.sample(4, refine=1)
    assert done.report.accepted.tolist() == [taken] * 4
    assert torch.equal(done.report.line("motif").violation, raw.report.line("motif").violation)


@dataclass(frozen=True)
class Binary(Planted):
    cut: bool = True
    name = "binary"
    binary = True
    quantities = (*Planted.quantities, Quantity("volume_fraction", 0.3, 0.7))

    def laws(self):
        return share, VolumeFraction()

    def network(self):
        return Grey(self.cut)


def test_binary_samples_stay_binary_or_are_refused():
    model = untrained(Binary())
    raw = model.sample(6, volume_fraction=0.5)
    done = model.sample(6, volume_fraction=0.5, tolerance=0.02)
    assert bool(((done.fields == 0) | (done.fields == 1)).all())
    assert torch.equal(done.fields.sum((1, 2, 3)), raw.fields.sum((1, 2, 3)))
    within = torch.stack([line.violation <= 0.02 for line in done.report.lines]).all(0)
    assert torch.equal(done.report.projection.reached, within)
    assert bool((done.report.projection.exchanges > 0).any())
    before, after = (s.report.line("share").violation for s in (raw, done))
    assert float(after.mean()) < float(before.mean())
    with pytest.raises(InputError, match="study 'binary' has no affine law") as error:
        model.sample(6, volume_fraction=0.5, enforce=True)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="is binary"):
        untrained(Binary(cut=False)).sample(6)
