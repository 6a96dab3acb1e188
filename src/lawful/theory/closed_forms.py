r"""The linear InvNet game block by block, in closed form.

A rotation splits the game into 2 x 2 blocks: undamped :math:`[[0, -1], [1, 0]]` off the motif,
damped :math:`[[\mu, -1], [1, 0]]` on it under the standard critic, and :math:`[\mu]` under the
projected one, whose critic is frozen there. Nothing here builds the game's matrices: spectral radii
come from the roots of each block's characteristic polynomial, bounds from their conditions.
"""

from cmath import sqrt
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from math import sqrt as root

import numpy as np

Roots = tuple[complex, complex]


def _quadratic(trace: complex, determinant: complex) -> Roots:
    """Eigenvalues of a 2 x 2 matrix."""
    part = sqrt(trace * trace / 4 - determinant)
    return trace / 2 + part, trace / 2 - part


def _slopes(mu: float, projected: bool) -> tuple[complex, ...]:
    """Eigenvalues of J on a block: of the block with weight mu, 0 for the undamped one."""
    return (complex(mu),) if projected else _quadratic(mu, 1)


Radius = Callable[[float, float, bool], float]


def _polynomial(p: Callable[[complex], complex]) -> Radius:
    """Of a method whose matrix is a polynomial of η J."""
    return lambda step, mu, projected: max(abs(p(step * s)) for s in _slopes(mu, projected))


def _optimistic(step: float, mu: float, projected: bool) -> float:
    pairs = (_quadratic(1 - 2 * step * s, -step * s) for s in _slopes(mu, projected))
    return max(abs(z) for pair in pairs for z in pair)


def _alternating(step: float, mu: float, projected: bool) -> float:
    if projected:
        return abs(1 - step * mu)
    return max(map(abs, _quadratic(2 - step * mu - step**2, 1 - step * mu)))


def _three_way(step: float, mu: float, projected: bool) -> float:
    left = 1 - step * mu
    return abs(left) if projected else max(map(abs, _quadratic(left * (1 - step**2) + 1, left)))


def _algorithm_1(step: float, mu: float, projected: bool) -> float:
    left = 1 - step * mu
    if projected:
        return left**2
    return max(map(abs, _quadratic(left**2 + 1 - step**2, left**2)))


def _consensus(step: float, mu: float, projected: bool) -> float:
    """With the default weight, γ = ½."""
    if projected:
        return abs(1 - step * (mu + mu**2 / 2))
    a, b, c, d = mu + (mu**2 + 1) / 2, -1 - mu / 2, 1 - mu / 2, 0.5  # J + ½ JᵀJ
    trace = 2 - step * (a + d)
    return max(map(abs, _quadratic(trace, (1 - step * a) * (1 - step * d) - step**2 * b * c)))


@dataclass(frozen=True)
class ClosedForm:
    """What is known of a method on one block at a time.

    Arguments:
        radius: (step, mu, projected) to the spectral radius; mu = 0 is the undamped block.
        undamped: Largest stable step off the motif; None where no closed form is known.
        damped, projected: Largest stable step on it, as functions of mu, for the two critics.
    """

    radius: Radius
    undamped: float | None
    damped: Callable[[float], float] | None
    projected: Callable[[float], float]

    def spectral_radius(
        self, step: float, mu: float, *, projected: bool, motif: int, dimension: int
    ) -> float:
        """Of the whole game with |Omega| = `motif`: the largest of its blocks' radii."""
        radii = [self.radius(step, mu, projected)] if motif else []
        radii += [self.radius(step, 0.0, False)] if motif < dimension else []
        return max(radii)

    def bound(self, mu: float, *, projected: bool, motif: int, dimension: int) -> float | None:
        """Largest stable step of the whole game; None where no closed form is known."""
        on = self.projected if projected else self.damped
        if self.undamped is None or (on is None and motif):
            return None
        limits = [on(mu)] if on is not None and motif else []
        return min(limits + ([self.undamped] if motif < dimension else []))


def _least_root(limit: float, *coefficients: float) -> float:
    """The least positive root of a polynomial of the step, but at most the limit."""
    roots = np.roots(coefficients)
    return min([limit, *(float(r.real) for r in roots if abs(r.imag) < 1e-9 and r.real > 0)])


def _three_way_damped(mu: float) -> float:
    """Both ημ < 1 and η² < 2(2 - ημ)/(1 - ημ), i.e. μη³ - η² - 2μη + 4 > 0, below 1/μ."""
    return _least_root(1 / mu, mu, -1.0, -2 * mu, 4.0)


def _algorithm_1_damped(mu: float) -> float:
    """Both ημ < 2 and η² < 2 + 2(1 - ημ)², i.e. (2μ² - 1)η² - 4μη + 4 > 0."""
    return _least_root(2 / mu, 2 * mu**2 - 1, -4 * mu, 4.0)


def _extragradient_damped(mu: float) -> float:
    if mu >= 2:
        return (mu - root(mu * mu - 4)) / 2
    return _least_root(inf, 1.0, -mu, mu**2 - 1, -mu)


CLOSED_FORMS: dict[str, ClosedForm] = {
    "simultaneous": ClosedForm(
        _polynomial(lambda s: 1 - s),
        0.0,
        lambda mu: mu if mu <= 2 else mu - root(mu * mu - 4),
        lambda mu: 2 / mu,
    ),
    "alternating": ClosedForm(
        _alternating, 2.0, lambda mu: root(mu * mu + 4) - mu, lambda mu: 2 / mu
    ),
    "algorithm 1": ClosedForm(_algorithm_1, 2.0, _algorithm_1_damped, lambda mu: 2 / mu),
    "three-way": ClosedForm(_three_way, 2.0, _three_way_damped, lambda mu: 2 / mu),
    "extragradient": ClosedForm(
        _polynomial(lambda s: 1 - s + s * s), 1.0, _extragradient_damped, lambda mu: 1 / mu
    ),
    "optimistic": ClosedForm(_optimistic, 1 / root(3), None, lambda mu: 2 / (3 * mu)),
    "consensus": ClosedForm(_consensus, 0.8, None, lambda mu: 2 / (mu + mu * mu / 2)),
    "heun": ClosedForm(
        _polynomial(lambda s: 1 - s + s * s / 2), 0.0, None, lambda mu: 2 / mu
    ),
    "rk4": ClosedForm(
        _polynomial(lambda s: 1 - s + s**2 / 2 - s**3 / 6 + s**4 / 24),
        2 * root(2), None, lambda mu: 2.785293563405282 / mu,
    ),
    "lookahead": ClosedForm(
        _polynomial(lambda s: 0.5 + 0.5 * (1 - s) ** 5),
        None, None, lambda mu: (1 + 3 ** 0.2) / mu,
    ),
}  # fmt: skip
