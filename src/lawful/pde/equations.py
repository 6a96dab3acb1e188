r"""Scalar conservation laws in one dimension, by conservative finite volumes.

.. math::
    u_t + f(u; c)_x = D(c)\, u_{xx} + s(u; c),\qquad
    \frac{d\bar u_i}{dt} = -\frac{F_{i+1/2} - F_{i-1/2}}{h}
        + D\,\frac{\bar u_{i+1} - 2 \bar u_i + \bar u_{i-1}}{h^2} + s_i

F is a numerical flux of the scheme's face states :math:`u^\mp`; where an equation has none of its
own it is the local Lax-Friedrichs flux (Rusanov 1961),

.. math::
    F = \tfrac12 \bigl(f(u^-) + f(u^+)\bigr) - \tfrac12 \max(|f'(u^-)|, |f'(u^+)|)\,(u^+ - u^-),

which is the upwind flux where :math:`f` is linear, and monotone where :math:`f` is convex or
concave. Solver and law call the same operators. The
parameters c are named tensors with one value per sample, so that one batch holds many equations.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError
from lawful.pde.grid import Boundary, Dirichlet, Grid, Inflow, Periodic, pad
from lawful.pde.schemes import Scheme, Weno5

Coefficients = Mapping[str, Tensor]  # the parameters by name, each broadcasts against the cells
RANGE = 65  # values between the least and the greatest at which wave speeds are looked up


@dataclass(frozen=True)
class ConservationLaw(ABC):
    """An equation on a grid: state its `flux`, and what else there is.

    Arguments:
        grid: One-dimensional grid.
        scheme: Reconstruction of the face states.
        left, right: Conditions at the two ends.
    """

    grid: Grid
    scheme: Scheme = field(default=Weno5())
    left: Boundary = field(default=Periodic())
    right: Boundary = field(default=Periodic())

    name: ClassVar[str]
    parameters: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if isinstance(self.left, Periodic) != isinstance(self.right, Periodic):
            raise InputError("boundaries: periodic at one end only; both ends are needed")

    @abstractmethod
    def flux(self, u: Tensor, c: Coefficients) -> Tensor:
        """The physical flux f(u)."""

    def speed(self, u: Tensor, c: Coefficients) -> Tensor:
        """The wave speed f'(u), of either sign, of a shape that broadcasts against `u`.

        Where not overridden the flux is differentiated automatically.
        """
        return _derivative(lambda state: self.flux(state, c), u)

    def diffusivity(self, c: Coefficients) -> Tensor | float:
        """The coefficient D of u_xx, the same in all cells."""
        return 0.0

    def source(self, u: Tensor, c: Coefficients) -> Tensor | float:
        """Averages of the source s over the cells."""
        return 0.0

    def growth(self, u: Tensor, c: Coefficients) -> Tensor:
        """The derivative s'(u) of the source, by automatic differentiation."""
        return _derivative(lambda state: self.source(state, c) + 0 * state, u)

    def face_flux(self, left: Tensor, right: Tensor, c: Coefficients) -> Tensor:
        """Rusanov's numerical flux of the states on either side of each face.

        It is monotone only where f is convex or concave between the two: override it for others.
        """
        dissipation = torch.maximum(self.speed(left, c).abs(), self.speed(right, c).abs())
        return (self.flux(left, c) + self.flux(right, c) - dissipation * (right - left)) / 2

    def coefficients(
        self, condition: Mapping[str, Tensor], u: Float[Tensor, "*batch cells"]
    ) -> dict[str, Tensor]:
        """This equation's parameters, shaped so that they broadcast against `u`.

        Arguments:
            condition: Values with the leading axes of `u`, by name; others are left out.

        Raises:
            InputError: A parameter is missing.
        """
        for name in self.parameters:
            if name not in condition:
                expected = ", ".join(self.parameters)
                raise InputError(f"{self.name}: expected {expected}; there is no {name}")
        values = {name: condition[name].to(u) for name in self.parameters}
        return {n: v.reshape(*v.shape, *[1] * (u.ndim - v.ndim)) for n, v in values.items()}

    def pad(self, u: Float[Tensor, "*batch cells"], width: int) -> Float[Tensor, "*batch padded"]:
        """`u` with `width` ghost cells at each end."""
        return pad(u, width, self.left, self.right)

    def fluxes(
        self, u: Float[Tensor, "*batch cells"], c: Coefficients
    ) -> Float[Tensor, "*batch faces"]:
        """Numerical flux at the faces, without what diffusion carries."""
        left, right = self.scheme.states(self.pad(u, self.scheme.width))
        return self.face_flux(left, right, c)

    def explicit(
        self, u: Float[Tensor, "*batch cells"], c: Coefficients
    ) -> Float[Tensor, "*batch cells"]:
        """What is stepped explicitly: source less the divergence of the flux."""
        return self.source(u, c) - self.fluxes(u, c).diff(dim=-1) / self.grid.spacing

    def tendency(
        self, u: Float[Tensor, "*batch cells"], c: Coefficients
    ) -> Float[Tensor, "*batch cells"]:
        """The whole right-hand side du/dt."""
        curvature = self.pad(u, 1).diff(n=2, dim=-1) / self.grid.spacing**2
        return self.explicit(u, c) + self.diffusivity(c) * curvature

    @property
    def bounded(self) -> bool:
        """Whether the maximum principle holds: solutions stay between the least and the greatest
        of their initial and boundary values. They do where there is no source."""
        return type(self).source is ConservationLaw.source

    def prescribed(self) -> tuple[float, ...]:
        """The values that boundaries prescribe."""
        ends = (self.left, self.right)
        return tuple(end.value for end in ends if isinstance(end, Inflow | Dirichlet))

    def fastest(self, u: Float[Tensor, "*batch cells"], c: Coefficients) -> float:
        """Largest wave speed between the least and the greatest of initial and boundary values."""
        values = (float(u.amin()), float(u.amax()), *self.prescribed())
        between = torch.linspace(min(values), max(values), RANGE, dtype=u.dtype, device=u.device)
        return float(self.speed(between, c).abs().amax())


def _derivative(function: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """The derivative of a function of each value alone."""
    return torch.func.jvp(function, (u,), (torch.ones_like(u),))[1]


class Burgers(ConservationLaw):
    r"""Burgers' equation :math:`u_t + (u^2/2)_x = \nu u_{xx}`; flux of Engquist & Osher (1981)."""

    name = "burgers"
    parameters = ("viscosity",)

    def flux(self, u: Tensor, c: Coefficients) -> Tensor:
        return u.square() / 2

    def speed(self, u: Tensor, c: Coefficients) -> Tensor:
        return u

    def diffusivity(self, c: Coefficients) -> Tensor:
        return c["viscosity"]

    def face_flux(self, left: Tensor, right: Tensor, c: Coefficients) -> Tensor:
        return (left.clamp_min(0).square() + right.clamp_max(0).square()) / 2


class AdvectionDiffusion(ConservationLaw):
    r"""Advection and diffusion :math:`u_t + a u_x = D u_{xx}`."""

    name = "advection-diffusion"
    parameters = ("velocity", "diffusivity")

    def flux(self, u: Tensor, c: Coefficients) -> Tensor:
        return c["velocity"] * u

    def speed(self, u: Tensor, c: Coefficients) -> Tensor:
        return c["velocity"]

    def diffusivity(self, c: Coefficients) -> Tensor:
        return c["diffusivity"]
