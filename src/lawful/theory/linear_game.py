r"""Linear games: quadratic two-player games whose update rules are matrices.

.. math:: L(\theta, \psi) = \tfrac12 \theta^T H \theta - \tfrac12 \psi^T K \psi
    + \psi^T B \theta + a^T \theta + b^T \psi, \qquad \min_\theta \max_\psi

The joint gradient field of :math:`w = (\theta, \psi)` is :math:`F(w) = J w + j` with
:math:`J = [[H, B^T], [-B, K]]` and :math:`j = (a, -b)`. A step of any of the trainer's rules, with
plain gradient steps, is an affine map :math:`w \mapsto M w + m`, which `linearise` reads off the
rule itself. Where the game has an equilibrium, the iterates converge from everywhere iff the
spectral radius of M, on the quotient by the fixed directions, is below 1. A singular value above 1
proves nothing: M need not be normal.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from numpy.typing import ArrayLike
from torch import Tensor

from lawful.errors import InputError
from lawful.training.rules import Rule

Part = Literal["generator", "adversarial", "law", "critic"]
Critic = Literal["standard", "projected"]


@dataclass(frozen=True, eq=False)
class LinearGame:
    """A game by its matrices and vectors.

    Arguments:
        coupling: B, (critic, generator).
        generator: H, symmetric; zero where not given. For a law of weight mu on P θ it is mu P.
        critic: K, symmetric; zero where not given. A zero-centred penalty on the critic is one.
        pull: a, of the generator; zero where not given.
        push: b, of the critic; zero where not given.

    Raises:
        InputError: The shapes do not fit, or H or K is not symmetric.
    """

    coupling: Float[ndarray, "q p"]
    generator: Float[ndarray, "p p"] | None = None
    critic: Float[ndarray, "q q"] | None = None
    pull: Float[ndarray, " p"] | None = None
    push: Float[ndarray, " q"] | None = None

    def __post_init__(self) -> None:
        if np.ndim(self.coupling) != 2:
            raise InputError(f"linear game: expected a matrix B, got {np.shape(self.coupling)}")
        q, p = np.shape(self.coupling)
        shapes = {"coupling": (q, p), "generator": (p, p), "critic": (q, q), "pull": (p,),
                  "push": (q,)}  # fmt: skip
        for name, shape in shapes.items():
            given = getattr(self, name)
            value = np.zeros(shape) if given is None else _array(name, given, shape)
            object.__setattr__(self, name, value)
            if name in ("generator", "critic") and not np.allclose(value, value.T):
                raise InputError(f"linear game: {name} must be symmetric")

    @property
    def size(self) -> int:
        """Number of all players' parameters."""
        return sum(self.coupling.shape)

    def rows(self, part: Part) -> tuple[Float[ndarray, "rows n"], Float[ndarray, " rows"]]:
        """The player's rows of J and entries of j that come from a part of the game.

        The generator's are the sum of its `adversarial` part and of the `law`, which is H and a.
        """
        h, k, a, b = map(np.asarray, (self.generator, self.critic, self.pull, self.push))
        turned = self.coupling.T
        return {
            "generator": (np.hstack([h, turned]), a),
            "adversarial": (np.hstack([0 * h, turned]), 0 * a),
            "law": (np.hstack([h, 0 * turned]), a),
            "critic": (np.hstack([-self.coupling, k]), -b),
        }[part]

    @property
    def field(self) -> Float[ndarray, "n n"]:
        """J."""
        return np.vstack([self.rows("generator")[0], self.rows("critic")[0]])

    @property
    def offset(self) -> Float[ndarray, " n"]:
        """j."""
        return np.concatenate([self.rows("generator")[1], self.rows("critic")[1]])

    def equilibrium(self) -> Float[ndarray, " n"]:
        """The stationary point of least norm.

        Raises:
            InputError: There is none.
        """
        w: ndarray = -np.linalg.pinv(self.field) @ self.offset
        left = np.linalg.norm(self.field @ w + self.offset)
        if left > 1e-9 * np.linalg.norm(self.offset):
            raise InputError("linear game: no point is stationary for both players")
        return w

    def frozen(self) -> Float[ndarray, "n k"]:
        """An orthonormal basis of the directions along which nothing moves, J n = 0."""
        _, values, rows = np.linalg.svd(self.field)
        return rows[values <= 1e-12 * values.max()].T


