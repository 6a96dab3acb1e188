"""Divergences between samples that need no critic: kernel discrepancies and optimal transport.

Everything is computed in double precision, whatever the samples are in.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import ceil, inf, isfinite, log, log2, nan
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.divergences.penalties import Samples, Scalar, check_pair
from lawful.errors import InputError, LawfulWarning
from lawful.typed import Positive, Within, check_fields

__all__ = ["MMD", "Energy", "Gaussian", "Polynomial", "RationalQuadratic", "Sinkhorn"]

ROUNDS = 1_000  # of Sinkhorn's iteration at most, at every weight of the entropy
BLOCK = 1_024  # rows of a kernel's matrix at a time
Kernel = Callable[[Tensor, Tensor], Tensor]  # (n, entry), (m, entry) to k(x_i, y_j), (n, m)


def double(x: Tensor) -> Tensor:
    """In double precision, on the processor where the device has none (Apple's)."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def squared_distances(
    x: Float[Tensor, "n entry"], y: Float[Tensor, "m entry"]
) -> Float[Tensor, "n m"]:
    """‖x_i - y_j‖², in double precision and about a common centre.

    They are differences of squared norms, which is fast and twice differentiable. Single precision
    would leave no digits to a short distance, and a root's slope is largest there.
    """
    x, y = double(x), double(y)
    centre = x.detach().mean(0)
    x, y = x - centre, y - centre
    cross = x @ y.T
    return (x.square().sum(1)[:, None] + y.square().sum(1)[None, :] - 2 * cross).clamp_min(0)


@dataclass(frozen=True)
class Radial:
    """A kernel of the distance: the sum over `scales` s of a function of ‖x - y‖² and s.

    Raises:
        InputError: A scale is not above 0, or there is none.
    """

    scales: tuple[Positive, ...] = (1.0,)
    of: Callable[[Tensor, float], Tensor] = field(kw_only=True, repr=False)

    def __post_init__(self) -> None:
        check_fields(self, "kernel ")
        if not self.scales:
            raise InputError("kernel scales: expected numbers above 0, got none")

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        square = squared_distances(x, y)
        return torch.stack([self.of(square, scale) for scale in self.scales]).sum(0)


def _root(square: Tensor, _scale: float) -> Tensor:
    return -square.clamp_min(torch.finfo(square.dtype).tiny).sqrt()  # of slope 0 at 0


# exp(-‖x - y‖² / 2s²)
Gaussian = partial(Radial, of=lambda square, s: torch.exp(-square / (2 * s**2)))
# -‖x - y‖, of the energy distance (Szekely & Rizzo 2013); it needs no scale
Energy = partial(Radial, of=_root)


def RationalQuadratic(shapes: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 5.0)) -> Radial:  # noqa: N802
    """(1 + ‖x - y‖² / 2a)^-a, summed over `shapes` a (Binkowski et al. 2018)."""
    return Radial(shapes, of=lambda square, a: (1 + square / (2 * a)).pow(-a))


@dataclass(frozen=True)
class Polynomial:
    """(⟨x, y⟩ / dimension + 1)^degree, of the kernel distance (Binkowski et al. 2018)."""

    degree: int = 3

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return (double(x) @ double(y).T / x.shape[1] + 1).pow(self.degree)


