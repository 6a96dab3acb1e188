r"""Update rules of a linear game as matrices: step size to affine map.

Each is the rule of the same name in `lawful.training.rules` with plain gradient steps of equal size
for both players (scale the game's rows for others); Heun's and the classical Runge-Kutta method of
the flow w' = -F(w) stand for comparison.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lawful.errors import InputError
from lawful.theory.linear_game import LinearGame, Update

Part = Literal["generator", "adversarial", "critic", "law"]
PARTS = ("generator", "adversarial", "critic", "law")


@dataclass(frozen=True)
class Method(ABC):
    """A way to step."""

    @abstractmethod
    def update(self, game: LinearGame, step: float) -> Update:
        """One step of size `step` as an affine map."""


@dataclass(frozen=True)
class Polynomial(Method):
    r"""w ← w - Q(J) F(w) with a polynomial Q: one player's map for all methods without memory."""

    @abstractmethod
    def weights(self, step: float) -> tuple[float, ...]:
        """Coefficients of Q by rising power."""

    def update(self, game: LinearGame, step: float) -> Update:
        q = np.zeros_like(game.field)
        for weight in reversed(self.weights(step)):
            q = q @ game.field + weight * np.eye(game.size)
        return Update(np.eye(game.size) - q @ game.field, -q @ game.offset, game.frozen())


@dataclass(frozen=True)
class Simultaneous(Polynomial):
    """I - η J."""

    def weights(self, step: float) -> tuple[float, ...]:
        return (step,)


@dataclass(frozen=True)
class Extragradient(Polynomial):
    """I - η J + η γ J², γ = `extrapolation` η."""

    extrapolation: float = 1.0

    def weights(self, step: float) -> tuple[float, ...]:
        return (step, -self.extrapolation * step**2)


@dataclass(frozen=True)
class Heun(Polynomial):
    """I - η J + η² J² / 2, second order."""

    def weights(self, step: float) -> tuple[float, ...]:
        return (step, -(step**2) / 2)


@dataclass(frozen=True)
class RungeKutta4(Polynomial):
    """The Taylor polynomial of exp(-η J) to fourth order."""

    def weights(self, step: float) -> tuple[float, ...]:
        return (step, -(step**2) / 2, step**3 / 6, -(step**4) / 24)


@dataclass(frozen=True)
class Turns(Method):
    """Players in turn, each seeing the moves before its own.

    Arguments:
        order: `generator` (its whole objective), `adversarial` (without the law), `critic`, `law`.
            `("critic", "adversarial", "law")` is the three-way rule; algorithm 1 has `generator`
            in place of `adversarial`, and may repeat entries.
    """

    order: tuple[Part, ...] = ("generator", "critic")

    def __post_init__(self) -> None:
        if not self.order or set(self.order) - set(PARTS):
            raise InputError(f"turns: expected some of {', '.join(PARTS)}, got {self.order}")

    def update(self, game: LinearGame, step: float) -> Update:
        q, p = game.coupling.shape
        pull, push = game.offset[:p], game.offset[p:]
        fields = {
            "generator": (game.adversarial + game.law, np.concatenate([pull, 0 * push])),
            "adversarial": (game.adversarial, np.zeros(p + q)),
            "critic": (game.judging, np.concatenate([0 * pull, push])),
            "law": (game.law, np.concatenate([pull, 0 * push])),
        }
        matrix, offset = np.eye(game.size), np.zeros(game.size)
        for part in self.order:
            slope, constant = fields[part]
            one = np.eye(game.size) - step * slope
            matrix, offset = one @ matrix, one @ offset - step * constant
        return Update(matrix, offset, game.frozen())


@dataclass(frozen=True)
class Optimistic(Method):
    """w ← w - 2 η F(w) + η F(w before), on the state (w, w before)."""

    def update(self, game: LinearGame, step: float) -> Update:
        n = game.size
        one, slope = np.eye(n), step * game.field
        matrix = np.block([[one - 2 * slope, slope], [one, np.zeros((n, n))]])
        offset = np.concatenate([-step * game.offset, np.zeros(n)])
        frozen = game.frozen() / np.sqrt(2)
        return Update(matrix, offset, np.vstack([frozen, frozen]))


@dataclass(frozen=True)
class Consensus(Method):
    """I - η (J + γ JᵀJ), γ = `weight`."""

    weight: float = 0.5

    def update(self, game: LinearGame, step: float) -> Update:
        push = step * (np.eye(game.size) + self.weight * game.field.T)
        matrix = np.eye(game.size) - push @ game.field
        return Update(matrix, -push @ game.offset, game.frozen())


@dataclass(frozen=True)
class Lookahead(Method):
    """(1 - α) I + α Mᵏ with M of another method: one update stands for k of its steps."""

    inner: Method = field(default_factory=Simultaneous)
    every: int = 5
    weight: float = 0.5

    def update(self, game: LinearGame, step: float) -> Update:
        one = self.inner.update(game, step)
        matrix, offset = np.eye(len(one.matrix)), np.zeros(len(one.matrix))
        for _ in range(self.every):
            matrix, offset = one.matrix @ matrix, one.matrix @ offset + one.offset
        # The players go back towards their slow weights; an inner method's memory stays.
        share = np.where(np.arange(len(matrix)) < game.size, self.weight, 1.0)
        blend = np.diag(1 - share) + share[:, None] * matrix
        return Update(blend, share * offset, one.fixed)


def stability_bound(
    game: LinearGame, method: Method, *, largest: float = 12.0, points: int = 600
) -> float:
    """The step size up to which rho stays at or below 1.

    A scan finds the first crossing, bisection places it. It is 0 if rho exceeds 1 already below
    0.02 / ‖J‖, and infinite if it does not below `largest` / ‖J‖.
    """
    tolerance = 1e-12
    unit = 1 / max(float(np.linalg.norm(game.field, 2)), 1e-300)
    unstable = lambda step: method.update(game, step).spectral_radius() > 1 + tolerance  # noqa: E731
    grid: Float[ndarray, " points"] = np.linspace(0, largest * unit, points + 1)[1:]
    high = next((float(step) for step in grid if unstable(float(step))), None)
    if high is None:
        return float("inf")
    low = high - float(grid[0])
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if unstable(middle) else (middle, high)
    return 0.0 if high < 0.02 * unit else high
