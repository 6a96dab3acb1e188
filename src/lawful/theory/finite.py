r"""Structure-preserving GANs on the points of a circle: divergences, images of noise, collapse.

.. math:: S_\Sigma[\Gamma] \subset \Gamma \ \Rightarrow\
    D^\Gamma(S^\Sigma Q \| S^\Sigma P) = D^{\Gamma_{inv}}(Q \| P)

and: an equivariant map takes invariant noise to an invariant distribution (Birrell et al. 2022).

On n points a divergence is a convex programme. A set of critics is a polyhedron,
:math:`\Gamma = \{\gamma = B \theta : A \gamma \le b\}`, b > 0, and on it (infimal convolution:
Birrell et al. 2022, "(f, Gamma)-divergences")

.. math:: D_f^\Gamma(Q \| P) = \max_{\gamma \in \Gamma, \nu} \{E_Q \gamma - \nu
    - E_P f^*(\gamma - \nu)\} = \min_\eta \{D_f(\eta \| P) + W^\Gamma(Q, \eta)\}, \qquad
    W^\Gamma(Q, \eta) = \max_{\gamma \in \Gamma} E_Q \gamma - E_\eta \gamma .

Any critic bounds the divergence from below and any distribution :math:`\eta` from above. A solver
gives both: :math:`\eta` are the multipliers of :math:`\gamma - \nu \le s`, with s the argument of
f*. The upper bound is evaluated by a linear programme of another solver (HiGHS), so the distance of
the two bounds certifies the value, to some 1e-7.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy.linalg import null_space
from scipy.optimize import linprog, minimize
from scipy.special import softmax

from lawful.divergences import Alpha
from lawful.errors import InputError
from lawful.symmetry import Group, permutations, reflections, translations
from lawful.table import Record

Points = Float[ndarray, " n"]
Square = Float[ndarray, "n n"]


def group_mean(group: Group, points: int) -> Square:
    r"""The matrix of S^Σ on distributions on the points of a line or a circle.

    On functions it is that of S_Σ, its transpose: with every element a group holds its inverse.
    """
    return group.orbit(torch.eye(points, dtype=torch.float64)).mean(0).numpy()


@dataclass(frozen=True, eq=False)
class Bounds:
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


@dataclass(frozen=True, eq=False)
class Polyhedron:
    """The critics B θ with A B θ ≤ b.

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

    def invariant(self, mean: Square) -> "Polyhedron":
        """Gamma_inv: those of its functions that a group's mean leaves as they are."""
        own = self.basis @ np.linalg.pinv(self.basis)
        rest = np.vstack([np.eye(len(mean)) - mean, np.eye(len(mean)) - own])
        return replace(self, basis=null_space(rest, rcond=1e-10))

    def closed_under(self, mean: Square) -> bool:
        r"""Whether :math:`S_\Sigma[\Gamma] \subset \Gamma`, by a linear programme for each face."""
        moved = mean @ self.basis
        inside = np.abs(moved - self.basis @ np.linalg.pinv(self.basis) @ moved).max() < 1e-10
        tops = (self.support(face @ mean).value for face in self.faces)
        return bool(inside) and all(t <= b + 1e-9 for t, b in zip(tops, self.bounds, strict=True))

    def support(self, weights: Points) -> Bounds:
        """The largest ⟨weights, γ⟩, bounded above by multipliers; infinite where there is none."""
        faces = self.faces @ self.basis
        found = linprog(-weights @ self.basis, faces, self.bounds, bounds=(None, None))
        if found.status:
            return Bounds(np.inf, np.inf, np.full(len(weights), np.nan))
        critic = self.inside(self.basis @ found.x)
        upper = float(-found.ineqlin.marginals @ self.bounds)
        return Bounds(float(weights @ critic), upper, critic)

    def inside(self, critic: Points) -> Points:
        """The critic taken towards 0 until rounding leaves it in the polyhedron."""
        return critic / max(1.0, (self.faces @ critic / self.bounds).max())


