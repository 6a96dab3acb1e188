r"""Burgers' equation on a circle, from signed random rows, without data.

x in [0, 1), periodic, t in [0, 1]; :math:`u_t + (u^2/2)_x = \nu u_{xx}`. Initial rows are Gaussian
random fields of mean zero and covariance :math:`625\,(-\Delta + 25)^{-2}`, a family in use for
neural operators (Li et al. 2021; Wang et al. 2022); one network for viscosity 0 and the whole range
[0.001, 0.1].

The equation is invariant under Galilean boosts: if u solves it, so does
:math:`m + u(t, x - m t)`. So the network sees rows of mean zero alone, and its field stands on a
grid that moves with the mean m of the row; users see it on the grid at rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, quantiles
from typing import Annotated, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lawful.errors import InputError
from lawful.laws import Condition, Estimate, Law
from lawful.metrics.report import relative_error
from lawful.model import Model
from lawful.pde.equations import Burgers
from lawful.pde.grid import Grid, coarsen, refine, shifted
from lawful.pde.laws import ThetaLaw
from lawful.pde.network import Corrected
from lawful.pde.schemes import Scheme, Weno5
from lawful.pde.solve import solve
from lawful.pde.study import ConservationStudy
from lawful.study import Axis, Quantity, Training, obeyed
from lawful.table import Column, Recipe, Record, Result, checked, table
from lawful.typed import Within

CELLS, ROWS = 64, 128
BANDS = ((1, 2), (2, 4), (4, 8), (8, 16), (16, 33))  # waves whose energies are told apart
FAMILY, SLACK = 16_384, 1.1  # trained rows that a row is held against; over their greatest energy


def random_rows(grid: Grid, count: int, generator: torch.Generator) -> Float[Tensor, "batch cells"]:
    r"""Averages of Gaussian random fields of covariance 625 (-Δ + 25)^-2 and mean zero; float64.

    Each wave cos 2 pi k x and sin 2 pi k x, k up to half the cells that users see, has the standard
    deviation :math:`25 \sqrt 2 / ((2 \pi k)^2 + 25)`.
    """
    waves = 2 * torch.pi * torch.arange(1, CELLS // 2 + 1, dtype=torch.float64)
    size = torch.randn(2, count, CELLS // 2, generator=generator, dtype=torch.float64)
    size = size * 25 * 2**0.5 / (waves.square() + 25) / waves
    return grid.averages(
        lambda x: size[0] @ torch.sin(waves[:, None] * x) - size[1] @ torch.cos(waves[:, None] * x)
    )


@dataclass(frozen=True)
class PeriodicBurgersStudy(ConservationStudy):
    """A generator of periodic solutions of Burgers' equation, trained by the equation alone."""

    refinement: Annotated[int, Within(2, 16)] = 2  # a field that is finer is on the moving grid
    depth: Annotated[int, Within(0, 5)] = 2

    name: ClassVar[str] = "burgers-periodic"
    cells: ClassVar[int] = CELLS
    times: ClassVar[int] = ROWS
    own_speeds: ClassVar[int] = 8
    patch_rows: ClassVar[int] = 4
    substeps: ClassVar[int] = 2
    axes: ClassVar[tuple[Axis, ...]] = (Axis("t", 0, 1, nodes=True), Axis("x", 0, 1))
    about: ClassVar[str] = "Burgers' equation on a circle from random rows, without data"
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity("initial", -3.0, 3.0, shape=(CELLS,), about="cell averages of u(x, 0)"),
        Quantity("viscosity", 0.001, 0.1, isolated=(0.0,), minimum=0.0, about="nu"),
    )

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        return {
            "full": cls(Training(steps=4_500, learning_rate=1.5e-3, average=0.999)),
            "quick": cls(Training(steps=1_000, learning_rate=1.5e-3, average=0.99)),
            "smoke": cls(Training(steps=20, checkpoint=10, average=0.9)),
        }

    def equation(self, grid: Grid, scheme: Scheme) -> Burgers:
        return Burgers(grid, scheme)

    def family(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch cells"]:
        return random_rows(Grid(CELLS), count, generator).float()

    def network(self) -> nn.Module:
        """The generator, and one correction by the law that trains it."""
        return Corrected(MovingGenerator(super().network()), self.law(self.refinement))

    def law(self, factor: int = 1, times: int | None = None) -> ThetaLaw:
        law = super().law(factor, times)
        return law if factor == 1 else MovingLaw(law.equation, law.dt, law.theta, law.substeps)

    def reference(
        self, condition: Condition, factor: int = 8
    ) -> Float[Tensor, "batch 1 times cells"]:
        """The solver's fields, on 512 cells where not asked otherwise."""
        return super().reference(condition, factor)

    def observe(self, fields: Tensor) -> Tensor:
        """Averages on the grid at rest, within the range of the row."""
        if fields.shape[-1] > self.cells:
            fields = self.moved(fields, 1.0)
        return super().observe(fields)

    def moved(self, fields: Tensor, sign: float) -> Tensor:
        """Fields on the moving grid taken to the one at rest, or back by `sign` -1."""
        cells = fields.shape[-1]
        time = torch.linspace(0, 1, fields.shape[-2]).to(fields)
        return shifted(fields, sign * cells * mean_of(fields).squeeze(-1) * time)

    def estimate(self, network: nn.Module, fields: Tensor, condition: Condition) -> Estimate:
        if fields.shape[-1] == self.cells:  # observed: back to the grid that moves
            fields = self.moved(refine(fields, self.refinement), -1.0)
        return super().estimate(network, fields, condition)

    def outside(self, network: nn.Module, condition: Condition) -> dict[str, Tensor]:
        """Beside values outside the ranges, rows with more energy in some band of waves than any
        of 16,384 trained ones, by a tenth."""
        marked = super().outside(network, condition)
        most = _most().to(condition["initial"])
        marked["initial"] |= (energies(condition["initial"]) > SLACK * most).any(1)
        return marked


def energies(rows: Float[Tensor, "batch cells"]) -> Float[Tensor, "batch band"]:
    """Root mean square of each row in each band of waves, its mean left out."""
    waves = torch.fft.rfft(rows.double()).abs() / rows.shape[-1]
    return torch.stack([waves[:, a:b].square().sum(1).sqrt() for a, b in BANDS], 1)


@lru_cache(maxsize=1)
def _most() -> Float[Tensor, " band"]:
    rows = random_rows(Grid(CELLS), FAMILY, torch.Generator().manual_seed(0))
    return energies(rows).amax(0)


def mean_of(fields: Float[Tensor, "batch 1 times cells"]) -> Float[Tensor, "batch 1 1 1"]:
    """The mean of each field's first row."""
    return fields[:, :, :1].mean(-1, keepdim=True)


class MovingGenerator(nn.Module):
    """A generator for rows of mean zero, on a grid that moves with the mean of each row."""

    def __init__(self, still: nn.Module) -> None:
        super().__init__()
        self.still = still

    def forward(self, condition: Condition) -> Float[Tensor, "batch 1 times fine"]:
        row = condition["initial"]
        mean = row.mean(-1, keepdim=True)
        field: Tensor = self.still({**condition, "initial": row - mean})
        return field + mean[:, :, None, None]

    def obeys(self) -> tuple[Law, ...]:
        """The laws that every field of this generator obeys by construction."""
        return obeyed(self.still)


@dataclass(frozen=True)
class MovingLaw(ThetaLaw):
    """The law of a field on the grid that moves with the mean of its first row."""

    def __call__(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch steps cells"]:
        return super().__call__(x - mean_of(x), c)

    def correction(
        self, x: Float[Tensor, "batch 1 times cells"], c: Condition
    ) -> Float[Tensor, "batch 1 times cells"]:
        return super().correction(x - mean_of(x), c)


VISCOSITIES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1)
FRESH, SOLVED = 64, 512  # fresh rows per viscosity; cells of the solver that judges
WAYS = {
    "network alone": Column("network", ".4f", of=fmean),
    "sample": Column("sample", ".4f", of=fmean),
    "95th percentile": Column("sample", ".4f", of=lambda values: quantiles(values, n=20)[-1]),
    "worst": Column("sample", ".4f", of=max),
    "corrected once more": Column("corrected", ".4f", of=fmean),
    "estimated / true": Column("ratio", ".2f"),
}


def periodic_result(models: Mapping[str, Model]) -> Result:
    """Relative errors at fresh rows, against WENO5 on 512 cells from the exact rows."""
    (model,) = models.values()
    study = checked(model.study, PeriodicBurgersStudy)
    exact = random_rows(Grid(SOLVED), FRESH, torch.Generator().manual_seed(7))
    row = coarsen(exact, SOLVED // CELLS).float()
    times = torch.linspace(0, 1, study.times, dtype=torch.float64)
    records: list[Record] = []
    for viscosity in VISCOSITIES:
        c = {"initial": row, "viscosity": torch.full((FRESH,), viscosity)}
        fine = solve(study.equation(Grid(SOLVED), Weno5()), exact, c, times)
        truth = coarsen(fine, SOLVED // CELLS).unsqueeze(1)
        raw, corrected = (model.sample(condition=c, refine=k) for k in (0, 1))
        with torch.no_grad():
            network = study.observe(model.network.get_submodule("generator")(c))
        error = relative_error(raw.fields, truth)
        if raw.report.error is None:
            raise InputError(f"study {study.name!r}: no law estimates errors")
        found = {
            "network": relative_error(network, truth),
            "sample": error,
            "corrected": relative_error(corrected.fields, truth),
            "ratio": raw.report.error.double() / error,
        }
        records += [
            {"row": f"ν = {viscosity:g}", **{n: float(v[i]) for n, v in found.items()}}
            for i in range(FRESH)
        ]
    title = "Burgers' equation on a circle, from random rows, without data"
    data = {"records": records, "manifest": dict(model.manifest)}
    return Result(title, table(records, WAYS, "viscosity"), data)


RECIPE = Recipe(periodic_result)
