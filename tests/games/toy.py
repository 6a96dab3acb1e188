"""A small game for tests: two players, three moves with optimizers of their own."""

import torch
from lightning_fabric import Fabric
from torch import nn

from lawful.games.game import Batch, Game, Move, Objective
from lawful.games.optimizers import Adam
from lawful.games.state import State


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
            Move("generator", (Objective("generator", fool, Adam(1e-2)),)),
            Move("critic", (Objective("critic", judge, Adam(2e-2, clip=None)),), times=2),
            Move("law", (Objective("generator", obey, Adam(5e-3, schedule="constant")),), times=3),
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