def lipschitz(points: int, constants: float | Points = 1.0) -> Polyhedron:
    """Functions on a circle that change from point to point by at most a constant, or one each.

    With equal constants 1 they are the functions of Lipschitz constant 1 in the circular distance.
    """
    forward = np.roll(np.eye(points), -1, 0) - np.eye(points)
    bounds = np.broadcast_to(np.asarray(constants, float), points)
    return Polyhedron(np.vstack([forward, -forward]), np.tile(bounds, 2), np.eye(points))


def seeing(critics: Polyhedron, seen: Bool[ndarray, " n"]) -> Polyhedron:
    """Those of the functions that have a single value on all points that are not seen."""
    return replace(critics, basis=np.column_stack([np.eye(len(seen))[:, seen], ~seen]))


@dataclass(frozen=True, eq=False)
class KernelBall:
    """The critics B θ in the unit ball of a kernel's space.

    Arguments:
        kernel: Positive definite.
        basis: B.
    """

    kernel: Square
    basis: Float[ndarray, "n k"]

    def invariant(self, mean: Square) -> "KernelBall":
        """Those of its functions that a group's mean leaves as they are; B is that of all."""
        return replace(self, basis=null_space(np.eye(len(mean)) - mean, rcond=1e-10))

    def closed_under(self, mean: Square) -> bool:
        r"""Whether :math:`S_\Sigma` takes the ball into itself."""
        root = np.linalg.cholesky(self.kernel)
        return bool(np.linalg.norm(np.linalg.solve(root, mean @ root), 2) <= 1 + 1e-9)


def alpha_divergence(q: Points, p: Points, critics: Polyhedron, alpha: float = 2.0) -> Bounds:
    """D_α^Γ(Q‖P) = max of E_Q γ - ν - E_P f*(γ - ν).

    Arguments:
        p: Some of its entries may be 0.

    Raises:
        InputError: These are no distributions on the critics' points, or α ≤ 1.
    """
    import cvxpy as cp  # half a second

    _check(q, p, len(critics.basis))
    family, on = Alpha(alpha=alpha), p > 0
    theta, nu = cp.Variable(critics.basis.shape[1]), cp.Variable()
    s = cp.Variable(len(p), nonneg=True)  # stands for max(γ - ν, 0)
    gamma, power = critics.basis @ theta, alpha / (alpha - 1)
    rise = (alpha - 1) ** power / alpha * s**power + 1 / (alpha * (alpha - 1))
    above = cp.NonNeg(s - gamma + nu)
    inside = cp.NonNeg(critics.bounds - critics.faces @ gamma)
    problem = cp.Problem(cp.Maximize(q @ gamma - nu - p @ rise), [above, inside])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # how accurate it is, the bounds tell
        problem.solve(solver=cp.CLARABEL)
    critic, shift = critics.inside(critics.basis @ theta.value), float(nu.value or 0.0)
    inner = family.conjugate(torch.from_numpy(critic - shift)).numpy()
    eta = np.where(on, np.maximum(above.dual_value, 0.0), 0.0)
    eta /= eta.sum()
    own = p[on] @ ((eta[on] / p[on]) ** alpha - 1) / (alpha * (alpha - 1))
    upper = float(own) + critics.support(q - eta).upper
    value = float(q @ critic - shift - p @ inner)
    return Bounds(max(value, 0.0), upper, critic, shift)  # the constant 0 gives 0


def transport(q: Points, p: Points, critics: Polyhedron) -> Bounds:
    """W^Γ(Q, P), e.g. the Wasserstein-1 distance on a circle.

    Raises:
        InputError: These are no distributions on the critics' points, or it is infinite.
    """
    _check(q, p, len(critics.basis))
    found = critics.support(q - p)
    if not np.isfinite(found.value):
        raise InputError("transport: no largest difference, the critics are not bounded")
    return found


def discrepancy(q: Points, p: Points, critics: KernelBall) -> Bounds:
    """MMD(Q, P): the largest E_Q γ - E_P γ in the unit ball of a kernel's space."""
    weights = critics.basis.T @ (q - p)
    norms = critics.basis.T @ np.linalg.solve(critics.kernel, critics.basis)
    theta = np.linalg.solve(norms, weights)
    value = float(np.sqrt(weights @ theta))
    return Bounds(value, value, critics.basis @ theta / (value or 1.0))


