r"""Games: an ordered tuple of moves over named players.

A move lets one player descend its own loss a number of times; a step of the game is one pass
through its moves. Moves in sequence alternate; joint moves step together by a rule, on one batch.
Algorithm 1 of InvNet is the moves of generator, critic and law; training without data is a move
for each law; extragradient is a rule that joins the same two moves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil, inf
from typing import ClassVar

import torch
from lightning_fabric.wrappers import is_wrapped
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.laws import Condition
from lawful.training.optimizers import LBFGS, Adam, Optimizer
from lawful.training.rules import Rule, Simultaneous


@dataclass(frozen=True)
class Batch:
    """What is drawn for one repetition of a move: a condition and, where there is data, samples."""

    condition: Condition
    data: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """The same on a device."""
        condition = {name: value.to(device) for name, value in self.condition.items()}
        return Batch(condition, None if self.data is None else self.data.to(device))


Players = Mapping[str, nn.Module]
Terms = dict[str, Tensor]
Loss = Callable[[Players, Batch], Terms]
Draw = Callable[[torch.Generator], Batch]
Combine = Callable[[Tensor], Tensor]  # one direction from gradients, a row per loss term


@dataclass(frozen=True)
class Move:
    """A player descends a loss, `times` per step of the game, each time on a batch of its own.

    Arguments:
        player: The name of the network whose parameters move.
        loss: Called with players and batch; returns scalar terms by name, whose sum is descended.
        times: Updates per step of the game.
        name: What the move is called in logs; the player's name where not given.
        begin, end: Fractions of the run between which the move is played.
        combine: Makes the descent direction from the terms' gradients, one per row, in place of
            their sum; `rules.config_direction` is one.

    Raises:
        InputError: A number is out of range, or L-BFGS is to combine gradients.
    """

    player: str
    loss: Loss
    optimizer: Optimizer = field(default_factory=Adam)
    times: int = 1
    name: str = ""
    begin: float = 0.0
    end: float = 1.0
    combine: Combine | None = None

    rule: ClassVar[Rule] = Simultaneous()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.player)
        if self.times < 1 or not 0 <= self.begin < self.end <= 1:
            raise InputError(
                f"move {self.name!r}: expected times >= 1 and 0 <= begin < end <= 1, got "
                f"{self.times}, {self.begin:g} and {self.end:g}"
            )
        if isinstance(self.optimizer, LBFGS) and self.combine is not None:
            raise InputError(f"move {self.name!r}: L-BFGS does not combine gradients")

    @property
    def parts(self) -> tuple["Move", ...]:
        """The moves of the single players."""
        return (self,)

    def plays(self, step: int, steps: int) -> bool:
        """Whether the move is played in step `step` of `steps`."""
        return self.begin * steps <= step < self.end * steps

    def plays_ever(self, steps: int) -> bool:
        """Whether the move is played in any of `steps` steps."""
        return self.plays(ceil(self.begin * steps), steps)


@dataclass(frozen=True)
class Joint:
    """Moves of different players that step together by a rule, every time on one batch.

    Raises:
        InputError: A player moves twice, the moves are not played equally often, or the rule cannot
            step with their optimizers.
    """

    parts: tuple[Move, ...]
    rule: Rule
    name: str = "players"

    def __post_init__(self) -> None:
        players = [part.player for part in self.parts]
        if len(set(players)) < len(players) or not players:
            raise InputError(f"move {self.name!r}: expected distinct players, got {players}")
        if len({(part.times, part.begin, part.end) for part in self.parts}) > 1:
            raise InputError(
                f"move {self.name!r}: a joint rule moves {' and '.join(players)} as often; got "
                + " and ".join(str(part.times) for part in self.parts)
                + " steps, in the fractions "
                + " and ".join(f"[{part.begin:g}, {part.end:g}]" for part in self.parts)
            )
        if any(isinstance(part.optimizer, LBFGS) for part in self.parts):
            raise InputError(f"move {self.name!r}: L-BFGS searches along a line; it plays alone")
        clipped = any(part.optimizer.clip is not None or part.combine for part in self.parts)
        if self.rule.needs_graph and clipped:
            raise InputError(
                f"move {self.name!r}: {type(self.rule).__name__} differentiates gradients; "
                "they cannot be clipped or combined: set clip and combine to None"
            )


@dataclass(frozen=True)
class Game:
    """Moves in order, and the source of their batches.

    Arguments:
        draw: Makes a batch from a random generator. One that keeps state of its own has
            `state_dict` and `load_state_dict`, so that checkpoints carry it.
        until: The game ends before its budget once every one of these loss terms, named
            `move/term`, is below its threshold.

    Raises:
        InputError: Two moves share a name, there is none, or `until` names another.
    """

    moves: tuple[Move | Joint, ...]
    draw: Draw
    until: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [move.name for move in self.moves]
        if len(set(names)) < len(names) or not names:
            raise InputError(f"game: expected moves with distinct names, got {names}")
        for entry in self.until:
            if entry.partition("/")[0] not in names:
                raise InputError(f"game: until {entry!r}; expected move/term, moves are {names}")

    def over(self, values: Mapping[str, float]) -> bool:
        """Whether every threshold is passed by the loss terms of a turn."""
        return bool(self.until) and all(
            values.get(name, inf) < threshold for name, threshold in self.until.items()
        )


def unwrapped(module: nn.Module) -> nn.Module:
    """A player without the wrappers of its device and its replicas."""
    inner = module.module if is_wrapped(module) else module
    return inner if isinstance(inner, nn.Module) else module
