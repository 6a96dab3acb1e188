r"""A solver in time for conservation laws.

`strang` advances :math:`u_t = E(u) + D A u` by half a step of diffusion, a step of SSP-RK3
(Shu & Osher 1988) for the explicit part :math:`E`, half a step of diffusion. The diffusion is exact
in time: the second difference A is diagonalised once, so a step is stable for every
:math:`D h^{-2} dt`. Order 3 in time without diffusion, 2 with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError, StabilityError
from lawful.pde.equations import Coefficients, ConservationLaw
from lawful.pde.grid import Boundary, Grid, pad

Step = Callable[[Tensor], Tensor]


def ssp_rk3(tendency: Step, dt: float) -> Step:
    """Strong-stability-preserving Runge-Kutta method of third order, three stages."""

    def step(u: Tensor) -> Tensor:
        first = u + dt * tendency(u)
        second = (3 * u + first + dt * tendency(first)) / 4
        return (u + 2 * second + 2 * dt * tendency(second)) / 3

    return step


@dataclass(frozen=True)
class Diffusion:
    r"""The second difference :math:`A u + b` of a grid and its two ends, diagonalised.

    Arguments:
        eigenvalues: Those of A, not positive.
        modes, inverse: Eigenvectors in columns, and their transpose.
        shift: The vector b, which comes from the values at the ends.
    """

    eigenvalues: Float[Tensor, " cells"]
    modes: Float[Tensor, "cells cells"]
    inverse: Float[Tensor, "cells cells"]
    shift: Float[Tensor, " cells"]

    @classmethod
    def of(cls, equation: ConservationLaw, like: Tensor) -> "Diffusion":
        """That of an equation's grid and ends, in the dtype and on the device of `like`.

        Raises:
            InputError: A is not symmetric, which no boundary of this library makes it.
        """
        return _diagonalised(equation.grid, equation.left, equation.right, like.dtype, like.device)

    def flow(self, diffusivity: Float[Tensor, "*#batch 1"] | float, dt: float) -> Step:
        """The exact map from u(t) to u(t + dt) of u_t = D (A u + b)."""
        exponent = diffusivity * self.eigenvalues * dt
        decay = exponent.exp()
        # (exp(z) - 1) / lambda, whose limit at lambda = 0 is D dt
        small = self.eigenvalues.abs() < 1e-12
        gain = torch.where(
            small, diffusivity * dt, exponent.expm1() / self.eigenvalues.masked_fill(small, 1.0)
        )
        forcing = gain * (self.shift @ self.modes) if bool(self.shift.any()) else None

        def step(u: Tensor) -> Tensor:
            spectrum = (u @ self.modes) * decay
            return (spectrum if forcing is None else spectrum + forcing) @ self.inverse

        return step

    def theta_step(
        self, diffusivity: Float[Tensor, "*#batch 1"] | float, dt: float, theta: float
    ) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        r"""One step of the :math:`\theta`-method for u_t = D A u + s, homogeneous boundaries.

        The returned map takes the spectrum of u and the source integrated over the step, dt s,
        and solves (1 - theta dt D A) u' = (1 + (1 - theta) dt D A) u + dt s for the spectrum
        of u' and u' itself.
        """
        exponent = diffusivity * self.eigenvalues * dt
        old, new = 1 + (1 - theta) * exponent, 1 / (1 - theta * exponent)

        def step(spectrum: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
            advanced = (spectrum * old + source @ self.modes) * new
            return advanced, advanced @ self.inverse

        return step


@lru_cache(maxsize=32)
def _diagonalised(
    grid: Grid, left: Boundary, right: Boundary, dtype: torch.dtype, device: torch.device
) -> Diffusion:
    """Cached by what A depends on, so that an equation may hold tensors."""

    def difference(u: Tensor) -> Tensor:
        return pad(u, 1, left, right).diff(n=2, dim=-1) / grid.spacing**2

    shift = difference(torch.zeros(grid.cells, dtype=torch.float64))
    matrix = (difference(torch.eye(grid.cells, dtype=torch.float64)) - shift).T
    if not torch.allclose(matrix, matrix.T):
        raise InputError("diffusion: this pair of boundary conditions is not self-adjoint")
    eigenvalues, modes = torch.linalg.eigh(matrix)
    parts = (eigenvalues, modes, modes.T.contiguous(), shift)
    return Diffusion(*(part.to(device, dtype) for part in parts))


def strang(equation: ConservationLaw, c: Coefficients, dt: float, like: Tensor) -> Step:
    """Diffusion over dt/2, flux and source over dt, diffusion over dt/2."""
    advance = ssp_rk3(lambda u: equation.explicit(u, c), dt)
    diffusivity = equation.diffusivity(c)
    if not bool(torch.as_tensor(diffusivity).any()):
        return advance
    diffuse = Diffusion.of(equation, like).flow(diffusivity, dt / 2)
    return lambda u: diffuse(advance(diffuse(u)))


def solve(
    equation: ConservationLaw,
    initial: Float[Tensor, "*batch cells"],
    condition: Mapping[str, Tensor],
    times: Float[Tensor, " times"],
    *,
    courant: float = 0.45,
    dt: float | None = None,
) -> Float[Tensor, "*batch times cells"]:
    """Solutions at `times` from cell averages at `times[0]`; SSP-RK3 and exact diffusion.

    Arguments:
        condition: The equation's parameters by name, each of the shape `batch`.
        times: Increasing; the first is the time of `initial`.
        courant: The step is the largest that divides the interval evenly within this Courant
            number of the fastest wave between the least and the greatest of all values.
        dt: A step of the caller's own instead; it is divided to fit the intervals evenly.

    Raises:
        StabilityError: The step exceeds Courant number 1 at some time.
        InputError: A parameter is missing, a diffusivity negative or a value not finite.
    """
    c = equation.coefficients(condition, initial)
    _check_inputs(equation, initial, c)
    spacing = equation.grid.spacing
    largest = courant * spacing / max(equation.fastest(initial, c), 1e-12) if dt is None else dt
    u, history = initial, [initial]
    for interval in times.diff().tolist():
        count = max(1, ceil(interval / largest - 1e-9))
        step = strang(equation, c, interval / count, initial)
        for _ in range(count):
            speed = float(equation.speed(u.detach(), c).abs().amax())
            number = speed * interval / count / spacing
            if not number <= 1:
                raise StabilityError(
                    f"solver: Courant number {number:.3g} is above 1; take a smaller step"
                )
            u = step(u)
        history.append(u)
    return torch.stack(history, -2)


def _check_inputs(equation: ConservationLaw, initial: Tensor, c: Coefficients) -> None:
    for name, value in {"the initial condition": initial, **c}.items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"solver: {name} is not finite")
    diffusivity = torch.as_tensor(equation.diffusivity(c))
    if bool((diffusivity < 0).any()):
        raise InputError(f"solver: diffusivity {float(diffusivity.min()):g} is negative")