def _check(q: Points, p: Points, points: int) -> None:
    for name, entry in (("Q", q), ("P", p)):
        proper = entry.shape == (points,) and (entry >= 0).all() and abs(entry.sum() - 1) < 1e-9
        if not proper:
            raise InputError(f"{name}: expected a distribution on {points} points, got {entry}")


POINTS = 8
Q = np.array([6, 5, 4, 1, 1, 1, 1, 1]) / 20
P = np.array([1, 1, 2, 1, 1, 3, 2, 9]) / 20
QUARTERS = translations((POINTS,), (2,))
GROUPS: dict[str, Group] = {
    "C4": QUARTERS,
    "C2": translations((POINTS,), (4,)),
    "C8": translations((POINTS,), (1,)),
    "reflection": reflections(-1),
    "D2": permutations([[4, 5, 6, 7, 0, 1, 2, 3], [7, 6, 5, 4, 3, 2, 1, 0]]),
}
LIPSCHITZ = lipschitz(POINTS)
MEAN = group_mean(QUARTERS, POINTS)


def identity(
    name: str,
    group: str,
    critics: Any,
    divergence: Callable[[Points, Points, Any], Bounds],
    q: Points = Q,
    p: Points = P,
) -> Record:
    """The four divergences that the theorem relates, and whether its premise S_Σ[Γ] ⊂ Γ holds.

    The record has `plain` D^Γ(Q‖P), `invariant` D^Γ_inv(Q‖P), `averaged` D^Γ(SQ‖SP) and `both`
    D^Γ_inv(SQ‖SP); `apart` is the largest difference of the last three, `gap` that of the bounds.
    """
    mean = group_mean(GROUPS[group], len(q))
    invariant = critics.invariant(mean)
    four = {
        "plain": divergence(q, p, critics),
        "invariant": divergence(q, p, invariant),
        "averaged": divergence(mean @ q, mean @ p, critics),
        "both": divergence(mean @ q, mean @ p, invariant),
    }
    values = {which: found.value for which, found in four.items()}
    three = [values["invariant"], values["averaged"], values["both"]]
    return {
        "name": name, "group": group, **values, "apart": max(three) - min(three),
        "gap": max(found.gap for found in four.values()), "closed": critics.closed_under(mean),
    }  # fmt: skip


def ball(weights: Points | float = 1.0) -> KernelBall:
    """The unit ball of the kernel w_i exp(-d(i, j)) w_j, d the circular distance."""
    places = np.arange(POINTS)
    forward = (places[:, None] - places[None, :]) % POINTS
    w = np.broadcast_to(weights, POINTS)
    near = np.exp(-np.minimum(forward, POINTS - forward))
    return KernelBall(w[:, None] * near * w[None, :], np.eye(POINTS))


def identities() -> list[Record]:
    """Those the theorem covers, then those whose critics are not closed under the group's mean."""
    few = seeing(LIPSCHITZ, np.arange(POINTS) < 2)
    uneven = lipschitz(POINTS, np.where(np.arange(POINTS) == 0, 0.1, 1.0))
    return [
        *(
            identity(f"α = {a:g}", "C4", LIPSCHITZ, partial(alpha_divergence, alpha=a))
            for a in (2.0, 1.5, 5.0, 10.0, 100.0)
        ),
        identity("W1", "C4", LIPSCHITZ, transport),
        identity("MMD", "C4", ball(), discrepancy),
        *(identity("α = 2", name, LIPSCHITZ, alpha_divergence) for name in GROUPS if name != "C4"),
        identity("α = 2, Γ sees points 0 and 1 only", "C4", few, alpha_divergence),
        identity("α = 2, Γ steep everywhere but at one place", "C4", uneven, alpha_divergence),
        identity("MMD, weighted kernel", "C4", ball(np.linspace(0.5, 2, POINTS)), discrepancy),
    ]


