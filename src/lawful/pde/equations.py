r"""Burgers' equation :math:`u_t + (u^2/2)_x = \nu u_{xx}` in conservative finite volumes.

.. math::
    \frac{d\bar u_i}{dt} = -\frac{F_{i+1/2} - F_{i-1/2}}{h},\qquad
    F_{i+1/2} = \tfrac12 \max(u^-, 0)^2 + \tfrac12 \min(u^+, 0)^2
                - \nu \frac{\bar u_{i+1} - \bar u_i}{h}

The advective part is the Engquist-Osher flux (1981) of the scheme's face states, the viscous part
is second order. Solver and law both call these operators.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from lawful.pde.boundaries import Boundaries
from lawful.pde.grid import Grid
from lawful.pde.schemes import Scheme


@dataclass(frozen=True)
class Burgers:
    """The spatial operators on one grid.

    Arguments:
        grid: One-dimensional grid.
        scheme: Reconstruction of the face states.
        boundaries: Conditions at the two ends.
    """

    grid: Grid
    scheme: Scheme
    boundaries: Boundaries

    def flux(self, u: Float[Tensor, "*batch cells"]) -> Float[Tensor, "*batch faces"]:
        """Engquist-Osher flux at the faces."""
        left, right = self.scheme.states(self.boundaries.pad(u, self.scheme.width))
        return (left.clamp_min(0).square() + right.clamp_max(0).square()) / 2

    def explicit(self, u: Float[Tensor, "*batch cells"]) -> Float[Tensor, "*batch cells"]:
        """Advective tendency: minus the divergence of `flux`."""
        return -self.flux(u).diff(dim=-1) / self.grid.spacing()

    def implicit(self, u: Float[Tensor, "*batch cells"]) -> Float[Tensor, "*batch cells"]:
        """Diffusive tendency at unit viscosity; linear in `u` up to the boundary values."""
        return self.boundaries.pad(u, 1).diff(n=2, dim=-1) / self.grid.spacing() ** 2

    def tendency(
        self, u: Float[Tensor, "*batch cells"], viscosity: Float[Tensor, "*#batch 1"]
    ) -> Float[Tensor, "*batch cells"]:
        """The whole right-hand side.

        Arguments:
            u: Cell averages.
            viscosity: Broadcasts against `u`, with a trailing axis of one.
        """
        return self.explicit(u) + viscosity * self.implicit(u)

    def courant(self, u: Float[Tensor, "*batch cells"], dt: float) -> float:
        """Largest advective Courant number of a step `dt` from `u`."""
        return float(u.detach().abs().amax()) * dt / self.grid.spacing()
