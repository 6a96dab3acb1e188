r"""The theorems of structure-preserving GANs (Birrell et al. 2022) on eight points of a circle.

.. math:: S_\Sigma[\Gamma] \subset \Gamma \ \Rightarrow\
    D^\Gamma(S^\Sigma Q \| S^\Sigma P) = D^{\Gamma_{inv}}(Q \| P)

and: an equivariant map takes invariant noise to an invariant distribution. An invariant critic
alone sees no more than :math:`S^\Sigma P_g`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.optimize import minimize
from scipy.special import softmax

from lawful.symmetry.discrete import Reflections, Translations, permutations
from lawful.symmetry.group import Group
from lawful.theory.symmetry_finite import (
    Certified,
    Critics,
    Points,
    Square,
    alpha_divergence,
    ball_closed_under,
    conjugate,
    discrepancy,
    group_mean,
    lipschitz,
    seeing,
    transport,
)

POINTS = 8
Q = np.array([6, 5, 4, 1, 1, 1, 1, 1]) / 20
P = np.array([1, 1, 2, 1, 1, 3, 2, 9]) / 20
QUARTERS = Translations((POINTS,), (2,))
GROUPS: dict[str, Group] = {
    "C4": QUARTERS,
    "C2": Translations((POINTS,), (4,)),
    "C8": Translations((POINTS,), (1,)),
    "reflection": Reflections(),
    "D2": permutations([[4, 5, 6, 7, 0, 1, 2, 3], [7, 6, 5, 4, 3, 2, 1, 0]]),
}
LIPSCHITZ = lipschitz(POINTS)
AGREE = 1e-9
Divergence = Callable[[Points, Points, Critics], Certified]


@dataclass(frozen=True)
class Identity:
    """The four divergences that the theorem relates.

    Arguments:
        plain: D^Γ(Q‖P).
        invariant: D^Γ_inv(Q‖P).
        averaged: D^Γ(SQ‖SP).
        both: D^Γ_inv(SQ‖SP).
        gap: Largest distance between lower and upper bound of the four; 0 for closed forms.
        closed: Whether S_Σ[Γ] ⊂ Γ.
    """

    name: str
    group: str
    plain: float
    invariant: float
    averaged: float
    both: float
    gap: float
    closed: bool

    @property
    def apart(self) -> float:
        """Largest difference of the three that the theorem says are one."""
        three = (self.invariant, self.averaged, self.both)
        return max(three) - min(three)


def identity(
    name: str, group: str, critics: Critics, divergence: Divergence, q: Points = Q, p: Points = P
) -> Identity:
    """Compute the four for a polyhedron of critics."""
    mean = group_mean(GROUPS[group], len(q))
    invariant = critics.invariant(mean)
    found = [
        divergence(q, p, critics),
        divergence(q, p, invariant),
        divergence(mean @ q, mean @ p, critics),
        divergence(mean @ q, mean @ p, invariant),
    ]
    plain, hidden, averaged, both = (entry.value for entry in found)
    gap = max(entry.gap for entry in found)
    return Identity(name, group, plain, hidden, averaged, both, gap, critics.closed_under(mean))


def by_alpha(alpha: float) -> Divergence:
    """The divergence of the α-family."""
    return lambda q, p, critics: alpha_divergence(q, p, critics, alpha)


def kernel_identity(
    name: str, group: str, kernel: Square, q: Points = Q, p: Points = P
) -> Identity:
    """Compute the four for the unit ball of a kernel's space: MMD."""
    mean = group_mean(GROUPS[group], len(q))
    basis = np.unique(np.round(mean, 12), axis=0).T  # an orbit a column
    values = (
        discrepancy(q, p, kernel),
        discrepancy(q, p, kernel, basis),
        discrepancy(mean @ q, mean @ p, kernel),
        discrepancy(mean @ q, mean @ p, kernel, basis),
    )
    return Identity(name, group, *values, 0.0, ball_closed_under(kernel, mean))


def kernel(weights: Points | float = 1.0) -> Square:
    """w_i exp(-d(i, j)) w_j with the circular distance d."""
    places = np.arange(POINTS)
    forward = (places[:, None] - places[None, :]) % POINTS
    w = np.broadcast_to(weights, POINTS)
    return w[:, None] * np.exp(-np.minimum(forward, POINTS - forward)) * w[None, :]


def identities() -> list[Identity]:
    """Those the theorem covers, then those whose critics are not closed under the group's mean."""
    uneven = np.where(np.arange(POINTS) == 0, 0.1, 1.0)
    return [
        identity("α = 2", "C4", LIPSCHITZ, by_alpha(2)),
        *(identity(f"α = {a:g}", "C4", LIPSCHITZ, by_alpha(a)) for a in (1.5, 5, 10, 100)),
        identity("W1", "C4", LIPSCHITZ, transport),
        kernel_identity("MMD", "C4", kernel()),
        *(identity("α = 2", name, LIPSCHITZ, by_alpha(2)) for name in GROUPS if name != "C4"),
        identity("α = 2, Γ sees points 0 and 1 only", "C4",
                 seeing(LIPSCHITZ, np.arange(POINTS) < 2), by_alpha(2)),
        identity("α = 2, Γ steep everywhere but at one place", "C4", lipschitz(POINTS, uneven),
                 by_alpha(2)),
        kernel_identity("MMD, weighted kernel", "C4", kernel(np.linspace(0.5, 2, POINTS))),
    ]  # fmt: skip


