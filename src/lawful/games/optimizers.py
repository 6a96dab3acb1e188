"""Optimizers as configurations: what is built for each part of a move, and its rate by step."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import cos, inf, pi
from typing import Literal

import torch
from torch import nn

from lawful.errors import InputError


@dataclass(frozen=True)
class Optimizer(ABC):
    """A first-order method with a rate that is a function of the step alone.

    Arguments:
        learning_rate: Peak rate.
        schedule: Constant, or a cosine to zero at the last step, after the warm-up.
        warmup: Share of the run over which the rate rises linearly.
        clip: Largest norm of a player's gradient; None leaves it as it is.
    """

    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    warmup: float = 0.05
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        schedules = ("constant", "cosine")
        if not 0 < self.learning_rate < inf or self.schedule not in schedules:
            raise InputError(
                f"optimizer: expected a rate above 0 and a schedule of {', '.join(schedules)}, got "
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

    Arguments:
        decay: Of the running mean, which starts at zero.
    """

    decay: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.decay < 1:
            raise InputError(f"optimizer: expected a decay in [0, 1), got {self.decay:g}")

    def build(self, player: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(player.parameters(), lr=self.learning_rate, alpha=self.decay)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Plain gradient steps, unclipped and at a constant rate where not asked otherwise."""

    schedule: Literal["constant", "cosine"] = "constant"
    warmup: float = 0.0
    clip: float | None = None

    def build(self, player: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(player.parameters(), lr=self.learning_rate)
