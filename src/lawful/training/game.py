r"""Games: an ordered tuple of moves over named players.

A move lets one or more players descend their own losses a number of times; a turn of the game is
one pass through its moves. Algorithm 1 of InvNet is `generator, critic, law`; training without
data is a move a law; extragradient is another rule on the same move.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil, inf

import torch
from lightning_fabric.wrappers import is_wrapped
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.laws import Condition
from lawful.training.conflicts import Combination
from lawful.training.optimizers import Adam, Optimizer
from lawful.training.rules import Rule, Simultaneous


@dataclass(frozen=True)
class Batch:
    """What is drawn for one repetition of a move: a condition and, where there is data, samples."""

    condition: Condition
    data: Tensor | None = None


Players = Mapping[str, nn.Module]
Terms = dict[str, Tensor]
Loss = Callable[[Players, Batch], Terms]
Draw = Callable[[torch.Generator], Batch]


@dataclass(frozen=True)
class Objective:
    """One player's part in a move: its loss terms by name and how it descends them.

    Arguments:
        combine: The direction made of the terms' gradients; None for that of their sum.
    """

    player: str
    loss: Loss
    optimizer: Optimizer = field(default_factory=Adam)
    combine: Combination | None = None


@dataclass(frozen=True)
class Move:
    """`times` repetitions of `rule` on the objectives of different players.

    Moves in sequence alternate; objectives within a move are simultaneous.

    Arguments:
        begin, end: Shares of the run between which the move is played, as by L-BFGS after Adam.
    """

    name: str
    objectives: tuple[Objective, ...]
    times: int = 1
    rule: Rule = field(default_factory=Simultaneous)
    begin: float = 0.0
    end: float = 1.0

    def plays(self, step: int, steps: int) -> bool:
        """Whether the move is played in step `step` of `steps`."""
        return self.begin * steps <= step < self.end * steps

    def plays_ever(self, steps: int) -> bool:
        """Whether the move is played in any of `steps` steps."""
        return self.plays(ceil(self.begin * steps), steps)

    def __post_init__(self) -> None:
        players = [objective.player for objective in self.objectives]
        if len(set(players)) < len(players) or not players or self.times < 1:
            raise InputError(
                f"move {self.name!r}: expected distinct players and times >= 1, "
                f"got {players} and times = {self.times}"
            )
        if not 0 <= self.begin < self.end <= 1:
            raise InputError(
                f"move {self.name!r}: expected 0 <= begin < end <= 1, got {self.begin:g} and "
                f"{self.end:g}"
            )
        searching = [o for o in self.objectives if o.optimizer.searches]
        alone = len(self.objectives) == 1 and type(self.rule) is Simultaneous
        if searching and (not alone or searching[0].combine is not None):
            raise InputError(
                f"move {self.name!r}: {type(searching[0].optimizer).__name__} searches along a "
                "line; it plays alone, simultaneously, without a combination of gradients"
            )
        if not self.rule.needs_graph:
            return
        for objective in self.objectives:
            if objective.optimizer.clip is not None or objective.combine is not None:
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
    """

    moves: tuple[Move, ...]
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


def same(a: Batch, b: Batch) -> bool:
    """Whether two batches are equal to the bit; NaN equals NaN."""
    one, other = ({**batch.condition, "": batch.data} for batch in (a, b))
    return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def unwrapped(module: nn.Module) -> nn.Module:
    """A player without the wrappers of its device and its replicas."""
    inner = module.module if is_wrapped(module) else module
    return inner if isinstance(inner, nn.Module) else module
