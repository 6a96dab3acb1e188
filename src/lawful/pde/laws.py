r"""Laws of space-time fields `(batch, 1, times, cells)`: an equation, its balance, its ends.

The equation is the residual of the :math:`\theta`-method with the finite-volume operators of
`equations`,

.. math::
    r^{n+1} = \frac{u^{n+1} - u^n}{\Delta t} - \theta\, R(u^{n+1}) - (1 - \theta) R(u^n),

with R its right-hand side, in units of u over time: :math:`\theta = 1` is backward Euler,
:math:`\theta = 1/2` is Crank-Nicolson. Parameters of the equation are entries of the condition by
their names, of shape `(batch,)`.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import AffineLaw, Condition, CorrectableLaw, Law
from lawful.pde.equations import ConservationLaw
from lawful.pde.grid import Dirichlet, Outflow, coarsen
from lawful.pde.solve import Diffusion


@dataclass(frozen=True)
class ThetaLaw(CorrectableLaw):
    """The discrete equation between consecutive rows of a field; has the equation's name.

    Arguments:
        equation: Spatial operators; its grid must have as many cells as the fields.
        dt: Time between rows.
        theta: Weight of the newer row, in [0, 1].
        substeps: Steps of a correction's march between two rows; at least the Courant number of
            one row, max |f'| dt / h, for the march is explicit in the transport.
    """

    equation: ConservationLaw
    dt: float
    theta: float = 0.5
    substeps: int = 1
    name: str = field(init=False)
    unit: str = "u / time"

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.equation.name)
        if not (self.dt > 0 and 0 <= self.theta <= 1 and self.substeps >= 1):
            raise InputError(
                f"{self.name} law: expected dt > 0, 0 <= theta <= 1 and substeps >= 1, got {self}"
            )

    def __call__(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch steps cells"]:
        u = x[:, 0]
        rate = self.equation.tendency(u, self.equation.coefficients(c, u))
        mean = self.theta * rate[:, 1:] + (1 - self.theta) * rate[:, :-1]
        return u.diff(dim=1) / self.dt - mean

    def correction(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch 1 times cells"]:
        r"""March the linearised equation with the residual as its source.

        .. math::
            (1 - \theta \Delta t\,D A)\,\delta^{n+1} =
                (1 + (1 - \theta) \Delta t\,D A)\,\delta^n
                - \Delta t\, U(f'(u^{n+1/2}) \delta^n) + \Delta t\, s'(u^{n+1/2}) \delta^n
                - \Delta t\, r^{n+1},\qquad \delta^0 = 0

        with A the discrete Laplacian, inverted exactly, and U the first-order upwind difference:
        M is of first order whatever the order of r, and only the fixed point r = 0 decides the
        accuracy. With several `substeps` each takes its share of dt and of r. Courant numbers of a
        substep are clipped to 1, beyond which M is less near.
        """
        u, dt = x[:, 0].detach(), self.dt / self.substeps
        source = -dt * self(x, c)
        middle = (u[:, 1:] + u[:, :-1]) / 2
        number, growth = self._courant(middle, c), self._growth(middle, c, dt)
        step = spectrum = torch.zeros_like(u[:, 0])
        diffusivity = self.equation.diffusivity(self.equation.coefficients(c, step))
        advance = Diffusion.of(self.equation, x).theta_step(diffusivity, dt, self.theta)
        steps = [step]
        for n in range(source.shape[1]):
            for _ in range(self.substeps):
                push = source[:, n] - self._transport(number[:, n], step)
                push = push if growth is None else push + growth[:, n] * step
                spectrum, step = advance(spectrum, push)
            steps.append(step)
        return torch.stack(steps, 1).unsqueeze(1)

    def _growth(self, u: Tensor, c: Condition, dt: float) -> Tensor | None:
        """What an error grows by over a substep, per error; None where there is no source."""
        if self.equation.bounded:
            return None
        return dt * self.equation.growth(u, self.equation.coefficients(c, u))

    def _courant(self, u: Tensor, c: Condition) -> Tensor:
        """Signed Courant numbers of a substep, at most 1: the cells, and a ghost cell at each end.

        A characteristic that enters through an outflow brings in what lies beside it, so an error
        that piles up there would feed itself. It may enter no faster than the slowest one of its
        row: exact for a constant speed, and nothing enters where the speed changes its sign.
        """
        equation, padded = self.equation, self.equation.pad(u, 1)
        speed = equation.speed(padded, equation.coefficients(c, u)).expand_as(padded)
        number = speed * (self.dt / self.substeps / equation.grid.spacing)
        left, inner, right = number[..., :1], number[..., 1:-1], number[..., -1:]
        if isinstance(equation.left, Outflow):
            left = inner.amin(-1, keepdim=True)
        if isinstance(equation.right, Outflow):
            right = inner.amax(-1, keepdim=True)
        return torch.cat([left, inner, right], -1).clamp(-1, 1)

    def _transport(self, number: Tensor, step: Tensor) -> Tensor:
        """First-order upwind difference of `number * step`, with ghost cells of homogeneous ends.

        Behind a fixed face schemes differ in their ghosts, and M has one for all of them: half of
        the odd reflection, with which corrections contract at every order.
        """
        ends = self.equation
        value = ends.pad(step, 1) - ends.pad(torch.zeros_like(step), 1)
        weight = torch.ones(value.shape[-1], device=value.device, dtype=value.dtype)
        weight[0] -= isinstance(ends.left, Dirichlet) / 2
        weight[-1] -= isinstance(ends.right, Dirichlet) / 2
        flow = number * weight * value
        right, left = torch.where(number > 0, flow, 0), torch.where(number < 0, flow, 0)
        return (right[..., :-1] + left[..., 1:]).diff(dim=-1)


@dataclass(frozen=True)
class MassLaw(Law):
    r"""Balance of mass: what is inside is what was inside, came through the ends or was made there.

    .. math:: m^n = \Delta t \sum_{k \le n} h \sum_i r_i^k,

    the drift of total mass up to each row, in units of u times length.
    """

    law: ThetaLaw
    name: str = "mass"
    unit: str = "u * length"

    def __call__(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch steps"]:
        return self.law.dt * self.law.equation.grid.spacing * self.law(x, c).sum(-1).cumsum(-1)


@dataclass(frozen=True)
class InitialLaw(AffineLaw):
    """The first row has the cell averages of `condition[key]`, shape `(batch, cells)`.

    A field may carry a multiple of these cells; its groups of cells must then average to them, and
    `enforce` adds the same amount to every cell of a group, which is the nearest such field.
    """

    key: str = "initial"
    name: str = "initial"
    unit: str = "u"

    def __call__(
        self, x: Float[Tensor, "batch 1 times fine"], c: Condition
    ) -> Float[Tensor, "batch cells"]:
        return coarsen(x[:, 0, 0], self._factor(x, c)) - c[self.key]

    def enforce(
        self, x: Float[Tensor, "batch 1 times fine"], c: Condition
    ) -> Float[Tensor, "batch 1 times fine"]:
        return self._lower_first_row(x, self(x, c), self._factor(x, c))

    def hide(
        self, x: Float[Tensor, "batch 1 times fine"], c: Condition
    ) -> Float[Tensor, "batch 1 times fine"]:
        factor = self._factor(x, c)
        return self._lower_first_row(x, coarsen(x[:, 0, 0], factor), factor)

    @staticmethod
    def _lower_first_row(x: Tensor, amount: Tensor, factor: int) -> Tensor:
        row = x[:, :, :1] - amount.repeat_interleave(factor, -1)[:, None, None]
        return torch.cat([row, x[:, :, 1:]], 2)

    def _factor(self, x: Tensor, c: Condition) -> int:
        cells = c[self.key].shape[-1]
        if x.shape[-1] % cells:
            raise InputError(f"initial law: {x.shape[-1]} cells are no multiple of {cells}")
        return x.shape[-1] // cells


@dataclass(frozen=True)
class BoundaryLaw(AffineLaw):
    r"""The state at the left or the right face is `value` at every time after the first.

    The face state of cell averages is :math:`(3 \bar u_0 - \bar u_1)/2`, second order, with
    :math:`\bar u_0` the cell beside the face and :math:`\bar u_1` the next.
    """

    value: float = 0.0
    right: bool = False
    name: str = "boundary"
    unit: str = "u"

    def __call__(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch steps"]:
        return self._face(x) - self.value

    def enforce(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch 1 times cells"]:
        return self._lower_face(x, self._face(x) - self.value)

    def hide(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch 1 times cells"]:
        return self._lower_face(x, self._face(x))

    def _cells(self) -> tuple[int, int]:
        return (-1, -2) if self.right else (0, 1)

    def _face(self, x: Tensor) -> Tensor:
        beside, following = self._cells()
        return (3 * x[:, 0, 1:, beside] - x[:, 0, 1:, following]) / 2

    def _lower_face(self, x: Tensor, amount: Tensor) -> Tensor:
        # The least change of (u0, u1) that lowers (3 u0 - u1)/2 by `amount`.
        beside, following = self._cells()
        change = torch.zeros_like(x)
        change[:, 0, 1:, beside] = 0.6 * amount
        change[:, 0, 1:, following] = -0.2 * amount
        return x - change
