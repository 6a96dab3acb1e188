r"""Burgers' equation without data (InvNet, section 3.2, appendix B, table 2, figure 3).

x in [0, 1] on 64 cells, t in [0, 0.2] in 64 rows, u(0, t) = 0 at the inflow, extrapolation at the
outflow, initial condition ½(1 - cos 2 pi c x) with c ~ U[3, 6]; one network for viscosity 0 and
the whole range [0.001, 0.05].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lawful.laws import Condition, Law
from lawful.pde.equations import Burgers
from lawful.pde.grid import Dirichlet, Grid, Outflow
from lawful.pde.laws import InitialLaw
from lawful.pde.schemes import Scheme
from lawful.pde.study import ConservationStudy
from lawful.study import Axis, Quantity, Training
from lawful.training import Adam, Game, Move, correction_loss, law_loss
from lawful.typed import Within

CELLS, DURATION = 64, 0.2
FAMILY, NEAR = 16_384, 0.35  # trained rows that a row is held against; the distance that is near


def raised_cosine(grid: Grid, frequency: Float[Tensor, " batch"]) -> Float[Tensor, "batch cells"]:
    """Averages of ½(1 - cos 2 pi c x), InvNet's initial condition (eq. 5); float64."""
    c = frequency.double().unsqueeze(-1)
    # x/2 - sin(2 pi c x) / (4 pi c), with the limit 0 at c = 0
    return grid.averages(lambda x: x / 2 - x / 2 * torch.sinc(2 * c * x))


