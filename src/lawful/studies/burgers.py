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
from jaxtyping import Float
from torch import Tensor, nn

from lawful.laws import Condition, CorrectableLaw, Estimate, Law
from lawful.pde.equations import Burgers
from lawful.pde.grid import Dirichlet, Grid, Outflow, coarsen, refine
from lawful.pde.laws import BoundaryLaw, InitialLaw, MassLaw, ThetaLaw
from lawful.pde.network import EvolutionGenerator
from lawful.pde.schemes import FirstOrder, Muscl, Scheme, Weno5
from lawful.pde.sobel import SobelBurgersLaw
from lawful.pde.solve import solve
from lawful.study import Axis, Quantity, Study, Training
from lawful.training import Adam, Batch, Game, Move, correction_loss, law_loss
from lawful.typed import Size, Within

CELLS, TIMES, DURATION = 64, 64, 0.2
ROWS = torch.linspace(0, DURATION, TIMES, dtype=torch.float64)
REFERENCE_CELLS, CHUNK = 1024, 64
CREST = 0.1  # of a row's range, by which averages may rise where a crest comes into a cell's middle
FAMILY, NEAR = 16_384, 0.35  # trained rows that a row is held against; the distance that is near
SCHEMES: Mapping[str, Scheme] = {
    "first-order": FirstOrder(),
    "muscl": Muscl(),
    "weno5": Weno5(epsilon=1e-4),
}


def equation(cells: int, scheme: Scheme) -> Burgers:
    """The operators of this study's domain on `cells` cells."""
    return Burgers(Grid(cells), scheme, Dirichlet(0.0), Outflow())


def raised_cosine(grid: Grid, frequency: Float[Tensor, " batch"]) -> Float[Tensor, "batch cells"]:
    """Averages of ½(1 - cos 2 pi c x), InvNet's initial condition (eq. 5); float64."""
    c = frequency.double().unsqueeze(-1)
    # x/2 - sin(2 pi c x) / (4 pi c), with the limit 0 at c = 0
    return grid.averages(lambda x: x / 2 - x / 2 * torch.sinc(2 * c * x))


