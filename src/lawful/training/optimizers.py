"""Optimizers as configurations: what is built for each move, and its rate by step."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import cos, inf, pi
from typing import Any, Literal, get_args

import torch
from torch import nn

from lawful.errors import InputError

Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True)
class Optimizer(ABC):
    """A method with a rate that is a function of the step alone.

    Arguments:
        learning_rate: Peak rate.
        schedule: Constant, or a cosine to zero at the last step, after the warm-up.
        warmup: Fraction of the run over which the rate rises linearly.
        clip: Largest norm of a player's gradient; None leaves it as it is.
    """

    learning_rate: float = 1e-3
    schedule: Schedule = "cosine"
    warmup: float = 0.05
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < inf or self.schedule not in get_args(Schedule):
            raise InputError(
                "optimizer: expected a rate above 0 and a schedule of constant, cosine, got "
                f"{self.learning_rate:g} and {self.schedule!r}"
            )
        if not 0 <= self.warmup <= 1 or (self.clip is not None and not self.clip > 0):
            raise InputError(
                f"optimizer: expected a warm-up in [0, 1] and a clip above 0, got {self.warmup:g} "
                f"and {self.clip}"
            )

    @abstractmethod
    def build(self, player: nn.Module) -> torch.optim.Optimizer:
        """A torch optimizer over the player's parameters."""

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step `step` of `steps`."""
        done = step / max(steps, 1)
        rise = min(1.0, (step + 1) / max(1.0, self.warmup * steps))
        fall = (1 + cos(pi * min(done, 1.0))) / 2 if self.schedule == "cosine" else 1.0
        return self.learning_rate * rise * fall


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015)."""

    betas: tuple[float, float] = (0.9, 0.99)

    def build(self, player: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(player.parameters(), lr=self.learning_rate, betas=self.betas)


@dataclass(frozen=True)
class RMSProp(Optimizer):
    """Gradients over the root of a running mean of their squares (Hinton 2012, lecture 6e).

    The mean starts at zero and decays by 0.9.
    """

    def build(self, player: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(player.parameters(), lr=self.learning_rate, alpha=0.9)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Plain gradient steps, unclipped and at a constant rate where not asked otherwise."""

    schedule: Schedule = "constant"
    warmup: float = 0.0
    clip: float | None = None

    def build(self, player: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(player.parameters(), lr=self.learning_rate)


@dataclass(frozen=True)
class LBFGS(SGD):
    """Limited-memory BFGS with a strong-Wolfe line search (Liu & Nocedal 1989; Nocedal & Wright
    2006, algorithms 7.5 and 3.5).

    A step of the move is `iterations` of the method on one batch, a deterministic function: every
    evaluation sees the same random numbers. Its move is joined with no other.

    Arguments:
        iterations: Largest number of iterations per step of the move.
        keep: Keep the last ten pairs of steps and gradient differences from one step of the move to
            the next, for a game whose batch is the same every time; pairs of another batch would
            spoil the curvature.
    """

    learning_rate: float = 1.0
    iterations: int = 20
    keep: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterations < 1 or self.clip is not None:
            raise InputError(
                f"L-BFGS: expected at least 1 iteration and no clip, got {self.iterations} and "
                f"{self.clip}"
            )

    def build(self, player: nn.Module) -> torch.optim.Optimizer:
        return _Search(player, self)


class _Search(torch.optim.LBFGS):
    """L-BFGS that forgets its pairs at every step where asked, and moves nothing where it fails."""

    def __init__(self, player: nn.Module, config: LBFGS) -> None:
        super().__init__(
            player.parameters(), lr=config.learning_rate, max_iter=config.iterations,
            history_size=10, line_search_fn="strong_wolfe",
            tolerance_grad=1e-12, tolerance_change=1e-14,
        )  # fmt: skip
        self.keep = config.keep

    def step(self, closure: Callable[[], float]) -> Any:  # type: ignore[override]
        if not self.keep:
            self.state.clear()
        parameters = self.param_groups[0]["params"]
        start = [p.detach().clone() for p in parameters]
        try:
            return super().step(closure)
        except BaseException:
            with torch.no_grad():
                for p, value in zip(parameters, start, strict=True):
                    p.copy_(value)
            raise
