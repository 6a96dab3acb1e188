r"""Linear games: quadratic two-player games whose update rules are matrices.

.. math:: L(\theta, \psi) = \tfrac12 \theta^T H \theta - \tfrac12 \psi^T K \psi
    + \psi^T B \theta + a^T \theta + b^T \psi, \qquad \min_\theta \max_\psi

The joint gradient field of :math:`w = (\theta, \psi)` is :math:`F(w) = J w + j` with
:math:`J = [[H, B^T], [-B, K]]` and :math:`j = (a, -b)`. Every method of `lawful.theory.methods`
takes such a game and a step size to an affine map :math:`w \mapsto M w + m`. Where the game has
an equilibrium, it converges from everywhere iff the spectral radius of M, on the quotient by the
fixed directions, is below 1. A singular value above 1 proves nothing: M need not be normal.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from numpy.typing import ArrayLike

from lawful.errors import InputError


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
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _array(name, value, shape))
        for name in ("generator", "critic"):
            value = getattr(self, name)
            if value is not None and not np.allclose(value, value.T):
                raise InputError(f"linear game: {name} must be symmetric")

    @property
    def size(self) -> int:
        """Number of all players' parameters."""
        return sum(self.coupling.shape)

    @property
    def law(self) -> Float[ndarray, "n n"]:
        """The part of J from H: the generator's own objective."""
        q, p = self.coupling.shape
        return _blocks(self.generator, None, None, self.critic, p, q) * _rows(p, q, True)

    @property
    def adversarial(self) -> Float[ndarray, "n n"]:
        """The generator's rows of J without H."""
        q, p = self.coupling.shape
        return _blocks(None, self.coupling.T, None, None, p, q)

    @property
    def judging(self) -> Float[ndarray, "n n"]:
        """The critic's rows of J."""
        q, p = self.coupling.shape
        return _blocks(None, None, -self.coupling, self.critic, p, q)

    @property
    def field(self) -> Float[ndarray, "n n"]:
        """J."""
        return self.law + self.adversarial + self.judging

    @property
    def offset(self) -> Float[ndarray, " n"]:
        """j."""
        q, p = self.coupling.shape
        pull = np.zeros(p) if self.pull is None else self.pull
        push = np.zeros(q) if self.push is None else self.push
        return np.concatenate([pull, -push])

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


def _blocks(
    h: ndarray | None, up: ndarray | None, down: ndarray | None, k: ndarray | None, p: int, q: int
) -> ndarray:
    zero = np.zeros
    return np.block(
        [
            [zero((p, p)) if h is None else h, zero((p, q)) if up is None else up],
            [zero((q, p)) if down is None else down, zero((q, q)) if k is None else k],
        ]
    )


def _rows(p: int, q: int, generator: bool) -> ndarray:
    """1 in the rows of one player, 0 in the other's."""
    return np.repeat([float(generator), float(not generator)], [p, q])[:, None]


def invnet_game(
    mask: Bool[ndarray, " d"],
    weight: float,
    mean: Float[ndarray, " d"],
    motif: Float[ndarray, " d"],
    critic: Literal["standard", "projected"] = "standard",
) -> LinearGame:
    """The linear InvNet game with infinite samples (InvNet, eq. 9 and 10).

    Arguments:
        mask: The motif's coordinates Omega; P projects on them.
        weight: mu, of ½‖P(θ - m)‖².
        mean, motif: v of the data, and m.
        critic: ⟨ψ, v - θ⟩, or the same outside Omega only.
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
        reduced = self.reduced
        return float(np.abs(np.linalg.eigvals(reduced)).max()) if len(reduced) else 0.0

    def converges(self) -> bool:
        """Whether the iterates converge from everywhere: rho below 1, and a fixed point."""
        gap = np.eye(len(self.matrix)) - self.matrix
        point = np.linalg.pinv(gap) @ self.offset
        left = np.linalg.norm(gap @ point - self.offset)
        return self.spectral_radius() < 1 and bool(left <= 1e-9 * np.linalg.norm(self.offset))

    def largest_singular_value(self) -> float:
        """sigma: below 1 every step contracts; above 1 says nothing about convergence."""
        reduced = self.reduced
        return float(np.linalg.norm(reduced, 2)) if len(reduced) else 0.0

    def trajectory(self, start: Float[ndarray, " p"], steps: int) -> Float[ndarray, "steps1 p"]:
        """The iterates from `start`; memory, where there is any, starts at the same point."""
        size = len(start)
        x = np.tile(start, len(self.matrix) // size)
        points = [start]
        for _ in range(steps):
            x = self.matrix @ x + self.offset
            points.append(x[:size])
        return np.stack(points)
