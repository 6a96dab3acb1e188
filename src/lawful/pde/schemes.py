r"""Reconstruction of face states from cell averages.

A scheme maps averages to the two states :math:`u^-_{i+1/2}, u^+_{i+1/2}` at every face; a monotone
flux of these states gives a conservative finite-volume method. First order (Godunov 1959) is
monotone; MUSCL (van Leer 1979) is second order with a smooth limiter; WENO5 (Jiang & Shu 1996) is
fifth order on smooth fields.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor


class FaceStates(NamedTuple):
    """States on the left and on the right of each of the `cells + 1` faces."""

    left: Float[Tensor, "*batch faces"]
    right: Float[Tensor, "*batch faces"]


class Scheme(ABC):
    """A reconstruction with its declared order on smooth fields and its ghost-cell width."""

    order: ClassVar[int]
    width: ClassVar[int]

    @abstractmethod
    def states(self, padded: Float[Tensor, "*batch padded"]) -> FaceStates:
        """Face states of averages that carry `width` ghost cells at each end."""


@dataclass(frozen=True)
class FirstOrder(Scheme):
    """Piecewise constant."""

    order: ClassVar[int] = 1
    width: ClassVar[int] = 1

    def states(self, padded: Tensor) -> FaceStates:
        return FaceStates(padded[..., :-1], padded[..., 1:])


@dataclass(frozen=True)
class Muscl(Scheme):
    """Piecewise linear with van Leer's harmonic slope, zero at extrema."""

    order: ClassVar[int] = 2
    width: ClassVar[int] = 2

    def states(self, padded: Tensor) -> FaceStates:
        step = padded.diff(dim=-1)
        product = (step[..., :-1] * step[..., 1:]).clamp_min(0)
        total = step[..., :-1] + step[..., 1:]
        slope = 2 * product * total / (total * total).clamp_min(1e-20)
        inner = padded[..., 1:-1]
        return FaceStates((inner + slope / 2)[..., :-1], (inner - slope / 2)[..., 1:])


@dataclass(frozen=True)
class Weno5(Scheme):
    r"""Convex combination of three quadratics, weights :math:`d_k / (\varepsilon + \beta_k)^2`.

    Arguments:
        epsilon: Regularisation of the weights; larger values make the residual smoother to train
            against, smaller ones suppress oscillations more strictly.
    """

    epsilon: float = 1e-6

    order: ClassVar[int] = 5
    width: ClassVar[int] = 3

    def states(self, padded: Tensor) -> FaceStates:
        cells = padded.shape[-1] - 5
        a, b, c, d, e, f = (padded[..., k : k + cells] for k in range(6))
        return FaceStates(self._upwind(a, b, c, d, e), self._upwind(f, e, d, c, b))

    def _upwind(self, a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor) -> Tensor:
        """State at the face between `c` and `d`, seen from `c`."""
        bend_left, bend, bend_right = a - 2 * b + c, b - 2 * c + d, c - 2 * d + e
        smoothness = (
            13 / 12 * bend_left**2 + (a - 4 * b + 3 * c) ** 2 / 4,
            13 / 12 * bend**2 + (b - d) ** 2 / 4,
            13 / 12 * bend_right**2 + (3 * c - 4 * d + e) ** 2 / 4,
        )
        weights = [
            share / (self.epsilon + beta) ** 2
            for share, beta in zip((0.1, 0.6, 0.3), smoothness, strict=True)
        ]
        left = (2 * a - 7 * b + 11 * c) / 6
        middle = (-b + 5 * c + 2 * d) / 6
        right = (2 * c + 5 * d - e) / 6
        return (weights[0] * left + weights[1] * middle + weights[2] * right) / sum(weights)