@dataclass(frozen=True)
class BurgersStudy(ConservationStudy):
    """A generator of solutions of Burgers' equation, trained by the equation alone.

    Arguments:
        objective: What the generator descends: `correction` (distance from its own field after
            one step of defect correction), `residual` (mean square residual of the same law), or
            `sobel` (the paper's image-gradient residual).
        initial: Initial condition `exact` by construction, or a law in alternation with the
            equation, as in the paper's algorithm 1.
        variety: Share of a batch whose initial conditions are scaled, superposed and shifted
            waves of the same frequencies, so that other initial conditions are in reach.
        speeds: Number of characteristic speeds in (0, 1] shown to the network.
    """

    objective: Literal["correction", "residual", "sobel"] = "correction"
    initial: Literal["exact", "alternating"] = "exact"
    variety: Annotated[float, Within(0, 1)] = 0.5
    speeds: Annotated[int, Within(0, 1_000)] = 8

    name: ClassVar[str] = "burgers"
    nonnegative: ClassVar[bool] = True
    axes: ClassVar[tuple[Axis, ...]] = (Axis("t", 0, DURATION, nodes=True), Axis("x", 0, 1))
    about: ClassVar[str] = "solutions of Burgers' equation, without data (InvNet, table 2)"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("frequency", 3.0, 6.0, minimum=0.0, about="c of the wave ½(1 - cos 2 pi c x)"),
        Quantity("viscosity", 0.001, 0.05, isolated=(0.0,), minimum=0.0, about="nu"),
        Quantity(
            "initial", 0.0, 1.0, minimum=0.0, shape=(CELLS,), required=False,
            instead_of="frequency", about="cell averages of u(x, 0), instead of a frequency",
        ),
    )  # fmt: skip

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        return {
            "full": cls(Training(steps=26_000, learning_rate=1.5e-3, average=0.999)),
            "quick": cls(Training(steps=2_000, average=0.99)),
            "smoke": cls(Training(steps=400, checkpoint=100, average=0.97)),
            "paper": cls(
                Training(steps=26_000, learning_rate=1e-3, average=0.999),
                objective="sobel", initial="alternating", refinement=1, variety=0.0, speeds=0,
            ),
        }  # fmt: skip

    def equation(self, grid: Grid, scheme: Scheme) -> Burgers:
        return Burgers(grid, scheme, Dirichlet(0.0), Outflow())

    def profile(self, grid: Grid, c: Condition) -> Float[Tensor, "batch cells"]:
        return raised_cosine(grid, c["frequency"])

    def carried(self) -> tuple[float, ...]:
        return tuple((k + 1) / self.speeds for k in range(self.speeds))

    @property
    def exact_initial(self) -> bool:
        return self.initial == "exact"

    def sobel(self) -> "SobelBurgersLaw":
        """The paper's residual on this study's rows and cells."""
        return SobelBurgersLaw(self.axes[0].step(self.times), self.grid(self.refinement).spacing)

    def game(self) -> Game:
        fine, adam = self.law(self.refinement), Adam(self.training.learning_rate)
        loss = {
            "correction": lambda: correction_loss(fine),
            "residual": lambda: law_loss(fine),
            "sobel": lambda: law_loss(self.sobel()),
        }[self.objective]()
        moves = [Move("generator", loss, adam, name="equation")]
        if not self.exact_initial:
            moves.append(Move("generator", law_loss(InitialLaw()), adam, name="initial"))
        return Game(tuple(moves), super().game().draw)

    def draw(self, count: int, generator: torch.Generator) -> Condition:
        """Conditions to train on: viscosity 0, uniform and log-uniform; waves and, for the share
        `variety`, superposed, scaled and shifted waves."""
        uniform = lambda *shape: torch.rand(shape, generator=generator)  # noqa: E731
        initial = raised_cosine(Grid(CELLS), 3 + 3 * uniform(count)).float()
        varied = round(count * self.variety)
        if varied:
            other = raised_cosine(Grid(CELLS), 3 + 3 * uniform(varied)).float()
            weight, height = uniform(varied, 1), 0.3 + 0.7 * uniform(varied, 1)
            wave = height * (weight * initial[-varied:] + (1 - weight) * other)
            shift = torch.randint(0, CELLS // 2, (varied, 1), generator=generator)
            shift[varied // 2 :] = 0
            source = torch.arange(CELLS) - shift
            initial[-varied:] = wave.gather(1, source.clamp_min(0)) * (source >= 0)
        kind, place = uniform(count), uniform(count)
        viscosity = torch.where(kind < 0.6, 0.001 * 50**place, 0.001 + 0.049 * place)
        return {"initial": initial, "viscosity": viscosity.masked_fill(kind < 0.2, 0.0)}

    def outside(self, network: nn.Module, condition: Condition) -> dict[str, Tensor]:
        """Beside values outside the ranges, initial rows that are far from every trained one."""
        marked = super().outside(network, condition)
        if "initial" in marked:
            marked["initial"] |= self.distance(condition["initial"]) > NEAR
        return marked

    def distance(self, initial: Float[Tensor, "batch cells"]) -> Float[Tensor, " batch"]:
        """The least of |row - trained| / |trained| over 16,384 trained rows, for each row."""
        trained = _family(self)
        return (torch.cdist(initial.to(trained), trained) / trained.norm(dim=1)).amin(1)


@lru_cache(maxsize=4)
def _family(study: BurgersStudy) -> Float[Tensor, "rows cells"]:
    return study.draw(FAMILY, torch.Generator().manual_seed(0))["initial"]


@dataclass(frozen=True)
class SobelBurgersLaw(Law):
    r"""The discretisation of the InvNet paper (section 3.2 and appendix B), for comparison.

    .. math:: r = u_t + u\,u_x - \nu\, u_{xx}

    at cell centres: Sobel derivatives over the spacing of the rows and of the cells, borders
    replicated and one-sided there, and a second difference smoothed by a binomial Gaussian. It is
    neither conservative nor upwind, and blind to checkerboards.

    Arguments:
        dt, dx: Spacing of the rows and of the columns: over another one, an exact solution is no
            solution of the law.
    """

    dt: float
    dx: float
    name: str = "burgers (Sobel)"
    unit: str = "u / time"

    def __call__(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch times cells"]:
        viscosity = c["viscosity"][:, None, None, None]
        curvature = _stencil(x, (0.25, 0.5, 0.25), _smoothed_curvature) / self.dx**2
        residual = self.by_time(x) + x * self.by_space(x) - viscosity * curvature
        return residual[:, 0]

    def by_time(self, x: Float[Tensor, "batch 1 times cells"]) -> Tensor:
        """Sobel derivative along the rows, one-sided at the first and the last."""
        return self.by_space(x.transpose(-1, -2)).transpose(-1, -2) * (self.dx / self.dt)

    def by_space(self, x: Float[Tensor, "batch 1 times cells"]) -> Tensor:
        """Sobel derivative along the columns, one-sided at the first and the last."""
        slope = _stencil(x, (0.25, 0.5, 0.25), (-0.5, 0.0, 0.5)) / self.dx
        edge = torch.ones_like(slope)
        edge[..., 0] = edge[..., -1] = 2
        return slope * edge


_smoothed_curvature = (0.25, 0.0, -0.5, 0.0, 0.25)  # (1, 2, 1)/4 * (1, -2, 1)


def _stencil(x: Tensor, down: tuple[float, ...], across: tuple[float, ...]) -> Tensor:
    """Correlation with the outer product of two kernels, borders replicated."""
    kernel = torch.outer(x.new_tensor(down), x.new_tensor(across))
    margin = [len(across) // 2] * 2 + [len(down) // 2] * 2
    return F.conv2d(F.pad(x, margin, mode="replicate"), kernel[None, None])
