"""The linear InvNet game on samples: the trainer's own moves, rules and losses on two vectors.

Data are drawn from N(v, I), the generator is z + θ, the critic ⟨ψ, x⟩ (InvNet, eq. 9). With n data
the mean is known to √(k / n) in k coordinates, the sampling error; nothing that sees the data alone
comes closer to v than their mean does.

Every batch adds noise of its own. A rotation is damped by η² a step and shaken by η times the
noise, so the last iterate keeps trembling by the error of a *batch*, however small η: the average
of the iterates is what converges.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from lawful.condition import Condition
from lawful.divergences import Wasserstein
from lawful.games.algorithm import Lawful, adversarial_moves
from lawful.games.fit import fit
from lawful.games.game import Batch, Game
from lawful.games.losses import everything
from lawful.games.optimizers import SGD
from lawful.games.rules import RULES
from lawful.games.state import State
from lawful.laws.motif import MotifLaw

DIMENSION, MOTIF, DATA, BATCH = 16, 4, 1_000, 100
STEPS, DECAY = 2_500, 0.997


class Shift(nn.Module):
    """G(z) = z + θ."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(size))

    def forward(self, condition: Condition) -> Float[Tensor, "batch 1 d"]:
        return condition["noise"] + self.theta


class Inner(nn.Module):
    """D(x) = ⟨ψ, x⟩."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.zeros(size))

    def forward(self, x: Float[Tensor, "batch 1 d"], condition: Condition) -> Float[Tensor, " b"]:
        return x[:, 0] @ self.psi


@dataclass(frozen=True)
class Played:
    """Where a sampled game has gone; θ is the average of the iterates unless said otherwise.

    Arguments:
        off: ‖(I - P)(θ - v)‖ after every tenth step.
        on: ‖P(θ - m)‖ likewise.
        to_v: ‖θ - v‖ at the end.
        to_data: ‖(I - P)(θ - mean of the data)‖ at the end; `last_to_data`, of the last iterate.
        data_error: ‖(I - P)(mean of the data - v)‖.
        off_error, on_error: Sampling errors of n data, off and on the motif.
    """

    rule: str
    critic: str
    off: tuple[float, ...]
    on: tuple[float, ...]
    to_v: float
    to_data: float
    last_to_data: float
    data_error: float
    off_error: float = sqrt((DIMENSION - MOTIF) / DATA)
    on_error: float = sqrt(MOTIF / DATA)


def play(
    rule: str, critic: Literal["standard", "projected"], *, steps: int = STEPS, seed: int = 0
) -> Played:
    """Play the sampled game at d = 16, |Omega| = 4, Pv ≠ m, with μ = 1 and η = 0.2.

    Arguments:
        rule: One of `lawful.games.rules.RULES`, for generator and critic together.
    """
    random = torch.Generator().manual_seed(seed)
    mean = torch.randn(DIMENSION, generator=random)
    mask = torch.arange(DIMENSION) < MOTIF
    law = MotifLaw(mask, 2 * torch.randn(DIMENSION, generator=random))
    data = mean + torch.randn(DATA, 1, DIMENSION, generator=random)

    def draw(generator: torch.Generator) -> Batch:
        rows = torch.randint(DATA, (BATCH,), generator=generator)
        noise = torch.randn(BATCH, 1, DIMENSION, generator=generator)
        return Batch({"noise": noise}, data[rows])

    rate = SGD(0.2)
    weight = MOTIF / 2  # the law's loss is a mean over the motif, the game's term half a sum
    moves = adversarial_moves(
        Wasserstein(),
        Lawful((law,), "penalty", weight),
        see=law.hide if critic == "projected" else everything,
        generator=rate,
        critic=rate,
        rule=RULES[rule],
    )
    game = Game(moves, draw)
    fabric = Fabric(accelerator="cpu", devices=1)
    players = {"generator": Shift(DIMENSION), "critic": Inner(DIMENSION)}
    average = {"generator": DECAY}
    state = State.create(players, game, fabric, seed=seed, average=average)
    last = next(state.players["generator"].parameters())
    theta = next(state.averages["generator"].parameters())
    off, on = [], []
    for entry in fit(game, state, fabric, steps):
        if entry.step % 10 == 0:
            off.append(float((theta.detach() - mean)[~mask].norm()))
            on.append(float((theta.detach() - law.motif)[mask].norm()))
    found = data.mean((0, 1))
    return Played(
        rule,
        critic,
        tuple(off),
        tuple(on),
        to_v=float((theta.detach() - mean).norm()),
        to_data=float((theta.detach() - found)[~mask].norm()),
        last_to_data=float((last.detach() - found)[~mask].norm()),
        data_error=float((found - mean)[~mask].norm()),
    )
