r"""Linear games: quadratic two-player games whose update rules are matrices.

.. math:: L(\theta, \psi) = \tfrac12 \theta^T H \theta - \tfrac12 \psi^T K \psi
    + \psi^T B \theta + a^T \theta + b^T \psi, \qquad \min_\theta \max_\psi

The joint gradient field of :math:`w = (\theta, \psi)` is :math:`F(w) = J w + j` with
:math:`J = [[H, B^T], [-B, K]]` and :math:`j = (a, -b)`. A step of any of the trainer's rules, with
plain gradient steps, is an affine map :math:`w \mapsto M w + m`, which `linearise` reads off the
rule itself. Where the game has an equilibrium, the iterates converge from everywhere iff the
spectral radius of M, on the quotient by the fixed directions, is below 1. A singular value above 1
proves nothing: M need not be normal.

The linear InvNet game has closed forms too. A rotation splits it into 2 x 2 blocks: undamped
:math:`[[0, -1], [1, 0]]` off the motif, damped :math:`[[\mu, -1], [1, 0]]` on it under the standard
critic, and :math:`[\mu]` under the projected one, whose critic is frozen there. `METHODS` has the
spectral radii of methods from the roots of each block's characteristic polynomial and the largest
stable steps from their conditions; nothing there builds a matrix.
"""

from cmath import sqrt
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from math import sqrt as root
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from numpy.typing import ArrayLike
from torch import Tensor

from lawful.errors import InputError
from lawful.training.rules import (
    Rule,
    alternating,
    consensus,
    extragradient,
    lookahead,
    optimistic,
    simultaneous,
)

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
        shapes = (q, p), (p, p), (q, q), (p,), (q,)
        for name, shape in zip(self.__dataclass_fields__, shapes, strict=True):
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
    game: LinearGame,
    method: Callable[[LinearGame, float], Update],
    *,
    largest: float = 12.0,
    points: int = 600,
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


Radius = Callable[[float, float, bool], float]


@dataclass(frozen=True)
class Method:
    """A method on linear games, and what is known of it on one block at a time.

    Arguments:
        update: Its step as a map of a game.
        radius: (step, mu, projected) to the spectral radius; mu = 0 is the undamped block.
        undamped: Largest stable step off the motif; None where no closed form is known.
        damped, projected: Largest stable step on it, as functions of mu, for the two critics.
    """

    update: Callable[[LinearGame, float], Update]
    radius: Radius
    undamped: float | None
    damped: Callable[[float], float] | None
    projected: Callable[[float], float]

    def spectral_radius(
        self, step: float, mu: float, critic: Critic, *, motif: int, dimension: int
    ) -> float:
        """Of the whole game with |Omega| = `motif`: the largest of its blocks' radii."""
        on = [self.radius(step, mu, critic == "projected")] if motif else []
        return max(on + ([self.radius(step, 0.0, False)] if motif < dimension else []))

    def bound(self, mu: float, critic: Critic, *, motif: int, dimension: int) -> float | None:
        """Largest stable step of the whole game; None where no closed form is known."""
        on = self.projected if critic == "projected" else self.damped
        if self.undamped is None or (on is None and motif):
            return None
        limits = [on(mu)] if on is not None and motif else []
        return min(limits + ([self.undamped] if motif < dimension else []))


def _roots(trace: complex, determinant: complex) -> tuple[complex, complex]:
    """Eigenvalues of a 2 x 2 matrix."""
    part = sqrt(trace * trace / 4 - determinant)
    return trace / 2 + part, trace / 2 - part


def _slopes(mu: float, projected: bool) -> tuple[complex, ...]:
    """Eigenvalues of J on a block."""
    return (complex(mu),) if projected else _roots(mu, 1)


def _polynomial(p: Callable[[complex], complex]) -> Radius:
    """Of a method whose matrix is a polynomial of η J."""
    return lambda step, mu, projected: max(abs(p(step * s)) for s in _slopes(mu, projected))


def _in_turn(trace: Callable[[float, float], float], law_steps: int = 1) -> Radius:
    """Of players in turn: (η, d) to the trace of a block whose determinant d is what the law's
    steps leave of θ, which is all that moves under the projected critic."""

    def radius(step: float, mu: float, projected: bool) -> float:
        left = (1 - step * mu) ** law_steps
        return abs(left) if projected else max(map(abs, _roots(trace(step, left), left)))

    return radius


