r"""Divergences of distributions on n points, solved to rounding and bounded from both sides.

A set of critics is a polyhedron, :math:`\Gamma = \{\gamma = B \theta : A \gamma \le b\}`, b > 0. On
it (infimal convolution: Birrell et al. 2022, "(f, Gamma)-divergences")

.. math:: D_f^\Gamma(Q \| P) = \max_{\gamma \in \Gamma, \nu} \{E_Q \gamma - \nu
    - E_P f^*(\gamma - \nu)\} = \min_\eta \{D_f(\eta \| P) + W^\Gamma(Q, \eta)\}, \qquad
    W^\Gamma(Q, \eta) = \max_{\gamma \in \Gamma} E_Q \gamma - E_\eta \gamma .

Any critic bounds the divergence from below and any distribution :math:`\eta` from above. An
interior-point method gives both at once; the upper bound is then evaluated by a linear programme of
another solver (HiGHS), so the distance of the two bounds certifies the value.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.linalg import cho_solve, null_space, orth
from scipy.optimize import linprog

from lawful.errors import InputError
from lawful.symmetry.group import Group

ITERATIONS, ACCURACY, SPOILT = 200, 1e-13, 1e3  # steps past the last digit only add rounding
Points = Float[ndarray, " n"]
Square = Float[ndarray, "n n"]


def actions(group: Group, points: int) -> Float[ndarray, "order n n"]:
    """The matrices by which a group moves distributions on the points of a line or a circle."""
    return group.orbit(torch.eye(points, dtype=torch.float64)).mT.numpy()


def group_mean(group: Group, points: int) -> Square:
    r"""The matrix of S^Σ on distributions; on functions that of S_Σ, which is its transpose and
    the same: with every element a group holds its inverse."""
    return actions(group, points).mean(0)


@dataclass(frozen=True, eq=False)
class Critics:
    """The polyhedron of functions B θ with A B θ ≤ b.

    Arguments:
        faces, bounds: A and b; b is positive, so that the constant 0 is an inner point.
        basis: B.

    Raises:
        InputError: Shapes do not fit, or a bound is not positive.
    """

    faces: Float[ndarray, "m n"]
    bounds: Float[ndarray, " m"]
    basis: Float[ndarray, "n k"]

    def __post_init__(self) -> None:
        fits = self.faces.shape == (len(self.bounds), len(self.basis))
        if not fits or not (self.bounds > 0).all():
            raise InputError(
                f"critics: expected bounds above 0, one of each of {len(self.faces)} faces, and "
                f"functions on {self.faces.shape[1]} points"
            )

    def invariant(self, mean: Square) -> "Critics":
        """Gamma_inv: those of its functions that a group's mean leaves as they are."""
        own = self.basis @ np.linalg.pinv(self.basis)
        rest = np.vstack([np.eye(len(mean)) - mean, np.eye(len(mean)) - own])
        return replace(self, basis=null_space(rest, rcond=1e-10))

    def closed_under(self, mean: Square) -> bool:
        r"""Whether :math:`S_\Sigma[\Gamma] \subset \Gamma`, by a linear programme a face."""
        moved = mean @ self.basis
        inside = np.abs(moved - self.basis @ np.linalg.pinv(self.basis) @ moved).max() < 1e-10
        tops = (self.highest(face @ mean) for face in self.faces)
        return inside and all(t <= b + 1e-9 for t, b in zip(tops, self.bounds, strict=True))

    def highest(self, weights: Points) -> float:
        """Largest ⟨weights, γ⟩; infinite where there is none."""
        found = linprog(
            -weights @ self.basis, self.faces @ self.basis, self.bounds, bounds=(None, None)
        )
        return float(-found.fun) if found.status == 0 else np.inf

    def shrunk(self, critic: Points) -> Points:
        """The critic taken towards 0 until rounding leaves it inside."""
        excess = (self.faces @ critic / self.bounds).max()
        return critic / max(1.0, excess)