@dataclass(frozen=True)
class MMD:
    """Squared maximum mean discrepancy, the unbiased estimate (Gretton et al. 2012, eq. 3).

    Kernels are taken by blocks of rows: where no gradient is asked for, memory grows with the
    number of samples, not with its square.

    Raises:
        InputError: Fewer than two samples on a side, samples of different shapes, or integers.
    """

    kernel: Kernel = field(default_factory=Energy)

    def __call__(self, real: Samples, fake: Samples) -> Scalar:
        x, y = _rows("MMD", real, fake, 2)
        n, m = len(x), len(y)
        within = self._sum(x) / (n * (n - 1)) + self._sum(y) / (m * (m - 1))
        return (within - 2 * self._sum(x, y) / (n * m)).to(fake)

    def _sum(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Of all kernels of two sets, or of all of different samples of one."""
        total = x.new_zeros(())
        for first in range(0, len(x), BLOCK):
            gram = self.kernel(x[first : first + BLOCK], x if y is None else y)
            own = gram.diagonal(first).sum() if y is None else 0.0
            total = total + (gram.sum() - own)
        return total


def _rows(name: str, real: Tensor, fake: Tensor, least: int) -> tuple[Tensor, Tensor]:
    check_pair(name, real, fake, least)
    x, y = (double(z).reshape(len(z), -1) for z in (real, fake))
    return x, y


@dataclass(frozen=True)
class Sinkhorn:
    r"""The debiased entropic divergence of the cost c = ‖x - y‖² / 2 (Feydy et al. 2019).

    .. math:: T(P, Q) - \tfrac12 T(P, P) - \tfrac12 T(Q, Q), \qquad T(P, Q) = \min_\pi
        \langle \pi, c \rangle + \epsilon \operatorname{KL}(\pi \| P \otimes Q)

    The entropy's weight is halved from the largest cost down to its own value. At each, potentials
    are updated until the plan nearly has its marginals, a thousand times at most; a warning tells
    the error that is left. Gradients hold the plan constant, which is exact at convergence
    (Danskin); second derivatives leave out the plan's own.

    Arguments:
        blur: Length below which transport is smeared; the entropy's weight ε is its square.
        tolerance: Mean relative error of the plan's marginals; at 0.01 the value is within 0.5 %.

    Raises:
        InputError: No sample on a side, samples of different shapes, or integers.
    """

    blur: Annotated[float, Within(1e-100, 1e30)] = 0.05  # its square is a number above 0
    tolerance: Annotated[float, Within(0, 1, above=True, below=True)] = 0.01

    def __post_init__(self) -> None:
        check_fields(self, "sinkhorn ")

    def __call__(self, real: Samples, fake: Samples) -> Scalar:
        x, y = _rows("sinkhorn", real, fake, 1)
        across, one, other = (self._transport(*pair) for pair in ((x, y), (x, x), (y, y)))
        return (across - (one + other) / 2).to(fake)

    def _transport(self, x: Tensor, y: Tensor) -> Tensor:
        """T of two sets of samples of equal weights, by its dual."""
        cost, weight = squared_distances(x, y) / 2, self.blur**2
        if not isfinite(float(cost.detach().max())):
            return cost.sum() * nan
        with torch.no_grad():
            f, g = _potentials(cost, weight, self.tolerance)
            plan = ((f[:, None] + g - cost) / weight).exp() / cost.numel()
        return f.mean() + g.mean() + (plan * (cost - cost.detach())).sum()


def _potentials(cost: Tensor, weight: float, tolerance: float) -> tuple[Tensor, Tensor]:
    """Dual potentials of entropic transport; the rows' marginal is exact."""
    halvings = max(0, ceil(log2(max(float(cost.max()), weight) / weight)))
    f, error = cost.new_zeros(len(cost)), inf
    for level in (weight * 2.0**k for k in range(halvings, -1, -1)):
        for _ in range(ROUNDS):
            g = _softmin(cost.T, f, level)
            before, f = f, _softmin(cost, g, level)
            # What the rows of the plan before this update summed to, relative to what they should.
            error = float(((before - f) / level).expm1().abs().mean())
            if error <= tolerance:
                break
    if error > tolerance:
        said = f"sinkhorn: marginals off by {error:.1g} after {ROUNDS} updates; enlarge blur"
        warnings.warn(f"{said} or tolerance", LawfulWarning, stacklevel=4)
    return f, g


def _softmin(cost: Tensor, potential: Tensor, weight: float) -> Tensor:
    """-ε log mean exp((g - c) / ε) over columns."""
    means = ((potential - cost) / weight).logsumexp(1) - log(cost.shape[1])
    return -weight * means
