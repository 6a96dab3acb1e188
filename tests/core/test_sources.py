"""Sources of batches that keep state of their own: saved, or said."""

import warnings
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import lawful
from lawful import InputError, LawfulWarning, Quantity, Study, Training, registry
from lawful.run import train
from lawful.training import SGD, Batch, Game, Move

DATA = torch.arange(12.0)


class Loader:
    """Batches of an epoch in an order of its own; says where it is."""

    def __init__(self):
        self.seed, self.place = 0, 0

    def order(self):
        generator = torch.Generator().manual_seed(self.seed)
        return DATA[torch.randperm(len(DATA), generator=generator)]

    def __call__(self, generator):
        rows = self.order()[self.place : self.place + 4]
        self.place += 4
        if self.place == len(DATA):
            self.seed, self.place = self.seed + 1, 0
        return Batch({"mean": rows})

    def state_dict(self):
        return {"seed": self.seed, "place": self.place, "data": (torch.tensor(self.place), None)}

    def load_state_dict(self, state):
        assert isinstance(state["data"], tuple)
        self.seed, self.place = state["seed"], int(state["data"][0])


class Broken(Loader):
    """Says where it is, and does not go back there."""

    def load_state_dict(self, state):
        pass


class Foreign(Loader):
    def state_dict(self):
        return {"rows": np.zeros(3)}


def kept_loader():
    """A data loader in a closure: torch's own, whose iterator nobody saves."""
    loader = DataLoader(TensorDataset(DATA), batch_size=4, shuffle=True)
    batches = iter([])

    def draw(generator):
        nonlocal batches
        found = list(islice(batches, 1))
        if not found:
            batches = iter(loader)
            found = [next(batches)]
        return Batch({"mean": found[0][0]})

    return draw


def global_numbers():
    """Random numbers of torch and NumPy, which are saved."""
    return lambda rng: Batch({"mean": torch.rand(4) + torch.from_numpy(np.random.rand(4)).float()})


SOURCES = {"loader": Loader, "broken": Broken, "foreign": Foreign, "closure": kept_loader,
           "global": global_numbers}  # fmt: skip


def off(players, batch):
    x = players["generator"](batch.condition)
    return {"mean": (x.mean((1, 2, 3)) - batch.condition["mean"]).square().mean()}


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 4)

    def forward(self, condition):
        return self.linear(condition["mean"][:, None]).reshape(-1, 1, 2, 2)


@dataclass(frozen=True)
class Fed(Study):
    training: Training = field(default_factory=lambda: Training(8, 4, checkpoint=1))
    feed: str = "loader"
    name = "fed"
    about = "fields of means from a source of its own"
    quantities = (Quantity("mean", 0.0, 12.0),)

    def laws(self):
        return ()

    def network(self):
        return Scaled()

    def game(self):
        return Game((Move("generator", off, SGD(1e-3)),), SOURCES[self.feed]())


@pytest.fixture(autouse=True)
def shipped_study(monkeypatch):
    monkeypatch.setitem(registry.STUDIES, "fed", Fed)


def interrupted(study, folder, at):
    np.random.seed(0)
    for progress in train(study, folder, Fabric(accelerator="cpu")):
        if progress.step == at:
            break
    return lawful.train(study, folder, resume=True, quiet=True)


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("feed", ["loader", "global"])
def test_a_source_that_says_where_it_is_resumes_to_the_bit(tmp_path, feed):
    study = Fed(feed=feed)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LawfulWarning)
        np.random.seed(0)
        whole = lawful.train(study, tmp_path / "whole", quiet=True)
        for at in (2, 5):
            parts = interrupted(study, tmp_path / str(at), at)
            assert equal(whole.network, parts.network)


@pytest.mark.parametrize("feed", ["closure", "broken"])
def test_a_source_that_does_not_is_said_when_it_begins_and_when_it_goes_on(tmp_path, feed):
    with pytest.warns(LawfulWarning, match="state_dict") as said:
        interrupted(Fed(feed=feed), tmp_path / "run", 3)
    assert len(said) == 2


def test_a_source_whose_state_cannot_be_saved_is_refused(tmp_path):
    with pytest.raises(InputError, match="source/rows: a ndarray cannot be saved"):
        lawful.train(Fed(feed="foreign"), tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
