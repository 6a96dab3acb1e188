r"""The Cahn-Hilliard equation on periodic squares, by exponential time differencing.

.. math::
    c_t = \nabla^2 \mu,\qquad \mu = c^3 - c - \gamma \nabla^2 c,\qquad
    E(c) = \sum_i h^2 \left[\tfrac14 (c_i^2 - 1)^2 + \tfrac\gamma2 |\nabla c|_i^2\right]

(Cahn & Hilliard 1958). In Fourier space the fourth-order term and a stabilisation A are solved
exactly, the rest by the second-order Adams-Bashforth formula (ETD2 of Cox & Matthews, Journal of
Computational Physics 176 (2002) 430; the split: Ju, Zhang, Zhu & Du, Journal of Scientific
Computing 62 (2015) 431):

.. math::
    L = -k^2 (A + \gamma k^2),\qquad N = -k^2\, \widehat{(c^3 - (1 + A)\, c)},\\
    \hat c^{n+1} = e^{L\,dt}\, \hat c^n + dt\,\varphi_1(L\,dt)\, N^n
        + dt\,\varphi_2(L\,dt)\, (N^n - N^{n-1}),\\
    \varphi_1(z) = (e^z - 1) / z,\qquad \varphi_2(z) = (\varphi_1(z) - 1) / z

The first step has no past and is of first order, which damps the noise of a quench. Second order in
time, spectral in space, one evaluation of N per step. Mass is kept to rounding, since
nothing moves at k = 0. Where :math:`f'' = 3 c^2 - 1 \le 4A/3` all modes are bounded for any step;
that the energy does not grow is tested, not proven.

Domains coarsen as :math:`t^{1/3}` (Lifshitz & Slyozov 1961): their interfaces slow down as
:math:`t^{-2/3}`, and steps grow as :math:`t^{2/3}`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, inf, isfinite
from typing import Annotated

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from lawful.errors import InputError, StabilityError
from lawful.materials.fields import multiplicity, squared_wavenumbers
from lawful.materials.statistics import Field, Fraction
from lawful.typed import Positive, Within, check_fields

FIRST = 0.7  # step of a quench, in units of gamma, as the next
GROWTH = (16.0, 300.0)  # times between which steps grow
BLOCK = 8  # steps of one length: coefficients are computed once for them
LARGEST = 2.5  # |c| at an output time: phases are at 1
NEAR, TERMS = 0.25, 14  # |z| below which phi_2 is summed, and how far


@dataclass(frozen=True)
class CahnHilliard:
    """The equation on a square grid with spacing `spacing`.

    Arguments:
        gamma: Gradient coefficient; the interface c = tanh(x / sqrt(2 gamma)) sets its unit.
        spacing: Grid spacing, in the units of sqrt(gamma).
        stabilisation: A above.

    Raises:
        InputError: A coefficient is not positive.
    """

    gamma: Positive = 1.0
    spacing: Positive = 1.0
    stabilisation: Annotated[float, Within(0, 1e6)] = 1.5

    def __post_init__(self) -> None:
        check_fields(self, "Cahn-Hilliard: ")

    def squared_wavenumbers(self, like: Tensor) -> Float[Tensor, "rows half"]:
        """k^2 on the half spectrum of fields of this size, in their dtype."""
        found = squared_wavenumbers(tuple(like.shape[-2:]), self.spacing, like.dtype)
        return found.to(like.device)

    def energy(self, c: Float[Tensor, "*batch rows columns"]) -> Float[Tensor, "*batch"]:
        """The free energy E, the gradient taken spectrally."""
        well = (c.square() - 1).square().sum((-2, -1)) / 4
        spectrum = torch.fft.rfft2(c, norm="ortho").abs().square() * multiplicity(c.shape[-1]).to(c)
        slope = (spectrum * self.squared_wavenumbers(c)).sum((-2, -1))
        return self.spacing**2 * (well + self.gamma / 2 * slope)

    def tables(self, step: float, like: Tensor) -> list[Complex[Tensor, "rows half"]]:
        """What a step multiplies by: the spectrum of c, that of the well, and that of its past.

        Complex, with no imaginary part: products of one type take half the time.
        """
        k2 = self.squared_wavenumbers(like)
        decay, first, second = phi(-step * k2 * (self.stabilisation + self.gamma * k2))
        pull = step * k2 * second
        tables = (decay, -step * k2 * first - pull, pull)
        return [torch.complex(table, torch.zeros_like(table)) for table in tables]

    def well(self, c: Float[Tensor, "*batch rows columns"]) -> Complex[Tensor, "*batch rows half"]:
        """The spectrum of c^3 - (1 + A) c.

        Taken of the field: a half spectrum has redundant entries, and where rounding has made them
        differ, a linear term of the spectrum's own would let the invisible difference grow.
        """
        return torch.fft.rfft2(c.square().sub_(1 + self.stabilisation).mul_(c))


def phi(z: Float[Tensor, "*shape"]) -> tuple[Tensor, Tensor, Tensor]:
    """exp(z), phi_1(z) and phi_2(z) for z <= 0, to rounding.

    Near 0, where the quotients cancel (Kassam & Trefethen 2005), phi_2 is the sum of its series.
    """
    near, away = z > -NEAR, z.clamp(max=-NEAR)
    series = torch.ones_like(z)
    for n in range(TERMS, 2, -1):
        series = 1 + z / n * series
    first = torch.expm1(away) / away
    second = torch.where(near, series / 2, (first - 1) / away)
    return torch.exp(z), torch.where(near, 1 + z * second, first), second


def quench(
    rows: int, columns: int, mean: Fraction, generator: torch.Generator, *, noise: float = 0.1
) -> Field:
    """A mixed state of given mean composition with white noise of mean zero, float32."""
    white = noise * torch.randn(len(mean), rows, columns, generator=generator)
    return mean[:, None, None] + white - white.mean((-2, -1), keepdim=True)


def evolve(
    equation: CahnHilliard,
    initial: Float[Tensor, "*batch rows columns"],
    times: list[float],
    *,
    dt: float = FIRST,
) -> Iterator[Float[Tensor, "*batch rows columns"]]:
    """The fields at increasing `times`.

    Arguments:
        initial: Composition at time 0.
        times: From 0 on.
        dt: First step, in units of gamma; from t = 16 to 300 gamma steps grow as t^(2/3)
            (to 5 gamma by default), and no further, since small domains vanish as fast as before.

    Raises:
        InputError: A time is negative, they do not increase, or a value is not finite.
        StabilityError: At an output time the composition is beyond 2.5 times that of the phases.
    """
    if not 0 < dt < inf:
        raise InputError(f"Cahn-Hilliard: expected dt > 0, got {dt}")
    if not all(isfinite(time) and time >= 0 for time in times) or times != sorted(times):
        raise InputError(f"Cahn-Hilliard: expected increasing times from 0 on, got {times}")
    if not bool(torch.isfinite(initial).all()):
        raise InputError("Cahn-Hilliard: the initial composition is not finite")
    c, spectrum, last = initial, torch.fft.rfft2(initial), 1.0
    well = past = equation.well(c)
    for start, end in pairwise([0.0, *times]):
        for count, step in _blocks(start, end, dt, equation.gamma):
            keep, push, pull = equation.tables(step, initial)
            past = well + (past - well) * (step / last)  # of equal slope, one new step ago
            for _ in range(count):
                spectrum = spectrum.mul_(keep).addcmul_(well, push).addcmul_(past, pull)
                c = torch.fft.irfft2(spectrum, s=initial.shape[-2:])
                well, past = equation.well(c), well
            last = step
        if not float(c.abs().amax()) <= LARGEST:
            raise StabilityError(f"Cahn-Hilliard: composition beyond {LARGEST}; smaller dt")
        yield c


def _blocks(start: float, end: float, dt: float, unit: float) -> Iterator[tuple[int, float]]:
    """Numbers of equal steps that lead from start to end, and their lengths."""
    first, longest = GROWTH
    while start < end:
        step = dt * unit * (min(max(start / unit, first), longest) / first) ** (2 / 3)
        stop = min(start + BLOCK * step, end)
        count = max(1, ceil((stop - start) / step - 1e-6))
        yield count, (stop - start) / count
        start = stop
