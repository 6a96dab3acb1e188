r"""Games: an ordered tuple of moves over named players.

A move lets one or more players descend their own losses a number of times; a turn of the game is
one pass through its moves. Algorithm 1 of InvNet is `generator, critic, law`; training without
data is a move a law; extragradient is another rule on the same move.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import cos, pi
from typing import Literal

import torch
from torch import Tensor, nn

from lawful.condition import Condition
from lawful.errors import InputError
from lawful.laws.law import AffineLaw, CorrectableLaw, Law


@dataclass(frozen=True)
class Batch:
    """What is drawn for one repetition of a move: a condition and, where there is data, samples."""

    condition: Condition
    data: Tensor | None = None


Players = Mapping[str, nn.Module]
Loss = Callable[[Players, Batch], dict[str, Tensor]]
Draw = Callable[[torch.Generator], Batch]


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015) with a rate that is a function of the step alone.

    Arguments:
        learning_rate: Peak rate.
        schedule: Constant, or a cosine to zero at the last step, after the warm-up.
        warmup: Share of the run over which the rate rises linearly.
        clip: Largest norm of a player's gradient; None leaves it as it is.
    """

    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: float = 0.05
    clip: float | None = 1.0

    def build(self, player: nn.Module) -> torch.optim.Optimizer:
        """A torch optimizer over the player's parameters."""
        return torch.optim.Adam(player.parameters(), lr=self.learning_rate, betas=self.betas)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step `step` of `steps`."""
        done = step / max(steps, 1)
        rise = min(1.0, (step + 1) / max(1.0, self.warmup * steps))
        fall = (1 + cos(pi * min(done, 1.0))) / 2 if self.schedule == "cosine" else 1.0
        return self.learning_rate * rise * fall


@dataclass(frozen=True)
class Objective:
    """One player's part in a move: its loss terms by name, whose sum it descends, and how."""

    player: str
    loss: Loss
    optimizer: Adam = field(default_factory=Adam)


class Rule(ABC):
    """How a move turns gradients into steps."""

    @abstractmethod
    def step(
        self, gradients: Callable[[], None], optimizers: Sequence[torch.optim.Optimizer]
    ) -> None:
        """Take one step.

        Arguments:
            gradients: Computes every objective's gradient at the players' present parameters, on
                the same batch at each call (latent noise is part of the batch's condition).
            optimizers: One an objective.
        """


@dataclass(frozen=True)
class Descent(Rule):
    """All gradients first, then every player moves: simultaneous within a move."""

    def step(
        self, gradients: Callable[[], None], optimizers: Sequence[torch.optim.Optimizer]
    ) -> None:
        gradients()
        for optimizer in optimizers:
            optimizer.step()


@dataclass(frozen=True)
class Move:
    """`times` repetitions of `rule` on the objectives of different players.

    Moves in sequence alternate; objectives within a move are simultaneous.
    """

    name: str
    objectives: tuple[Objective, ...]
    times: int = 1
    rule: Rule = field(default_factory=Descent)

    def __post_init__(self) -> None:
        players = [objective.player for objective in self.objectives]
        if len(set(players)) < len(players) or not players or self.times < 1:
            raise InputError(
                f"move {self.name!r}: expected distinct players and times >= 1, "
                f"got {players} and times = {self.times}"
            )


@dataclass(frozen=True)
class Game:
    """Moves in order, and the source of their batches."""

    moves: tuple[Move, ...]
    draw: Draw

    def __post_init__(self) -> None:
        names = [move.name for move in self.moves]
        if len(set(names)) < len(names) or not names:
            raise InputError(f"game: expected moves with distinct names, got {names}")


def law_loss(law: Law, player: str = "generator", weight: float = 1.0) -> Loss:
    """The law's mean square residual on the player's output (InvNet, eq. 2)."""

    def loss(players: Players, batch: Batch) -> dict[str, Tensor]:
        x = players[player](batch.condition)
        return {law.name: weight * law.loss(x, batch.condition)}

    return loss


def correction_loss(law: CorrectableLaw, player: str = "generator", weight: float = 1.0) -> Loss:
    """Distance of the player's output from its correction by the law."""

    def loss(players: Players, batch: Batch) -> dict[str, Tensor]:
        x = players[player](batch.condition)
        return {f"{law.name} correction": weight * law.correction_loss(x, batch.condition)}

    return loss


class Enforced(nn.Module):
    """A generator followed by the exact enforcement of affine laws, in order."""

    def __init__(self, generator: nn.Module, laws: Sequence[AffineLaw]) -> None:
        super().__init__()
        self.generator = generator
        self.laws = tuple(laws)

    def forward(self, condition: Condition) -> Tensor:
        x: Tensor = self.generator(condition)
        for law in self.laws:
            x = law.enforce(x, condition)
        return x