def random_identities(count: int, seed: int = 0) -> Iterator[Identity]:
    """The theorem's cases on random distributions, groups, α and Lipschitz constants."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        q, p = random.dirichlet(np.ones(POINTS), 2)
        group = str(random.choice(list(GROUPS)))
        alpha, constant = random.choice([1.5, 2.0, 3.0, 5.0]), random.choice([0.2, 1.0, 3.0])
        critics = lipschitz(POINTS, float(constant))
        yield identity(f"α = {alpha:g}", group, critics, by_alpha(float(alpha)), q, p)


@dataclass(frozen=True)
class Pushed:
    """How far images of distributions under maps are from invariant: ‖S g#P_Z - g#P_Z‖₁.

    Arguments:
        maps: Number of maps.
        least, most: Over all of them.
    """

    what: str
    maps: int
    least: float
    most: float


def pushed(seed: int = 0) -> list[Pushed]:
    """Every C4-equivariant map of Z_8, those of a product space, and what is missing a premise."""
    random = np.random.default_rng(seed)
    noise = random.dirichlet(np.ones(POINTS))
    even = group_mean(QUARTERS, POINTS) @ noise
    theirs = equivariant_maps()
    others = list(random.integers(POINTS, size=(len(theirs), POINTS)))
    # C4 x {0 … 4}: pose and content, P_Z uniform in the pose.
    content = random.dirichlet(np.ones(5))
    contents = random.integers(POINTS, size=(200, 5))
    poses = 2 * np.arange(4)
    turned = [(c[None, :] + poses[:, None]).ravel() % POINTS for c in contents]
    return [
        _pushed("equivariant, invariant noise on 8 points", theirs, even),
        _pushed("equivariant, invariant noise of pose and content", turned,
                np.tile(content / 4, 4)),
        _pushed("equivariant, noise not invariant", theirs, noise),
        _pushed("not equivariant, invariant noise", others, even),
    ]  # fmt: skip


def equivariant_maps() -> list[Int[ndarray, " n"]]:
    """All maps of Z_8 that commute with translations by 2: the images of 0 and 1 are free."""
    place = np.arange(POINTS)
    return [
        (np.where(place % 2, odd, even) + place - place % 2) % POINTS
        for even, odd in product(range(POINTS), repeat=2)
    ]


def _pushed(what: str, maps: Sequence[ndarray], noise: Points) -> Pushed:
    mean = group_mean(QUARTERS, POINTS)
    images = [np.bincount(g, noise, POINTS) for g in maps]
    off = [float(np.abs(mean @ image - image).sum()) for image in images]
    return Pushed(what, len(maps), min(off), max(off))


@dataclass(frozen=True, eq=False)
class Collapse:
    """A generated distribution that descended a divergence to invariant data.

    Arguments:
        generated: P_g.
        seen: D^Γ_inv(Q‖P_g), what an invariant critic sees.
        true: D^Γ(Q‖P_g).
        distance: Total variation between Q and P_g.
    """

    what: str
    generated: Points
    seen: float
    true: float
    distance: float


def collapses(starts: int = 3) -> list[Collapse]:
    """One pose an orbit; descents with an invariant critic; full designs from the same starts."""
    mean = group_mean(QUARTERS, POINTS)
    data, hidden = mean @ Q, LIPSCHITZ.invariant(mean)
    first = np.zeros(POINTS)
    first[:2] = data.reshape(4, 2).sum(0)
    rows = [_collapse("one pose an orbit, as constructed", first)]
    random = np.random.default_rng(0)
    for k, start in enumerate(random.normal(size=(starts, POINTS)), 1):
        flawed = descend(data, hidden, start)
        rows.append(_collapse(f"descent {k}, invariant critic, any generator", flawed))
        full = descend(data, hidden, start, mean)
        rows.append(_collapse(f"descent {k}, invariant critic and generator", full))
    return rows


def descend(data: Points, critics: Critics, start: Points, mean: Square | None = None) -> Points:
    """P = softmax(logits) after descending D_2^Γ(data‖P), or D_2^Γ(data‖SP) and then SP.

    The gradient by P is -f*(γ - ν) at the best critic (Danskin).

    Arguments:
        mean: S of a generator that is invariant by design; None for one that is free.
    """
    outer = np.eye(len(start)) if mean is None else mean

    def loss(logits: Points) -> tuple[float, Points]:
        p = softmax(logits)
        found = alpha_divergence(data, outer @ p, critics)
        slope = -outer.T @ conjugate(found.critic - found.shift, 2.0)
        return found.value, p * (slope - p @ slope)

    found = minimize(loss, start, jac=True, method="BFGS", options={"gtol": 1e-9})
    return outer @ softmax(found.x)


def _collapse(what: str, generated: Points) -> Collapse:
    mean = group_mean(QUARTERS, POINTS)
    data = mean @ Q
    seen = alpha_divergence(data, generated, LIPSCHITZ.invariant(mean)).value
    true = alpha_divergence(data, generated, LIPSCHITZ).value
    return Collapse(what, generated, seen, true, float(np.abs(data - generated).sum() / 2))


def poses(generated: Points) -> Float[ndarray, "orbit pose"]:
    """Share of each orbit's mass by pose, of a distribution on Z_8 under C4."""
    rows = generated.reshape(4, 2).T
    return rows / rows.sum(1, keepdims=True)