def lipschitz(points: int, constants: float | Points = 1.0) -> Critics:
    """Functions on a circle that change from point to point by at most a constant, or one each.

    With equal constants 1 they are the functions of Lipschitz constant 1 in the circular distance.
    """
    forward = np.roll(np.eye(points), -1, 0) - np.eye(points)
    bounds = np.broadcast_to(np.asarray(constants, float), points)
    return Critics(np.vstack([forward, -forward]), np.tile(bounds, 2), np.eye(points))


def seeing(critics: Critics, seen: Bool[ndarray, " n"]) -> Critics:
    """Those of the functions that have a single value on all points that are not seen."""
    return replace(critics, basis=np.column_stack([np.eye(len(seen))[:, seen], ~seen]))


@dataclass(frozen=True, eq=False)
class Certified:
    """A divergence between two bounds.

    Arguments:
        value: From below, by `critic` and the shift ν.
        upper: From above, by a distribution or by multipliers.
    """

    value: float
    upper: float
    critic: Points
    shift: float = 0.0

    @property
    def gap(self) -> float:
        """Distance of the bounds."""
        return abs(self.upper - self.value)


def conjugate(y: Points, alpha: float) -> Points:
    """f* of the α-family."""
    power = alpha / (alpha - 1)
    rise = (alpha - 1) ** power / alpha * np.maximum(y, 0) ** power
    return rise + 1 / (alpha * (alpha - 1))


def slope(y: Points, alpha: float) -> Points:
    """The derivative of f*."""
    return ((alpha - 1) * np.maximum(y, 0)) ** (1 / (alpha - 1))


def alpha_divergence(q: Points, p: Points, critics: Critics, alpha: float = 2.0) -> Certified:
    """D_α^Γ(Q‖P) = max of E_Q γ - ν - E_P f*(γ - ν).

    Arguments:
        p: Some of its entries may be 0.

    Raises:
        InputError: These are no distributions on the critics' points, or α ≤ 1.
    """
    _check(q, p, critics)
    if not 1 < alpha < np.inf:
        raise InputError(f"alpha: expected above 1, got {alpha:g}")
    on = p > 0
    theta, shift, weights = _interior_point(q, p[on], critics, on, alpha)
    critic = critics.shrunk(critics.basis @ theta)
    value = q @ critic - shift - p @ conjugate(critic - shift, alpha)
    tilted = p[on] * slope(critic[on] - shift, alpha)
    upper = min(_above(q, p, on, w, critics, alpha) for w in (weights, tilted))
    return Certified(float(value), upper, critic, shift)


def _above(
    q: Points, p: Points, on: Bool[ndarray, " n"], weights: Points, critics: Critics, alpha: float
) -> float:
    """D_f(η‖P) + W^Γ(Q, η) for η in proportion to the weights, where P is."""
    eta = np.zeros_like(p)
    eta[on] = weights / weights.sum()
    own = p[on] @ ((eta[on] / p[on]) ** alpha - 1) / (alpha * (alpha - 1))
    return float(own) + critics.highest(q - eta)


def transport(q: Points, p: Points, critics: Critics) -> Certified:
    """W^Γ(Q, P), e.g. the Wasserstein-1 distance on a circle; bounded above by multipliers."""
    _check(q, p, critics)
    faces = critics.faces @ critics.basis
    found = linprog(-(q - p) @ critics.basis, faces, critics.bounds, bounds=(None, None))
    if found.status:
        raise InputError(f"transport: {found.message}")
    critic = critics.shrunk(critics.basis @ found.x)
    upper = float(-found.ineqlin.marginals @ critics.bounds)
    return Certified(float((q - p) @ critic), upper, critic)


def discrepancy(
    q: Points, p: Points, kernel: Square, basis: Float[ndarray, "n k"] | None = None
) -> float:
    """MMD(Q, P): the largest E_Q γ - E_P γ in the unit ball of a kernel's space.

    Arguments:
        basis: Columns that γ has to be combined of; None for all functions.
    """
    if basis is None:
        return float(np.sqrt((q - p) @ kernel @ (q - p)))
    weights = basis.T @ (q - p)
    norms = basis.T @ np.linalg.solve(kernel, basis)
    return float(np.sqrt(weights @ np.linalg.solve(norms, weights)))