@dataclass(frozen=True)
class BurgersStudy(Study):
    """A generator of solutions of Burgers' equation, trained by the equation alone.

    Arguments:
        objective: What the generator descends: `correction` (distance from its own field after
            one step of defect correction), `residual` (mean square residual of the same law), or
            `sobel` (the paper's image-gradient residual).
        initial: Initial condition `exact` by construction, or a law in alternation with the
            equation, as in the paper's algorithm 1.
        scheme, refinement: Scheme of the law, and its cells a cell of the field.
        variety: Share of a batch whose initial conditions are scaled, superposed and shifted
            waves of the same frequencies, so that other initial conditions are in reach.
        speeds: Number of characteristic speeds in (0, 1] shown to the network.
        width, depth: Of the U-Net.
    """

    training: Training
    objective: Literal["correction", "residual", "sobel"] = "correction"
    initial: Literal["exact", "alternating"] = "exact"
    scheme: Literal["first-order", "muscl", "weno5"] = "weno5"
    refinement: Annotated[int, Within(1, 16)] = 2
    variety: Annotated[float, Within(0, 1)] = 0.5
    speeds: Annotated[int, Within(0, 1_000)] = 8
    width: Size = 32
    depth: Annotated[int, Within(0, 5)] = 1

    name: ClassVar[str] = "burgers"
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

    def network(self) -> nn.Module:
        return EvolutionGenerator(
            CELLS,
            TIMES,
            {"viscosity": (0.001, 0.05)},
            duration=DURATION,
            refinement=self.refinement,
            speeds=tuple((k + 1) / self.speeds for k in range(self.speeds)),
            nonnegative=True,
            exact_initial=self.initial == "exact",
            width=self.width,
            depth=self.depth,
        )

    def law(self, refinement: int = 1) -> ThetaLaw:
        """Crank-Nicolson residual of this study's scheme on `refinement` cells a cell."""
        scheme = SCHEMES[self.scheme]
        return ThetaLaw(equation(CELLS * refinement, scheme), DURATION / (TIMES - 1))

    def sobel(self) -> SobelBurgersLaw:
        """The paper's residual on this study's rows and cells."""
        return SobelBurgersLaw(DURATION / (TIMES - 1), 1 / (CELLS * self.refinement))

    def laws(self) -> tuple[Law, ...]:
        burgers = self.law()
        return burgers, MassLaw(burgers), InitialLaw(), BoundaryLaw()

    def refiner(self) -> CorrectableLaw:
        return self.law(self.refinement)

    def game(self) -> Game:
        adam = Adam(self.training.learning_rate)
        fine = self.law(self.refinement)
        loss = {
            "correction": lambda: correction_loss(fine),
            "residual": lambda: law_loss(fine),
            "sobel": lambda: law_loss(self.sobel()),
        }[self.objective]()
        moves = [Move("generator", loss, adam, name="equation")]
        if self.initial == "alternating":
            moves.append(Move("generator", law_loss(InitialLaw()), adam, name="initial"))
        return Game(tuple(moves), lambda rng: Batch(self.draw(self.training.batch, rng)))

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

    def condition(self, given: Condition) -> Condition:
        if "initial" in given:
            return given
        wave = raised_cosine(Grid(CELLS), given["frequency"])
        return {**given, "initial": wave.to(given["viscosity"])}

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

    def observe(self, fields: Tensor) -> Tensor:
        """Averages over the cells, within what the maximum principle allows.

        A solution stays between the least and the greatest of its initial and its boundary values.
        The nearest field that does is nearer to every solution. Averages are known of the initial
        row, not its values, which may be beyond them: by up to `CREST` of the range, we grant.
        """
        seen = coarsen(fields, fields.shape[-1] // CELLS)
        if self.initial != "exact":  # the first row is generated too
            return seen
        low = seen[:, :, :1].amin(-1, keepdim=True).clamp_max(0)
        high = seen[:, :, :1].amax(-1, keepdim=True).clamp_min(0)
        slack = CREST * (high - low)
        return seen.clamp(low - slack, high + slack)

    def estimate(self, network: nn.Module, fields: Tensor, condition: Condition) -> Estimate:
        """Change of the observed field under two corrections on a grid twice as fine.

        The field is refined in space and interpolated in time, and corrected by the law on twice
        the cells and half the step: the change holds the generator's error and most of the error
        of the law that it was trained with. A correction is linear, and one alone falls short of
        large errors: half of an inviscid fan that opens at the inflow.
        """
        fine = refine(fields, 2)
        rows = torch.stack([fine[:, :, :-1], (fine[:, :, 1:] + fine[:, :, :-1]) / 2], 3)
        fine = torch.cat([rows.flatten(2, 3), fine[:, :, -1:]], 2)
        law = ThetaLaw(
            equation(fine.shape[-1], SCHEMES[self.scheme]), DURATION / (fine.shape[2] - 1)
        )
        for _ in range(2):
            fine = fine + law.correction(fine, condition)
        judge = f"burgers on {fine.shape[-1]} cells and {fine.shape[2] - 1} steps"
        corrected = self.observe(coarsen(fine[:, :, ::2], 2))
        return Estimate.of(self.observe(fields), corrected, judge)

    def reference(self, condition: Condition) -> Float[Tensor, "batch 1 times cells"]:
        return refined_reference(condition)


@lru_cache(maxsize=4)
def _family(study: BurgersStudy) -> Float[Tensor, "rows cells"]:
    return study.draw(FAMILY, torch.Generator().manual_seed(0))["initial"]


def refined_reference(
    condition: Condition, cells: int = REFERENCE_CELLS
) -> Float[Tensor, "batch 1 times cells"]:
    """WENO5 and SSP-RK3 on `cells` cells, averaged to 64; float64.

    The initial condition is exact where the condition has a `frequency`, else reconstructed from
    its 64 averages. Solved in chunks, so that memory does not grow with the fine grid.
    """
    count = len(condition["viscosity"])
    chunks = [
        {name: value[first : first + CHUNK] for name, value in condition.items()}
        for first in range(0, count, CHUNK)
    ]
    return torch.cat([_refined(chunk, cells) for chunk in chunks])


def _refined(condition: Condition, cells: int) -> Tensor:
    if "frequency" in condition:
        initial = raised_cosine(Grid(cells), condition["frequency"])
    else:
        initial = refine(condition["initial"].double(), cells // CELLS, nonnegative=True)
    fine = solve(equation(cells, Weno5()), initial, condition, ROWS)
    return coarsen(fine, cells // CELLS).unsqueeze(1)


def euler_reference(condition: Condition) -> Float[Tensor, "batch 1 times cells"]:
    """The paper's reference: explicit Euler and first-order upwind fluxes on the same grid.

    Its steps are those of the rows, and stable for u up to 5 and viscosities up to 0.038.
    """
    coarse, rows = equation(CELLS, FirstOrder()), [condition["initial"].double()]
    c = coarse.coefficients(condition, rows[0])
    for dt in ROWS.diff().tolist():
        rows.append(rows[-1] + dt * coarse.tendency(rows[-1], c))
    return torch.stack(rows, -2).unsqueeze(1)