def _optimistic(step: float, mu: float, projected: bool) -> float:
    pairs = (_roots(1 - 2 * step * s, -step * s) for s in _slopes(mu, projected))
    return max(abs(z) for pair in pairs for z in pair)


def _consensus(step: float, mu: float, projected: bool) -> float:
    """With the default weight, γ = ½."""
    if projected:
        return abs(1 - step * (mu + mu**2 / 2))
    a, b, c, d = mu + (mu**2 + 1) / 2, -1 - mu / 2, 1 - mu / 2, 0.5  # J + ½ JᵀJ
    trace = 2 - step * (a + d)
    return max(map(abs, _roots(trace, (1 - step * a) * (1 - step * d) - step**2 * b * c)))


def _least_root(limit: float, *coefficients: float) -> float:
    """The least positive root of a polynomial of the step, but at most the limit."""
    roots = np.roots(coefficients)
    return min([limit, *(float(r.real) for r in roots if abs(r.imag) < 1e-9 and r.real > 0)])


def _weak(mu: float) -> float:
    """The slope of least magnitude on a block whose slopes are real, mu above 2."""
    return mu - root(mu * mu - 4)


METHODS: dict[str, Method] = {
    "simultaneous": Method(
        partial(linearise, simultaneous()),
        _polynomial(lambda s: 1 - s),
        0.0, lambda mu: mu if mu <= 2 else _weak(mu), lambda mu: 2 / mu,
    ),
    "alternating": Method(
        partial(linearise, alternating()),
        _in_turn(lambda step, left: left + 1 - step**2),
        2.0, lambda mu: root(mu * mu + 4) - mu, lambda mu: 2 / mu,
    ),
    "algorithm 1": Method(  # ημ < 2 and η² < 2 + 2(1 - ημ)², i.e. (2μ² - 1)η² - 4μη + 4 > 0
        partial(linearise, alternating(), parts=("generator", "critic", "law")),
        _in_turn(lambda step, left: left + 1 - step**2, law_steps=2),
        2.0, lambda mu: _least_root(2 / mu, 2 * mu**2 - 1, -4 * mu, 4.0), lambda mu: 2 / mu,
    ),
    "three-way": Method(  # ημ < 1 and η² < 2(2 - ημ)/(1 - ημ), i.e. μη³ - η² - 2μη + 4 > 0
        partial(linearise, alternating(), parts=("critic", "adversarial", "law")),
        _in_turn(lambda step, left: left * (1 - step**2) + 1),
        2.0, lambda mu: _least_root(1 / mu, mu, -1.0, -2 * mu, 4.0), lambda mu: 2 / mu,
    ),
    "extragradient": Method(
        partial(linearise, extragradient()),
        _polynomial(lambda s: 1 - s + s * s), 1.0,
        lambda mu: _weak(mu) / 2 if mu >= 2 else _least_root(inf, 1.0, -mu, mu**2 - 1, -mu),
        lambda mu: 1 / mu,
    ),
    "optimistic": Method(
        partial(linearise, optimistic()),
        _optimistic, 1 / root(3), None, lambda mu: 2 / (3 * mu),
    ),
    "consensus": Method(
        partial(linearise, consensus()),
        _consensus, 0.8, None, lambda mu: 2 / (mu + mu * mu / 2),
    ),
    "lookahead": Method(
        partial(linearise, lookahead()),
        _polynomial(lambda s: 0.5 + 0.5 * (1 - s) ** 5),
        None, None, lambda mu: (1 + 3 ** 0.2) / mu,
    ),
    "heun": Method(
        partial(runge_kutta, 2),
        _polynomial(lambda s: 1 - s + s * s / 2), 0.0, None, lambda mu: 2 / mu,
    ),
    "rk4": Method(
        partial(runge_kutta, 4),
        _polynomial(lambda s: 1 - s + s**2 / 2 - s**3 / 6 + s**4 / 24),
        2 * root(2), None, lambda mu: 2.785293563405282 / mu,
    ),
}  # fmt: skip