def ball_closed_under(kernel: Square, mean: Square) -> bool:
    r"""Whether :math:`S_\Sigma` takes the unit ball of the kernel's space into itself."""
    root = np.linalg.cholesky(kernel)
    return bool(np.linalg.norm(np.linalg.solve(root, mean @ root), 2) <= 1 + 1e-9)


def _check(q: Points, p: Points, critics: Critics) -> None:
    shape = (len(critics.basis),)
    for name, entry in (("Q", q), ("P", p)):
        proper = entry.shape == shape and (entry >= 0).all() and abs(entry.sum() - 1) < 1e-9
        if not proper:
            raise InputError(f"{name}: expected a distribution on {shape[0]} points, got {entry}")


def _interior_point(
    q: Points, p: Points, critics: Critics, on: Bool[ndarray, " n"], alpha: float
) -> tuple[Points, float, Points]:
    """θ, ν and the multipliers of s ≥ γ - ν, s standing in for the argument of f*.

    Primal-dual steps on min ν - E_Q γ + Σ p f*(s) (Boyd & Vandenberghe 2004, section 11.7), with
    the slack a variable of its own, so that no inner point need be known.
    """
    k, m, faces = critics.basis.shape[1], len(p), len(critics.bounds)
    lhs, rhs = _constraints(critics, on)
    z, slack, dual = np.zeros(k + 1 + m), np.ones(len(lhs)), np.ones(len(lhs))
    linear = np.concatenate([-critics.basis.T @ q, [1.0], np.zeros(m)])
    rise = 1 / (alpha - 1)
    # Some directions may change nothing: shifts, where Γ is closed under them.
    moving = orth(lhs.T, rcond=1e-10)
    best = np.inf, z, dual
    for _ in range(ITERATIONS):
        s = slack[-m:]
        gradient, curvature = linear.copy(), np.zeros(k + 1 + m)
        gradient[k + 1 :] = p * slope(s, alpha)
        curvature[k + 1 :] = gradient[k + 1 :] * rise / s
        off_dual, off = gradient + lhs.T @ dual, lhs @ z + slack - rhs
        distance = slack @ dual / len(dual)
        error = max(np.abs(off_dual).max(), np.abs(off).max(), distance)
        if error < best[0]:
            best = error, z, dual
        if error < ACCURACY or error > SPOILT * best[0]:
            break
        product = slack * dual - 0.2 * distance
        right = -off_dual - lhs.T @ ((dual * off - product) / slack)
        rows = np.vstack([lhs * np.sqrt(dual / slack)[:, None], np.diag(np.sqrt(curvature))])
        factor = np.linalg.qr(rows @ moving, mode="r")
        dz = moving @ cho_solve((factor, False), moving.T @ right)
        ds = -off - lhs @ dz
        dd = (-product - dual * ds) / slack
        step = min(_inside(slack, ds), _inside(dual, dd))
        z, slack, dual = z + step * dz, slack + step * ds, dual + step * dd
    _, z, dual = best
    return z[:k], float(z[k]), dual[faces : faces + m]


def _constraints(critics: Critics, on: Bool[ndarray, " n"]) -> tuple[ndarray, ndarray]:
    """A γ ≤ b, γ - ν - s ≤ 0 and -s ≤ 0 as rows on (θ, ν, s)."""
    m, k = int(on.sum()), critics.basis.shape[1]
    own = np.hstack([critics.faces @ critics.basis, np.zeros((len(critics.faces), 1 + m))])
    above = np.hstack([critics.basis[on], -np.ones((m, 1)), -np.eye(m)])
    positive = np.hstack([np.zeros((m, k + 1)), -np.eye(m)])
    return np.vstack([own, above, positive]), np.concatenate([critics.bounds, np.zeros(2 * m)])


def _inside(value: ndarray, change: ndarray) -> float:
    """The longest step, up to 1, that stays positive."""
    falling = change < 0
    return min(1.0, 0.95 * float(np.min(-value[falling] / change[falling], initial=np.inf)))
