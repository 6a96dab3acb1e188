"""`lawful.train`, and runs that start from others or go on."""

import json
from dataclasses import dataclass, field, replace

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

import lawful
from lawful import InputError, LawfulWarning, Quantity, Study, Training, registry
from lawful.cli.main import main
from lawful.laws import law
from lawful.run import checkpoints, history, train
from lawful.training import Adam, Batch, Game, Move, law_loss


class Noisy(nn.Module):
    """Takes torch's own random numbers whenever it is called."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 16)

    def forward(self, condition):
        mean = condition["mean"]
        x = self.linear(torch.stack([mean, 0.1 * torch.randn_like(mean)], 1))
        return x.reshape(-1, 1, 4, 4)


def mean(x, c):
    return x.mean((1, 2, 3)) - c["mean"]


@dataclass(frozen=True)
class Door(Study):
    training: Training = field(default_factory=lambda: Training(8, 4, checkpoint=3))
    constant: bool = True
    name = "door"
    about = "fields of a given mean"
    quantities = (Quantity("mean", 0.0, 1.0),)

    def laws(self):
        return (mean,)

    def network(self):
        return Noisy()

    def game(self):
        adam = Adam(0.01, schedule="constant", warmup=0) if self.constant else Adam(0.01)
        moves = (Move("generator", law_loss(law(mean)), adam),)
        return Game(moves, lambda rng: Batch(self.draw(4, rng)))


@pytest.fixture(autouse=True)
def shipped_study(monkeypatch, tmp_path):
    monkeypatch.setitem(registry.STUDIES, "door", Door)
    monkeypatch.chdir(tmp_path)


def of(steps, **changes):
    return Door(Training(steps, 4, checkpoint=3), **changes)


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_training_in_python_gives_the_model_of_the_command(tmp_path, capsys):
    model = lawful.train(of(8), out="a")
    assert "8/8" in capsys.readouterr().err
    assert main(["train", "door", "--out", "b", "--training.steps", "8", "--training.batch", "4",
                 "--training.checkpoint", "3"]) == 0  # fmt: skip
    assert equal(model.network, lawful.load("b").network)
    assert model.folder == tmp_path / "a" or str(model.folder) == "a"
    capsys.readouterr()
    lawful.train(of(8), out="c", quiet=True)
    assert capsys.readouterr().err == ""
    with pytest.raises(InputError, match="resume"):
        lawful.train(of(8), out="a")
    assert equal(lawful.train(of(8), out="a", resume=True).network, model.network)


@pytest.mark.parametrize("first", [3, 4, 7])
def test_a_finished_run_goes_on_as_if_it_had_been_that_long(first):
    whole = lawful.train(of(12), "whole", quiet=True)
    lawful.train(of(first), "parts", quiet=True)
    parts = lawful.train(of(12), "parts", resume=True, quiet=True)
    assert equal(whole.network, parts.network)
    assert parts.manifest["steps"] == 12
    assert parts.manifest["config"] == whole.manifest["config"]
    assert [row["step"] for row in history(parts.folder)][-1] == 12


def test_an_extension_that_is_interrupted_goes_on_and_the_old_model_stays():
    short = lawful.train(of(4), "run", quiet=True)
    whole = lawful.train(of(12), "whole", quiet=True)
    for progress in train(of(12), short.folder, Fabric(accelerator="cpu"), resume=True):
        if progress.step == 8:
            break
    assert checkpoints(short.folder)[-1].stem == "00000006"
    assert equal(lawful.load("run").network, short.network)
    assert equal(lawful.train(of(12), "run", resume=True, quiet=True).network, whole.network)


def test_where_the_rates_were_others_is_said():
    lawful.train(of(4, constant=False), "run", quiet=True)
    with pytest.warns(LawfulWarning, match="first 4 steps had the learning rates of a run of 4"):
        lawful.train(of(8, constant=False), "run", resume=True, quiet=True)


def test_fewer_steps_or_no_checkpoint_to_go_on_from_are_refused():
    model = lawful.train(of(6), "run", quiet=True)
    with pytest.raises(InputError, match=r"training\..*: the run's is"):
        lawful.train(of(5), "run", resume=True)
    for path in checkpoints(model.folder):
        path.unlink()
    with pytest.raises(InputError, match="no checkpoint"):
        lawful.train(of(9), "run", resume=True)
    assert equal(lawful.train(of(6), "run", resume=True).network, model.network)


def test_a_run_starts_from_anothers_weights():
    first = lawful.train(of(6), "first", quiet=True)
    run = train(of(2), first.folder.with_name("second"), Fabric(accelerator="cpu"), init="first")
    next(run)
    run.close()
    with pytest.raises(InputError, match="was begun with"):  # no checkpoint holds them yet
        lawful.train(of(2), "second", resume=True)
    second = lawful.train(of(2), "second", init="first", resume=True, quiet=True)
    adam_step = 0.01 * 2
    for a, b in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert 0 < (a - b).abs().max() <= adam_step + 1e-6
    recorded = json.loads((second.folder / "manifest.json").read_text())["init"]
    assert recorded == {"run": "first", "sha256": first.manifest["weights_sha256"]}
    assert equal(lawful.train(of(2), "second", resume=True, quiet=True).network, second.network)


def test_init_from_nowhere_or_another_network_is_refused(capsys):
    lawful.train(of(2), "run", quiet=True)
    for init in ("nowhere", "burgers", "."):
        assert main(["train", "door", "--out", "new", "--init", init]) == 2
        said = capsys.readouterr().err
        assert f"init {init}" in said
        assert said.count("\n") == 1
    with pytest.raises(InputError, match="was begun with no --init"):
        lawful.train(replace(of(2)), "run", init="run", resume=True)


def test_a_finished_run_with_a_foreign_manifest_is_refused_by_its_name():
    model = lawful.train(of(4), "run", quiet=True)
    path = model.folder / "manifest.json"
    path.write_text('{"study": "door", "config": {"training": {"steps": "all"}}}')
    with pytest.raises(InputError, match="steps"):
        lawful.train(of(4), "run", resume=True, quiet=True)
