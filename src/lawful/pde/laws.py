r"""Burgers' equation as a law on space-time fields `(batch, 1, times, cells)`.

The residual of the :math:`\theta`-method with the finite-volume operators of `physics.burgers`,

.. math::
    r^{n+1} = \frac{u^{n+1} - u^n}{\Delta t} - \theta\, f(u^{n+1}) - (1 - \theta) f(u^n),

in units of u over time: :math:`\theta = 1` is backward Euler, :math:`\theta = 1/2` is
Crank-Nicolson. The condition's `viscosity` has shape `(batch,)`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import Condition, CorrectableLaw, Law
from lawful.pde.boundaries import Dirichlet, Outflow
from lawful.pde.equations import Burgers
from lawful.pde.solve import Diffusion


@dataclass(frozen=True)
class BurgersLaw(CorrectableLaw):
    """The discrete equation between consecutive rows of a field.

    Arguments:
        equation: Spatial operators; its grid must have as many cells as the fields.
        dt: Time between rows.
        theta: Weight of the newer row, in [0, 1].
    """

    equation: Burgers
    dt: float
    theta: float = 0.5
    name: str = "burgers"
    unit: str = "u / time"

    def __post_init__(self) -> None:
        if not (self.dt > 0 and 0 <= self.theta <= 1):
            raise InputError(f"burgers law: expected dt > 0 and 0 <= theta <= 1, got {self}")

    def __call__(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch steps cells"]:
        u = x[:, 0]
        rate = self.equation.tendency(u, c["viscosity"][:, None, None])
        mean = self.theta * rate[:, 1:] + (1 - self.theta) * rate[:, :-1]
        return u.diff(dim=1) / self.dt - mean

    def correction(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch 1 times cells"]:
        r"""March the linearised equation with the residual as its source.

        .. math::
            (1 - \theta \Delta t\,\nu A)\,\delta^{n+1} =
                (1 + (1 - \theta) \Delta t\,\nu A)\,\delta^n
                - \Delta t\, D(u^{n+1/2} \delta^n) - \Delta t\, r^{n+1},\qquad \delta^0 = 0

        with A the discrete Laplacian, inverted exactly, and D the first-order upwind difference:
        M is of first order whatever the order of r, and only the fixed point r = 0 decides the
        accuracy.
        """
        u = x[:, 0].detach()
        source = -self.dt * self(x, c)
        number = self._courant((u[:, 1:] + u[:, :-1]) / 2)
        advance = Diffusion.of(self.equation, x).theta_step(
            c["viscosity"].unsqueeze(-1), self.dt, self.theta
        )
        step = spectrum = torch.zeros_like(u[:, 0])
        steps = [step]
        for n in range(source.shape[1]):
            push = source[:, n] - self._transport(number[:, n], step)
            spectrum, step = advance(spectrum, push)
            steps.append(step)
        return torch.stack(steps, 1).unsqueeze(1)

    def _courant(self, u: Tensor) -> Tensor:
        """Signed Courant numbers of the cells and of a ghost cell at each end, at most 1.

        Wind that enters through an outflow brings in what it finds beside it, so an error that
        piles up there would feed itself. It may enter no faster than the slowest wind of its row:
        exact for a steady wind, and nothing enters where the wind turns.
        """
        number = self.equation.boundaries.pad(u, 1) * (self.dt / self.equation.grid.spacing())
        left, inner, right = number[..., :1], number[..., 1:-1], number[..., -1:]
        if isinstance(self.equation.boundaries.left, Outflow):
            left = inner.amin(-1, keepdim=True)
        if isinstance(self.equation.boundaries.right, Outflow):
            right = inner.amax(-1, keepdim=True)
        return torch.cat([left, inner, right], -1).clamp(-1, 1)

    def _transport(self, number: Tensor, step: Tensor) -> Tensor:
        """First-order upwind difference of `number * step`, with ghost cells of homogeneous ends.

        Behind a fixed face schemes differ in their ghosts, and M has one for all of them: half of
        the odd reflection, with which corrections contract at every order.
        """
        ends = self.equation.boundaries
        value = ends.pad(step, 1) - ends.pad(torch.zeros_like(step), 1)
        weight = torch.ones(value.shape[-1], device=value.device, dtype=value.dtype)
        weight[0] -= isinstance(ends.left, Dirichlet) / 2
        weight[-1] -= isinstance(ends.right, Dirichlet) / 2
        flow = number * weight * value
        right, left = torch.where(number > 0, flow, 0), torch.where(number < 0, flow, 0)
        return (right[..., :-1] + left[..., 1:]).diff(dim=-1)


@dataclass(frozen=True)
class MassLaw(Law):
    r"""Balance of mass: what is inside is what was inside plus what came through the ends.

    .. math:: m^n = \Delta t \sum_{k \le n} h \sum_i r_i^k,

    the drift of total mass up to each row, in units of u times length.
    """

    burgers: BurgersLaw
    name: str = "mass"
    unit: str = "u * length"

    def __call__(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch steps"]:
        spacing = self.burgers.equation.grid.spacing()
        return self.burgers.dt * spacing * self.burgers(x, c).sum(-1).cumsum(-1)
