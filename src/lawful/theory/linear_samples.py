"""The linear InvNet game on samples: the trainer's own moves, rules and losses on two vectors.

Data are drawn from N(v, I), the generator is z + θ, the critic ⟨ψ, x⟩ (InvNet, eq. 9). n samples
tell the mean to √(k / n) in k coordinates, the sampling error. Batches are drawn afresh, or from n
data once drawn: nothing that sees those alone comes closer to v than their mean v̂ does.

Every batch adds noise of its own. A rotation is damped by η² per step and shaken by η times the
noise, so the last iterate keeps trembling by the error of a *batch*, however small η: the average
of the iterates is what converges.
"""

from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from lawful.data.masks import MotifLaw
from lawful.divergences import Wasserstein
from lawful.errors import InputError
from lawful.laws import Condition
from lawful.theory.linear_game import Critic
from lawful.training import RULES, SGD, Batch, Constraints, Game, State, adversarial_moves, fit

DIMENSION, MOTIF, DATA, BATCH = 16, 4, 1_000, 100
STEPS, DECAY, RATE = 2_000, 0.997, SGD(0.2)
MASK = torch.arange(DIMENSION) < MOTIF


class Shift(nn.Module):
    """G(z) = z + θ."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(DIMENSION))

    def forward(self, condition: Condition) -> Float[Tensor, "batch 1 d"]:
        return condition["noise"] + self.theta


class Inner(nn.Module):
    """D(x) = ⟨ψ, x⟩."""

    def __init__(self) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.zeros(DIMENSION))

    def forward(self, x: Float[Tensor, "batch 1 d"], condition: Condition) -> Float[Tensor, " b"]:
        return x[:, 0] @ self.psi


@dataclass(frozen=True)
class Played:
    """Where a sampled game has gone; θ is the average of the iterates unless said otherwise.

    Arguments:
        data: Number of data; None where every batch was fresh.
        off: ‖(I - P)(θ - v)‖ after every tenth step.
        on: ‖P(θ - m)‖ likewise.
        to_v: ‖θ - v‖ at the end.
        to_data: ‖(I - P)(θ - v̂)‖ at the end; v̂ is v where batches were fresh.
        last: ‖(I - P)(θ - v)‖ of the last iterate.
        data_error: ‖(I - P)(v̂ - v)‖.
    """

    rule: str
    critic: str
    data: int | None
    off: tuple[float, ...]
    on: tuple[float, ...]
    to_v: float
    to_data: float
    last: float
    data_error: float


def sampling_errors(count: int) -> tuple[float, float]:
    """What `count` samples leave unknown of the mean, on the motif and off it."""
    return sqrt(MOTIF / count), sqrt((DIMENSION - MOTIF) / count)


def play(
    rule: str, critic: Critic, *, data: int | None = None, steps: int = STEPS, seed: int = 0
) -> Played:
    """Play the sampled game at d = 16, |Omega| = 4, Pv ≠ m, with μ = 1 and η = 0.2.

    Arguments:
        rule: One of `lawful.training.RULES`, for generator and critic together.
        data: Number of data that batches are drawn from; None for fresh ones.

    Raises:
        InputError: There is no such rule or critic.
    """
    if rule not in RULES or critic not in ("standard", "projected"):
        raise InputError(f"linear game: no rule {rule!r} with critic {critic!r}")
    random = torch.Generator().manual_seed(10_000 + seed)
    mean = torch.randn(DIMENSION, generator=random)
    law = MotifLaw(MASK, 2 * torch.randn(DIMENSION, generator=random))
    kept = None if data is None else mean + torch.randn(data, 1, DIMENSION, generator=random)

    def draw(generator: torch.Generator) -> Batch:
        noise = torch.randn(BATCH, 1, DIMENSION, generator=generator)
        if kept is None:
            fresh = mean + torch.randn(BATCH, 1, DIMENSION, generator=generator)
            return Batch({"noise": noise}, fresh)
        rows = torch.randint(len(kept), (BATCH,), generator=generator)
        return Batch({"noise": noise}, kept[rows])

    # The law's loss is a mean over the motif, the game's term half a sum.
    moves = adversarial_moves(
        Wasserstein(), Constraints((law,), weight=MOTIF / 2), generator=RATE, critic=RATE,
        view=law.hide if critic == "projected" else None, rule=RULES[rule],
    )  # fmt: skip
    game, fabric = Game(moves, draw), Fabric(accelerator="cpu", devices=1)
    players = {"generator": Shift(), "critic": Inner()}
    state = State.create(players, game, fabric, seed=seed, average={"generator": DECAY})
    theta, last = (
        next(module["generator"].parameters()).detach()
        for module in (state.averages, state.players)
    )
    off, on = [], []
    for entry in fit(game, state, fabric, steps):
        if entry.step % 10 == 0:
            off.append(float((theta - mean)[~MASK].norm()))
            on.append(float((theta - law.motif)[MASK].norm()))
    known = mean if kept is None else kept.mean((0, 1))
    return Played(
        rule, critic, data, tuple(off), tuple(on),
        to_v=float((theta - mean).norm()),
        to_data=float((theta - known)[~MASK].norm()),
        last=float((last - mean)[~MASK].norm()),
        data_error=float((known - mean)[~MASK].norm()),
    )  # fmt: skip
