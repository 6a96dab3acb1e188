r"""Games: an ordered tuple of moves over named players, each with an optimizer.

A move lets one player descend its own loss a number of times; a step of the game is one pass
through its moves. Moves in sequence alternate; joint moves step together by a rule, on one batch.
Algorithm 1 of InvNet is the moves of generator, critic and law; training without data is a move
for each law; extragradient is a rule that joins the same two moves.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import ceil, cos, inf, pi
from typing import Annotated, Literal

import torch
from lightning_fabric.wrappers import is_wrapped
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.laws import Condition
from lawful.training.rules import RULES, Rule, line_search
from lawful.typed import Positive, Within, check_fields


@dataclass(frozen=True)
class Optimizer:
    """A method with a rate that is a function of the step alone.

    `Adam`, `RMSProp`, `SGD` and `LBFGS` are this with a method and its defaults.

    Arguments:
        learning_rate: Peak rate.
        schedule: Constant, or a cosine to zero at the last step, after the warm-up.
        warmup: Fraction of the run over which the rate rises linearly.
        clip: Largest norm of a player's gradient; None leaves it as it is.
        method: `adam` (Kingma & Ba 2015); `rmsprop`, gradients over the root of a running mean of
            their squares that starts at zero and decays by 0.9 (Hinton 2012, lecture 6e); `sgd`,
            plain gradient steps; `lbfgs`, limited-memory BFGS with a strong-Wolfe line search
            (Liu & Nocedal 1989; Nocedal & Wright 2006, algorithms 7.5 and 3.5).
        betas: Decays of Adam's two means.
        iterations: Largest number of iterations of L-BFGS per step of the move. They are on one
            batch, a deterministic function: every evaluation sees the same random numbers.
        keep: Keep the last ten pairs of steps and gradient differences of L-BFGS from one step of
            the move to the next, for a game whose batch is the same every time; pairs of another
            batch would spoil the curvature.

    Raises:
        InputError: A number is out of range, or the gradients of L-BFGS are to be clipped.
    """

    learning_rate: Positive = 1e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: Annotated[float, Within(0, 1)] = 0.05
    clip: Annotated[float, Within(0, 1e30, above=True)] | None = 1.0
    method: Literal["adam", "rmsprop", "sgd", "lbfgs"] = "adam"
    betas: tuple[float, float] = (0.9, 0.99)
    iterations: Annotated[int, Within(1, 1_000_000)] = 20
    keep: bool = False

    def __post_init__(self) -> None:
        check_fields(self, f"{self.method}: ")
        if self.method == "lbfgs" and self.clip is not None:
            raise InputError(f"lbfgs: expected no clip, got {self.clip:g}")

    def build(self, player: nn.Module) -> torch.optim.Optimizer:
        """A torch optimizer over the player's parameters."""
        parameters, rate = player.parameters(), self.learning_rate
        if self.method == "adam":
            return torch.optim.Adam(parameters, lr=rate, betas=self.betas)
        if self.method == "rmsprop":
            return torch.optim.RMSprop(parameters, lr=rate, alpha=0.9)
        if self.method == "sgd":
            return torch.optim.SGD(parameters, lr=rate)
        return torch.optim.LBFGS(
            parameters, lr=rate, max_iter=self.iterations, history_size=10,
            line_search_fn="strong_wolfe", tolerance_grad=1e-12, tolerance_change=1e-14,
        )  # fmt: skip

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step `step` of `steps`."""
        done = step / max(steps, 1)
        rise = min(1.0, (step + 1) / max(1.0, self.warmup * steps))
        fall = (1 + cos(pi * min(done, 1.0))) / 2 if self.schedule == "cosine" else 1.0
        return self.learning_rate * rise * fall


PLAIN = partial(Optimizer, schedule="constant", warmup=0.0, clip=None)
Adam = partial(Optimizer, method="adam")
RMSProp = partial(Optimizer, method="rmsprop")
SGD = partial(PLAIN, method="sgd")
LBFGS = partial(PLAIN, learning_rate=1.0, method="lbfgs")


@dataclass(frozen=True)
class Batch:
    """What is drawn for one repetition of a move: a condition and, where there is data, samples."""

    condition: Condition
    data: Tensor | None = None


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.player)
        if self.times < 1 or not 0 <= self.begin < self.end <= 1:
            raise InputError(
                f"move {self.name!r}: expected times >= 1 and 0 <= begin < end <= 1, got "
                f"{self.times}, {self.begin:g} and {self.end:g}"
            )
        if self.optimizer.method == "lbfgs" and self.combine is not None:
            raise InputError(f"move {self.name!r}: L-BFGS does not combine gradients")

    @property
    def rule(self) -> Rule:
        """How it steps, alone."""
        searching = self.optimizer.method == "lbfgs"
        return line_search(keep=self.optimizer.keep) if searching else RULES["simultaneous"]

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
            paces = [f"{p.times} in [{p.begin:g}, {p.end:g}]" for p in self.parts]
            raise InputError(
                f"move {self.name!r}: a joint rule moves {' and '.join(players)} as often; got "
                f"{' and '.join(paces)}"
            )
        if any(part.optimizer.method == "lbfgs" for part in self.parts):
            raise InputError(f"move {self.name!r}: L-BFGS searches along a line; it plays alone")
        clipped = any(part.optimizer.clip is not None or part.combine for part in self.parts)
        if self.rule.needs_graph and clipped:
            raise InputError(
                f"move {self.name!r}: {self.rule} differentiates gradients; they cannot be clipped "
                "or combined: set clip and combine to None"
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
        """Whether every threshold is passed by the loss terms of a step."""
        passed = [values.get(name, inf) < threshold for name, threshold in self.until.items()]
        return bool(passed) and all(passed)


def unwrapped(module: nn.Module) -> nn.Module:
    """A player without the wrappers of its device and its replicas."""
    inner = module.module if is_wrapped(module) else module
    return inner if isinstance(inner, nn.Module) else module
