"""A small game for tests: two players, three moves with optimizers of their own."""

import torch
from lightning_fabric import Fabric
from torch import nn

from lawful.data.masks import MotifLaw
from lawful.divergences import R1, TwoSided, Wasserstein
from lawful.training import (
    RULES,
    Adam,
    Batch,
    Constraints,
    Game,
    Move,
    Multipliers,
    State,
    adversarial_moves,
)


class Player(nn.Module):
    """A linear map with dropout, so that every source of randomness matters."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.dropout = nn.Dropout(0.3)

    def forward(self, x):
        return self.dropout(self.linear(x))


def draw(generator):
    return Batch({"x": torch.randn(4, 3, generator=generator)})


def fool(players, batch):
    return {"fool": -players["critic"](batch.condition["x"]).mean()
            + players["generator"](batch.condition["x"]).square().mean()}  # fmt: skip


def judge(players, batch):
    return {"judge": (players["critic"](batch.condition["x"]) - 1).square().mean()}


def obey(players, batch):
    x = players["generator"](batch.condition["x"])
    return {"sum": x.sum(-1).square().mean(), "size": x.square().mean()}


def game():
    return Game(
        (
            Move("generator", fool, Adam(1e-2)),
            Move("critic", judge, Adam(2e-2, clip=None), times=2),
            Move("generator", obey, Adam(5e-3, schedule="constant"), times=3, name="law"),
        ),
        draw,
    )


def fabric():
    return Fabric(accelerator="cpu", devices=1)


def state(device, seed=0):
    torch.manual_seed(seed)
    players = {"generator": Player(), "critic": Player()}
    return State.create(players, game(), device, seed=seed, average={"generator": 0.9})


def weights(a):
    tensors = {f"{n}/{k}": v for n, p in a.players.items() for k, v in p.state_dict().items()}
    averages = a.averages["generator"].state_dict()
    return tensors | {f"average/{k}": v for k, v in averages.items()}


class Shift(nn.Module):
    """Adds a vector to the noise; no dropout, since the rules repeat a step's random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, condition):
        return self.linear(condition["x"])[:, None]


class Judge(nn.Module):
    """A critic with a bend, so that penalties have something to hold."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, x, condition):
        return self.layers(x[:, 0])[:, 0]


LAW = MotifLaw(torch.tensor([True, False, False]), torch.tensor([0.5, 0.0, 0.0]))


def data(generator):
    x = torch.randn(4, 3, generator=generator)
    return Batch({"x": x}, 2 + torch.randn(4, 1, 3, generator=generator))


def duel(by="lagrangian", rule="extragradient"):
    """An adversarial game under a law: penalties, multipliers, a rule with two half-steps."""
    moves = adversarial_moves(
        Wasserstein((TwoSided(), R1(0.5))), Constraints((LAW,), by, 0.3), view=LAW.hide,
        generator=Adam(1e-2), critic=Adam(1e-2), rule=RULES[rule],
    )  # fmt: skip
    return Game(moves, data)


def duellists(device, **options):
    torch.manual_seed(0)
    players = {"generator": Shift(), "critic": Judge()}
    if options.get("by") != "config":
        players["multipliers"] = Multipliers({"motif": (1, 1)})
    return State.create(players, duel(**options), device, average={"generator": 0.9})
