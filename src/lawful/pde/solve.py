r"""Time stepping: an equation with explicit and implicit terms, and a step `dt`, give a step.

`strang` advances :math:`u_t = E(u) + \nu I u` by half a step of diffusion, a step of SSP-RK3
(Shu & Osher 1988) for :math:`E`, half a step of diffusion. The diffusion is exact in time: the
matrix of :math:`I` is diagonalised once, so a step is stable for every :math:`\nu h^{-2} dt`.
Order 3 in time without viscosity, 2 with it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError, StabilityError
from lawful.pde.equations import Burgers

Step = Callable[[Tensor], Tensor]


def ssp_rk3(tendency: Step, dt: float) -> Step:
    """Strong-stability-preserving Runge-Kutta method of third order, three stages."""

    def step(u: Tensor) -> Tensor:
        first = u + dt * tendency(u)
        second = (3 * u + first + dt * tendency(first)) / 4
        return (u + 2 * second + 2 * dt * tendency(second)) / 3

    return step


def forward_euler(tendency: Step, dt: float) -> Step:
    """Explicit Euler method."""
    return lambda u: u + dt * tendency(u)


@dataclass(frozen=True)
class Diffusion:
    r"""Exact flow of :math:`u_t = \nu (A u + b)` for the diffusive term :math:`A u + b`.

    Arguments:
        equation: Its `implicit` term is diagonalised in float64.
    """

    eigenvalues: Float[Tensor, " cells"]
    modes: Float[Tensor, "cells cells"]
    inverse: Float[Tensor, "cells cells"]
    shift: Float[Tensor, " cells"]

    @classmethod
    def of(cls, equation: Burgers, like: Tensor) -> "Diffusion":
        """Diagonalise `equation.implicit` once for each dtype and device, those of `like`."""
        return cls._cached(equation, like.dtype, like.device)

    @classmethod
    @lru_cache(maxsize=32)
    def _cached(cls, equation: Burgers, dtype: torch.dtype, device: torch.device) -> "Diffusion":
        cells = equation.grid.cells[0]
        shift = equation.implicit(torch.zeros(cells, dtype=torch.float64))
        matrix = (equation.implicit(torch.eye(cells, dtype=torch.float64)) - shift).T
        if not torch.allclose(matrix, matrix.T):
            raise InputError("diffusion: this pair of boundary conditions is not self-adjoint")
        eigenvalues, modes = torch.linalg.eigh(matrix)
        parts = (eigenvalues, modes, modes.T.contiguous(), shift)
        return cls(*(part.to(device, dtype) for part in parts))

    def flow(self, viscosity: Float[Tensor, "*#batch 1"], dt: float) -> Step:
        """The map from u(t) to u(t + dt)."""
        exponent = viscosity * self.eigenvalues * dt
        decay = exponent.exp()
        # (exp(z) - 1) / lambda, whose limit at lambda = 0 is viscosity * dt
        small = self.eigenvalues.abs() < 1e-12
        gain = torch.where(
            small, viscosity * dt, exponent.expm1() / self.eigenvalues.masked_fill(small, 1.0)
        )
        forcing = gain * (self.shift @ self.modes) if bool(self.shift.any()) else None

        def step(u: Tensor) -> Tensor:
            spectrum = (u @ self.modes) * decay
            return (spectrum if forcing is None else spectrum + forcing) @ self.inverse

        return step

    def theta_step(
        self, viscosity: Float[Tensor, "*#batch 1"], dt: float, theta: float
    ) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        r"""One step of the :math:`\theta`-method for u_t = nu A u + s, homogeneous boundaries.

        The returned map takes the spectrum of u and the source integrated over the step, dt s,
        and solves (1 - theta dt nu A) u' = (1 + (1 - theta) dt nu A) u + dt s for the spectrum
        of u' and u' itself.
        """
        exponent = viscosity * self.eigenvalues * dt
        old, new = 1 + (1 - theta) * exponent, 1 / (1 - theta * exponent)

        def step(spectrum: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
            advanced = (spectrum * old + source @ self.modes) * new
            return advanced, advanced @ self.inverse

        return step


def strang(
    equation: Burgers, viscosity: Float[Tensor, "*#batch 1"], dt: float, like: Tensor
) -> Step:
    """Diffusion over dt/2, advection over dt, diffusion over dt/2."""
    advect = ssp_rk3(equation.explicit, dt)
    if not bool(viscosity.any()):
        return advect
    diffuse = Diffusion.of(equation, like).flow(viscosity, dt / 2)
    return lambda u: diffuse(advect(diffuse(u)))


def solve(
    equation: Burgers,
    initial: Float[Tensor, "*batch cells"],
    viscosity: Float[Tensor, "*#batch"],
    times: Float[Tensor, " times"],
    *,
    courant: float = 0.45,
    dt: float | None = None,
) -> Float[Tensor, "*batch times cells"]:
    """Solutions at `times` from cell averages at `times[0]`; SSP-RK3 and exact diffusion.

    Arguments:
        viscosity: One value a batch entry, non-negative.
        times: Increasing; the first is the time of `initial`.
        courant: The step is the largest that divides the interval evenly within this advective
            Courant number (a maximum principle bounds |u| by its initial and boundary values).
        dt: A step of the caller's own instead; it is divided to fit the intervals evenly.

    Raises:
        StabilityError: The step exceeds Courant number 1 at some time.
        InputError: A viscosity is negative or a value is not finite.
    """
    _check_inputs(initial, viscosity)
    nu = viscosity.to(initial).unsqueeze(-1)
    spacing = equation.grid.spacing()
    speed = max(float(initial.abs().amax()), equation.boundaries.speed(), 1e-12)
    largest = courant * spacing / speed if dt is None else dt
    steps: dict[tuple[int, float], Step] = {}
    u, history = initial, [initial]
    for interval in times.diff().tolist():
        count = max(1, ceil(interval / largest - 1e-9))
        key = (count, round(interval, 12))
        if key not in steps:
            steps[key] = strang(equation, nu, interval / count, initial)
        for _ in range(count):
            _check_courant(equation, u, interval / count)
            u = steps[key](u)
        history.append(u)
    return torch.stack(history, -2)


def explicit_euler(
    equation: Burgers,
    initial: Float[Tensor, "*batch cells"],
    viscosity: Float[Tensor, "*#batch"],
    times: Float[Tensor, " times"],
) -> Float[Tensor, "*batch times cells"]:
    """One explicit Euler step an interval: the reference of InvNet's table 2 (section 3.2).

    Raises:
        StabilityError: Advective Courant number above 1, or viscosity * dt / h^2 above 1/2.
    """
    _check_inputs(initial, viscosity)
    nu = viscosity.to(initial).unsqueeze(-1)
    u, history = initial, [initial]
    for dt in times.diff().tolist():
        _check_courant(equation, u, dt)
        number = float(nu.amax()) * dt / equation.grid.spacing() ** 2
        if number > 0.5:
            raise StabilityError(f"explicit Euler: viscosity * dt / h^2 is {number:.3g}, above 0.5")
        u = forward_euler(lambda v: equation.tendency(v, nu), dt)(u)
        history.append(u)
    return torch.stack(history, -2)


def _check_inputs(initial: Tensor, viscosity: Tensor) -> None:
    if not bool(torch.isfinite(initial).all()) or not bool(torch.isfinite(viscosity).all()):
        raise InputError("solver: the initial condition or the viscosity is not finite")
    if bool((viscosity < 0).any()):
        raise InputError(f"solver: viscosity {float(viscosity.min()):g} is negative")


def _check_courant(equation: Burgers, u: Tensor, dt: float) -> None:
    number = equation.courant(u, dt)
    if not number <= 1:
        raise StabilityError(f"solver: Courant number {number:.3g} is above 1; take a smaller step")
