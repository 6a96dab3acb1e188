r"""The Cahn-Hilliard equation on periodic squares, by a stabilised semi-implicit Fourier method.

.. math::
    c_t = \nabla^2 \mu,\qquad \mu = c^3 - c - \gamma \nabla^2 c,\qquad
    E(c) = \sum_i h^2 \left[\tfrac14 (c_i^2 - 1)^2 + \tfrac\gamma2 |\nabla c|_i^2\right]

(Cahn & Hilliard 1958). A step treats the fourth-order term and the stabilisation
:math:`A \nabla^2 (c^{n+1} - c^n)` implicitly, the double well explicitly (Zhu, Chen, Shen & Tikare
1999; Xu & Tang 2006):

.. math::
    (1 + A\,dt\,k^2 + \gamma\,dt\,k^4)\, \hat c^{n+1} =
        (1 + A\,dt\,k^2)\, \hat c^n - dt\,k^2\, \widehat{(c^3 - c)}^n

First order in time, spectral in space. Mass is kept to rounding, since nothing moves at k = 0; the
energy does not grow for any step as long as :math:`A \ge \max |3 c^2 - 1| / 2`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, isfinite

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError, StabilityError

LIMIT = 1.29  # of |c| at which A = 2 still bounds (3 c^2 - 1)/2
REFRESH = 16  # steps between transforms of the field itself


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

    gamma: float = 1.0
    spacing: float = 1.0
    stabilisation: float = 2.0

    def __post_init__(self) -> None:
        if not (0 < self.gamma < inf and 0 < self.spacing < inf and 0 <= self.stabilisation < inf):
            raise InputError(f"Cahn-Hilliard: expected positive coefficients, got {self}")

    def squared_wavenumbers(
        self, like: Float[Tensor, "*batch rows columns"]
    ) -> Float[Tensor, "rows half"]:
        """k^2 on the half spectrum of fields of this size, in their dtype."""
        rows, columns = like.shape[-2:]
        options = {"d": self.spacing, "dtype": like.dtype, "device": like.device}
        k = 2 * torch.pi * torch.fft.fftfreq(rows, **options)
        half = 2 * torch.pi * torch.fft.rfftfreq(columns, **options)
        return k[:, None].square() + half[None, :].square()

    def energy(self, c: Float[Tensor, "*batch rows columns"]) -> Float[Tensor, "*batch"]:
        """The free energy E, the gradient taken spectrally."""
        well = (c.square() - 1).square().sum((-2, -1)) / 4
        spectrum = torch.fft.rfft2(c, norm="ortho").abs().square()
        weight = torch.full((spectrum.shape[-1],), 2.0, dtype=c.dtype, device=c.device)
        weight[0] = 1.0
        if c.shape[-1] % 2 == 0:
            weight[-1] = 1.0
        slope = (spectrum * weight * self.squared_wavenumbers(c)).sum((-2, -1))
        return self.spacing**2 * (well + self.gamma / 2 * slope)

    def step(
        self, dt: float, like: Float[Tensor, "*batch rows columns"]
    ) -> Callable[[Tensor], Tensor]:
        """The map from c(t) to c(t + dt) for fields of the size and dtype of `like`."""
        keep, push = self.factors(dt, like)
        size = like.shape[-2:]

        def step(c: Tensor) -> Tensor:
            cubed = torch.fft.rfft2(c * c * c).mul_(push)
            return torch.fft.irfft2(torch.fft.rfft2(c).mul_(keep).add_(cubed), s=size)

        return step

    def factors(
        self, dt: float, like: Float[Tensor, "*batch rows columns"]
    ) -> tuple[Float[Tensor, "rows half"], Float[Tensor, "rows half"]]:
        """What a step multiplies the spectra of c and of c^3 by, to be added.

        Raises:
            InputError: The time step is not positive.
        """
        if not 0 < dt < inf:
            raise InputError(f"Cahn-Hilliard: expected dt > 0, got {dt}")
        k2 = self.squared_wavenumbers(like)
        stiff = 1 + self.stabilisation * dt * k2
        below = stiff + self.gamma * dt * k2.square()
        return (stiff + dt * k2) / below, -dt * k2 / below


def quench(
    rows: int,
    columns: int,
    mean: Float[Tensor, " batch"],
    generator: torch.Generator,
    *,
    noise: float = 0.1,
) -> Float[Tensor, "batch rows columns"]:
    """A mixed state of given mean composition with white noise of mean zero, float32."""
    white = noise * torch.randn(len(mean), rows, columns, generator=generator)
    return mean[:, None, None] + white - white.mean((-2, -1), keepdim=True)


def evolve(
    equation: CahnHilliard,
    initial: Float[Tensor, "*batch rows columns"],
    times: list[float],
    *,
    dt: float = 0.25,
) -> Iterator[Float[Tensor, "*batch rows columns"]]:
    """The fields at increasing `times`, each a multiple of `dt` up to rounding.

    The spectrum is carried along, so that a step is one transform there and one back. It is taken
    anew now and then: a half spectrum has redundant entries, and where rounding has made them
    differ, the difference is invisible to the field and grows without bound.

    Raises:
        InputError: A time is negative or not a multiple of `dt`, they do not increase, or a value
            is not finite.
        StabilityError: At an output time the composition is beyond twice the range in which the
            scheme with A = 2 is stable.
    """
    if not 0 < dt < inf:
        raise InputError(f"Cahn-Hilliard: expected dt > 0, got {dt}")
    if not all(isfinite(time) and time >= 0 for time in times) or times != sorted(times):
        raise InputError(f"Cahn-Hilliard: expected increasing times from 0 on, got {times}")
    steps = [round(time / dt) for time in times]
    if any(abs(n - time / dt) > 1e-3 for n, time in zip(steps, times, strict=True)):
        raise InputError(f"Cahn-Hilliard: expected multiples of dt = {dt}, got {times}")
    if not bool(torch.isfinite(initial).all()):
        raise InputError("Cahn-Hilliard: the initial composition is not finite")
    keep, push = equation.factors(dt, initial)
    c, spectrum, done = initial, torch.fft.rfft2(initial), 0
    for step in steps:
        for number in range(done, step):
            if number % REFRESH == 0:
                spectrum = torch.fft.rfft2(c)
            cubed = torch.fft.rfft2(c * c * c).mul_(push)
            spectrum = spectrum.mul_(keep).add_(cubed)
            c = torch.fft.irfft2(spectrum, s=initial.shape[-2:])
        done = step
        if not float(c.abs().amax()) <= 2 * LIMIT:
            raise StabilityError(f"Cahn-Hilliard: composition beyond {2 * LIMIT}; smaller dt")
        yield c