def _array(name: str, value: ArrayLike, shape: tuple[int, ...]) -> ndarray:
    """Finite numbers of the given shape."""
    array = np.asarray(value, dtype=float)
    if array.shape != shape:
        raise InputError(f"linear game: expected {name} {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise InputError(f"linear game: {name} is not finite")
    return array


def invnet_game(
    mask: Bool[ndarray, " d"],
    weight: float,
    mean: Float[ndarray, " d"],
    motif: Float[ndarray, " d"],
    critic: Critic = "standard",
) -> LinearGame:
    """The linear InvNet game with infinite samples (InvNet, eq. 9 and 10).

    Arguments:
        mask: The motif's coordinates Omega; P projects on them.
        weight: mu, of ½‖P(θ - m)‖².
        mean, motif: v of the data, and m.
        critic: ⟨ψ, v - θ⟩, or the same outside Omega only.

    Raises:
        InputError: There is no such critic, or the shapes do not fit.
    """
    if critic not in ("standard", "projected"):
        raise InputError(f"critic {critic!r}: expected standard or projected")
    p = np.diag(np.asarray(mask, dtype=float))
    mean, motif = (_array(n, v, (len(p),)) for n, v in (("mean", mean), ("motif", motif)))
    seen = np.eye(len(p)) if critic == "standard" else np.eye(len(p)) - p
    return LinearGame(
        coupling=-seen, generator=weight * p, pull=-weight * p @ motif, push=seen @ mean
    )


@dataclass(frozen=True, eq=False)
class Update:
    """An affine map of the state x, w in its first entries: x ← M x + m.

    Arguments:
        matrix, offset: M and m.
        fixed: A basis of directions that M leaves as they are, for every step size.
    """

    matrix: Float[ndarray, "n n"]
    offset: Float[ndarray, " n"]
    fixed: Float[ndarray, "n k"]

    @property
    def reduced(self) -> Float[ndarray, "m m"]:
        """M on the quotient by the fixed directions, in orthonormal coordinates."""
        count = self.fixed.shape[1]
        if not count:
            return self.matrix
        rest = np.linalg.qr(np.hstack([self.fixed, np.eye(len(self.matrix))]))[0][:, count:]
        return rest.T @ self.matrix @ rest

    def spectral_radius(self) -> float:
        """rho: largest magnitude of an eigenvalue; below 1 iff the iterates converge."""
        return float(np.abs(np.linalg.eigvals(self.reduced)).max(initial=0.0))

    def converges(self) -> bool:
        """Whether the iterates converge from everywhere: rho below 1, and a fixed point."""
        gap = np.eye(len(self.matrix)) - self.matrix
        point = np.linalg.pinv(gap) @ self.offset
        left = np.linalg.norm(gap @ point - self.offset)
        return self.spectral_radius() < 1 and bool(left <= 1e-9 * np.linalg.norm(self.offset))

    def largest_singular_value(self) -> float:
        """sigma: below 1 every step contracts; above 1 says nothing about convergence."""
        return float(np.linalg.svd(self.reduced, compute_uv=False).max(initial=0.0))

    def trajectory(self, start: Float[ndarray, " p"], steps: int) -> Float[ndarray, "steps1 p"]:
        """The iterates from `start`; memory, where there is any, starts at the same point."""
        x = np.tile(start, len(self.matrix) // len(start))
        points = [start]
        for _ in range(steps):
            x = self.matrix @ x + self.offset
            points.append(x[: len(start)])
        return np.stack(points)


Method = Callable[[LinearGame, float], Update]


def linearise(
    rule: Rule, game: LinearGame, step: float, parts: tuple[Part, ...] = ("generator", "critic")
) -> Update:
    """One step of a rule of the trainer, with gradient steps of size `step`, as an affine map.

    The rule itself is run once. Every column of the players is a game of its own: from each unit
    vector with j = 0, which gives M, and from zero, which gives m; no rule mixes columns. A
    lookahead takes as many steps as bring it back to its slow weights. The state of `optimistic` is
    (w, w before).

    Arguments:
        parts: What the rule steps along, in its order. Algorithm 1 is `alternating` along
            generator, critic and law.

    Raises:
        InputError: The rule is a lookahead of one with memory.
    """
    if rule.period > 1 and rule.remembers:
        raise InputError("linearise: expected a lookahead of a rule without memory")
    (q, p), n = game.coupling.shape, game.size
    slopes = [tuple(map(torch.from_numpy, game.rows(part))) for part in parts]
    players: list[Tensor] = [torch.nn.Parameter(torch.zeros(size, 1).double()) for size in (p, q)]
    owners = [players[part == "critic"] for part in parts]
    optimizers = [torch.optim.SGD([owner], lr=step) for owner in owners]

    def gradients(only: int | None = None, *, graph: bool = False) -> float:
        for k, ((slope, offset), owner) in enumerate(zip(slopes, owners, strict=True)):
            if only in (None, k):
                force = slope @ torch.cat(players) + offset[:, None] * last
                owner.grad = force if graph else force.detach()
        return 0.0

    def moved(starts: Tensor, steps: int) -> ndarray:
        for player, start in zip(players, starts.split([p, q]), strict=True):
            player.data = start.clone()
        for _ in range(steps):
            rule.step(gradients, optimizers, memory)
        return torch.cat(players).detach().numpy()

    memory: dict[str, object] = {}
    points = 1 + rule.remembers
    starts = torch.eye(points * n, points * n + 1, dtype=torch.float64)
    last = (torch.arange(points * n + 1) == points * n).double()
    if points == 2:
        moved(starts[n:], 1)  # so that it remembers its step from the point before
    image = moved(starts[:n], rule.period)
    image = np.vstack([image, starts[: (points - 1) * n].numpy()])
    frozen = np.vstack([game.frozen() / np.sqrt(points)] * points)
    return Update(image[:, :-1], image[:, -1], frozen)


def runge_kutta(order: int, game: LinearGame, step: float) -> Update:
    """The flow w' = -F(w) by so many stages: its Taylor polynomial. 2 is Heun, 4 the classical."""
    one = np.eye(game.size)
    q = np.zeros_like(game.field)
    for k in range(order, 0, -1):
        q = step / k * (one - game.field @ q)
    return Update(one - q @ game.field, -q @ game.offset, game.frozen())


def stability_bound(
    game: LinearGame, method: Method, *, largest: float = 12.0, points: int = 600
) -> float:
    """The step size up to which rho stays at or below 1.

    A scan finds the first crossing, bisection places it. It is 0 if rho exceeds 1 already below
    0.02 / ‖J‖, and infinite if it does not below `largest` / ‖J‖.
    """
    unit = 1 / max(float(np.linalg.norm(game.field, 2)), 1e-300)

    def unstable(step: float) -> bool:
        return method(game, step).spectral_radius() > 1 + 1e-12

    grid: Float[ndarray, " points"] = np.linspace(0, largest * unit, points + 1)[1:]
    high = next((float(step) for step in grid if unstable(float(step))), None)
    if high is None:
        return float("inf")
    low = high - float(grid[0])
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if unstable(middle) else (middle, high)
    return 0.0 if high < 0.02 * unit else high