def random_identities(count: int, seed: int = 0) -> Iterator[Record]:
    """The theorem's cases on random distributions, groups, α and Lipschitz constants."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        q, p = random.dirichlet(np.ones(POINTS), 2)
        group = str(random.choice(list(GROUPS)))
        alpha, constant = random.choice([1.5, 2.0, 3.0, 5.0]), random.choice([0.2, 1.0, 3.0])
        critics = lipschitz(POINTS, float(constant))
        yield identity(
            f"α = {alpha:g}", group, critics, partial(alpha_divergence, alpha=float(alpha)), q, p
        )


def pushed(seed: int = 0) -> list[Record]:
    """How far images of noise under maps g are from invariant, ‖S g#P_Z - g#P_Z‖₁.

    Of every C4-equivariant map of Z_8, of 200 maps of pose and content, C4 x {0 … 4} with P_Z
    uniform in the pose, and of maps and noise that lack a premise.
    """
    random = np.random.default_rng(seed)
    noise = random.dirichlet(np.ones(POINTS))
    maps = equivariant_maps()
    others = list(random.integers(POINTS, size=(len(maps), POINTS)))
    content = random.dirichlet(np.ones(5))
    contents, poses = random.integers(POINTS, size=(200, 5)), 2 * np.arange(4)
    turned = [(c[None, :] + poses[:, None]).ravel() % POINTS for c in contents]
    uniform = np.tile(content / 4, 4)
    cases = {
        "equivariant, invariant noise on 8 points": (maps, MEAN @ noise),
        "equivariant, invariant noise of pose and content": (turned, uniform),
        "equivariant, noise not invariant": (maps, noise),
        "not equivariant, invariant noise": (others, MEAN @ noise),
    }
    rows: list[Record] = []
    for what, (own, weights) in cases.items():
        images = [np.bincount(g, weights, POINTS) for g in own]
        off = [float(np.abs(MEAN @ image - image).sum()) for image in images]
        rows.append({"what": what, "maps": len(own), "least": min(off), "most": max(off)})
    return rows


def equivariant_maps() -> list[Int[ndarray, " n"]]:
    """All maps of Z_8 that commute with translations by 2: the images of 0 and 1 are free."""
    place = np.arange(POINTS)
    return [
        (np.where(place % 2, odd, even) + place - place % 2) % POINTS
        for even, odd in product(range(POINTS), repeat=2)
    ]


def collapses(starts: int = 3) -> list[Record]:
    """One pose an orbit; descents with an invariant critic; full designs from the same starts."""
    data, invariant = MEAN @ Q, LIPSCHITZ.invariant(MEAN)
    one_pose = np.zeros(POINTS)
    one_pose[:2] = data.reshape(4, 2).sum(0)
    rows = [_collapse("one pose an orbit, as constructed", one_pose)]
    for k, start in enumerate(np.random.default_rng(0).normal(size=(starts, POINTS)), 1):
        flawed, full = descend(data, invariant, start), descend(data, invariant, start, MEAN)
        rows.append(_collapse(f"descent {k}, invariant critic, any generator", flawed))
        rows.append(_collapse(f"descent {k}, invariant critic and generator", full))
    return rows


def descend(data: Points, critics: Polyhedron, start: Points, mean: Square | None = None) -> Points:
    """P = softmax(logits) after descending D_2^Γ(data‖P), or D_2^Γ(data‖SP) and then SP.

    The gradient by P is -f*(γ - ν) at the best critic (Danskin).

    Arguments:
        mean: S of a generator that is invariant by design; None for one that is free.
    """
    outer = np.eye(len(start)) if mean is None else mean

    def loss(logits: Points) -> tuple[float, Points]:
        p = softmax(logits)
        found = alpha_divergence(data, outer @ p, critics)
        argument = torch.from_numpy(found.critic - found.shift)
        slope = -outer.T @ Alpha(alpha=2.0).conjugate(argument).numpy()
        return found.value, p * (slope - p @ slope)

    found = minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-9})
    return outer @ softmax(found.x)


def _collapse(what: str, generated: Points) -> Record:
    """What an invariant critic and any critic see of it; its mass by pose in both orbits."""
    data, rows = MEAN @ Q, generated.reshape(4, 2).T
    return {
        "what": what, "generated": generated.tolist(),
        "seen": alpha_divergence(data, generated, LIPSCHITZ.invariant(MEAN)).value,
        "true": alpha_divergence(data, generated, LIPSCHITZ).value,
        "distance": float(np.abs(data - generated).sum() / 2),
        "shares": (rows / rows.sum(1, keepdims=True)).tolist(),
    }  # fmt: skip
