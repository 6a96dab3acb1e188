"""Whatever a network holds comes back from its files, or is refused before the first step."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn.utils import parametrizations

from lawful import InputError, Quantity, Study, Training, load, registry
from lawful.model import Model
from lawful.run import checkpoints, train

SIDE = 4


class Base(nn.Module):
    """Linear maps of the condition; what is special comes on top."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(1, SIDE), nn.Linear(SIDE, SIDE)

    def forward(self, condition):
        x = self.last(torch.tanh(self.first(condition["mean"][:, None])))
        return x[:, None, None, :].expand(-1, 1, SIDE, -1)


class Tied(Base):
    def __init__(self):
        super().__init__()
        self.other = nn.Linear(SIDE, SIDE)
        self.other.weight = self.last.weight

    def forward(self, condition):
        return super().forward(condition) + self.other(torch.ones(SIDE))


class Twice(Base):
    def __init__(self):
        super().__init__()
        self.again = self.last


class View(Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.arange(12.0).reshape(3, 4))
        self.register_buffer("same", self.table)
        self.register_buffer("part", self.table[1:].T)


class Expanded(Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("row", torch.ones(1, 1).expand(SIDE, SIDE))
        self.register_buffer("alias", self.row)


class Turned(Base):
    def __init__(self):
        super().__init__()
        self.last.weight = nn.Parameter(torch.randn(SIDE, SIDE).T)


class Kinds(Base):
    def __init__(self):
        super().__init__()
        for kind in (torch.complex64, torch.complex128, torch.bfloat16, torch.int64, torch.bool):
            self.register_buffer(f"of_{str(kind)[6:]}", torch.ones(3).to(kind))
        self.register_buffer("conjugate", torch.tensor([1 + 2j]).conj())
        self.register_buffer("empty", torch.ones(0, 3))
        self.count = nn.Parameter(torch.arange(3), requires_grad=False)


class Fixed(Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("weights", torch.linspace(0, 1, SIDE), persistent=False)

    def forward(self, condition):
        return super().forward(condition) * self.weights


class Extra(Base):
    def __init__(self):
        super().__init__()
        self.extra = {"seen": (1, 2.5), "scale": torch.ones(2), "name": "x"}

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        assert isinstance(state["seen"], tuple)
        self.extra = state


class Spectral(Base):
    def __init__(self):
        super().__init__()
        self.last = parametrizations.spectral_norm(self.last)
        self.first = parametrizations.weight_norm(self.first)


class Random(Base):
    """Random numbers that no file holds."""

    def __init__(self):
        super().__init__()
        self.register_buffer("noise", torch.randn(SIDE), persistent=False)

    def forward(self, condition):
        return super().forward(condition) + self.noise


class Attribute(Random):
    def __init__(self):
        super().__init__()
        del self.noise
        self.noise = torch.randn(SIDE)


class Foreign(Extra):
    def get_extra_state(self):
        return {"table": np.zeros(3)}


class Sparse(Base):
    def __init__(self):
        super().__init__()
        self.register_buffer("holes", torch.eye(3).to_sparse())


class Lazy(Base):
    def __init__(self):
        super().__init__()
        self.last = nn.LazyLinear(SIDE)


class OverlappingParameter(Base):
    def __init__(self):
        super().__init__()
        self.first.bias = nn.Parameter(torch.zeros(1).expand(SIDE))


def mean(x, c):
    return x.mean((1, 2, 3)) - c["mean"]


@dataclass(frozen=True)
class Holding(Study):
    training: Training = field(default_factory=lambda: Training(4, 4, checkpoint=2))
    kind: str = "Base"
    name = "holding"
    about = "a network of the kind asked for"
    quantities = (Quantity("mean", 0.0, 1.0),)

    def laws(self):
        return (mean,)

    def network(self):
        return globals()[self.kind]()


@pytest.fixture(autouse=True)
def shipped_study(monkeypatch):
    monkeypatch.setitem(registry.STUDIES, "holding", Holding)


def fabric():
    return Fabric(accelerator="cpu", devices=1)


def weights_of(folder):
    return load(folder).network.state_dict()


@pytest.mark.parametrize(
    "kind",
    ["Base", "Tied", "Twice", "View", "Expanded", "Turned", "Kinds", "Fixed", "Extra", "Spectral"],
)
def test_what_a_network_holds_is_saved_resumed_and_loaded(tmp_path, kind):
    study = Holding(kind=kind)
    list(train(study, tmp_path / "whole", fabric()))
    for progress in train(study, tmp_path / "parts", fabric()):
        if progress.step == 3:
            break
    assert [path.stem for path in checkpoints(tmp_path / "parts")] == ["00000002"]
    list(train(study, tmp_path / "parts", fabric(), resume=True))
    whole, parts = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert whole.keys() == parts.keys() == study.network().state_dict().keys()
    for name, value in whole.items():
        if isinstance(value, torch.Tensor):
            assert value.dtype == study.network().state_dict()[name].dtype
            assert torch.equal(value, parts[name]), name
    fields = [load(tmp_path / name).sample(3).fields for name in ("whole", "parts")]
    assert torch.equal(*fields)


@pytest.mark.parametrize("kind", ["Tied", "Twice"])
def test_what_was_shared_is_shared_when_loaded(tmp_path, kind):
    list(train(Holding(kind=kind), tmp_path, fabric()))
    network = load(tmp_path).network
    other = network.other if kind == "Tied" else network.again
    assert other.weight is network.last.weight


REFUSED = {
    "Random": "persistent",
    "Attribute": "persistent",
    "Foreign": "a ndarray cannot be saved",
    "Sparse": "dense",
    "Lazy": "last.weight has no shape",
    "OverlappingParameter": "first.bias",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_saved_is_refused_before_anything_is_written(tmp_path, kind):
    with pytest.raises(InputError, match=REFUSED[kind]) as caught:
        next(train(Holding(kind=kind), tmp_path / "run", fabric()))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_rehearsal_does_not_touch_the_random_numbers(tmp_path, monkeypatch):
    fields = []
    for rehearsed in (True, False):
        if not rehearsed:
            monkeypatch.setattr("lawful.run._rehearse", lambda *_: None)
        list(train(Holding(), tmp_path / str(rehearsed), fabric()))
        model: Model = load(tmp_path / str(rehearsed))
        fields.append(model.sample(3).fields)
    assert torch.equal(*fields)
