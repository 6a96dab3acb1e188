r"""Darcy flow without data: :math:`-\nabla\cdot(a \nabla u) = 1` on a square, zero around it.

The coefficient is given on 64 x 64 cells. Two families are trained, both of a Gaussian field g of
covariance (-Δ + 9)^-2 and unit variance (`lawful.pde.random_fields`): two-valued, 12 where g is
positive and 3 elsewhere, and lognormal, :math:`6 \cdot 2^g`. Both have the median 6, and 3 and 12
are one standard deviation of the second away from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Annotated, ClassVar, Literal, Self, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lawful.laws import Condition, Estimate
from lawful.metrics.figures import comparison_figure
from lawful.metrics.report import relative_error
from lawful.model import Model
from lawful.pde.elliptic import Cells, Elliptic, EllipticLaw, conjugate_gradients, solve
from lawful.pde.random_fields import neumann_field
from lawful.pde.steady import SteadyGenerator
from lawful.project import Projected
from lawful.study import Axis, Quantity, Study, Training, places
from lawful.table import Column, Recipe, Result, checked, table
from lawful.training import Adam, Batch, Game, Move, correction_loss
from lawful.typed import Size, Within

CELLS, MEDIAN = 64, 6.0
Family = Literal["two-valued", "lognormal"]
FAMILIES: tuple[Family, ...] = get_args(Family)
LAGS = (1, 2, 4, 8, 16, 32)
FAMILY, NEAR = 1_024, 0.6  # trained fields that a field is held against; the distance that is near
FRESH, SEED = 256, 77_000  # conditions per family that figures are measured on, and their seed
LEAST = 0.05  # deviation of a statistic; the range of two values has none
ENOUGH = 1e-3  # relative error that steps of the solver are counted to
PROJECTIONS = 100  # the most steps of a projection
SOLVED = 1e-7  # relative residual of the solution that a sample is held against
JUDGE = "conjugate gradients to 1e-7, of the discrete law only"


@dataclass(frozen=True)
class DarcyStudy(Study):
    """A generator of Darcy flows, trained by the discrete equation alone.

    Arguments:
        family: Coefficients that are drawn: `two-valued`, `lognormal`, or `both` in turn.
        start: Steps of conjugate gradients that the network starts from.
        width, depth: Width and number of halvings of the U-Net.
    """

    family: Family | Literal["both"] = "both"
    start: Annotated[int, Within(1, 16)] = 3
    width: Size = 32
    depth: Annotated[int, Within(0, 4)] = 2

    name: ClassVar[str] = "darcy"
    about: ClassVar[str] = "Darcy flow through random media, without data"
    axes: ClassVar[tuple[Axis, ...]] = (Axis("y", 0, 1), Axis("x", 0, 1))
    headline: ClassVar[str] = (
        "relative error: mean {two_valued_error:.4f} two-valued, {lognormal_error:.4f} lognormal; "
        "worst {two_valued_worst:.4f}, {lognormal_worst:.4f}"
    )
    quantities: ClassVar[tuple[Quantity, ...]] = (
        Quantity(
            "coefficient", MEDIAN / 2**5, MEDIAN * 2**5, minimum=1e-6, shape=(CELLS, CELLS),
            about="of each cell; the first row is at y = 0",
        ),
    )  # fmt: skip

    @classmethod
    def presets(cls) -> Mapping[str, Self]:
        return {
            "full": cls(Training(steps=6_500, average=0.998)),
            "quick": cls(Training(steps=800, average=0.98)),
            "smoke": cls(Training(steps=60, checkpoint=30, average=0.9)),
        }

    def law(self) -> EllipticLaw:
        """The discrete equation, with f = 1."""
        return EllipticLaw()

    def laws(self) -> tuple[EllipticLaw, ...]:
        return (self.law(),)

    def network(self) -> SteadyGenerator:
        return SteadyGenerator(CELLS, CELLS, steps=self.start, width=self.width, depth=self.depth)

    def game(self) -> Game:
        adam = Adam(self.training.learning_rate)
        move = Move("generator", correction_loss(self.law()), adam, name="equation")
        return Game((move,), lambda rng: Batch(self.draw(self.training.batch, rng)))

    def draw_quantity(self, quantity: Quantity, count: int, generator: torch.Generator) -> Tensor:
        """Coefficients of the family; of both, two-valued and lognormal alternately."""
        field = neumann_field(torch.randn(count, CELLS, CELLS, generator=generator))
        layers = torch.where(field > 0, 2 * MEDIAN, MEDIAN / 2)
        smooth = MEDIAN * 2**field
        if self.family == "both":
            even = torch.arange(count) % 2 == 0
            return layers.where(even[:, None, None], smooth)
        return layers if self.family == "two-valued" else smooth

    def outside(
        self, network: nn.Module, condition: Condition
    ) -> dict[str, Bool[Tensor, " batch"]]:
        """Beside values outside the range, fields that are unlike every trained one."""
        marked = super().outside(network, condition)
        marked["coefficient"] |= self.distance(condition["coefficient"]) > NEAR
        return marked

    def distance(self, coefficient: Float[Tensor, "batch rows columns"]) -> Float[Tensor, " batch"]:
        """How far each field's statistics are from those of the nearest of 1,024 trained fields.

        The root mean square over `field_statistics`, each over its standard deviation in training.
        """
        trained, deviation = _family(self)
        found = field_statistics(coefficient) / deviation.to(coefficient)
        distance = torch.cdist(found, (trained / deviation).to(coefficient)).amin(1)
        return distance / found.shape[1] ** 0.5

    def corrector(self) -> EllipticLaw:
        return self.law()

    def estimate(self, network: nn.Module, fields: Tensor, condition: Condition) -> Estimate:
        """Distance from the solution of the discrete equation, which is solved from the sample.

        What the grid of 64 x 64 cells leaves out it does not know. It is NaN where conjugate
        gradients do not converge.
        """
        law, x = self.law(), fields.double()
        c = {name: value.double() for name, value in condition.items()}
        solved = solve(law.operator(c), law.forcing(c), x[:, 0], tolerance=SOLVED)
        found = Estimate.of(fields, solved.solution[:, None], JUDGE)
        unknown = torch.full_like(found.relative, torch.nan)
        return found.where(solved.residual <= SOLVED, Estimate(unknown, unknown, JUDGE))

    def project(self, network: nn.Module, condition: Condition, tolerance: float) -> Projected:
        """Samples taken below a tolerance by conjugate gradients from them, in double precision."""
        law, raw = self.law(), network(condition)
        c = {name: value.double() for name, value in condition.items()}
        before, x = law.violation(raw, condition), raw[:, 0].double()
        near = before <= tolerance
        taken = torch.zeros_like(near, dtype=torch.long)
        steps = conjugate_gradients(law.operator(c), law.forcing(c), x)
        for iterate in islice(steps, 1, PROJECTIONS + 1):
            if bool(near.all()):
                break
            x, taken = x.where(near[:, None, None], iterate.solution), taken + ~near
            near = near | (law.violation(x[:, None].to(raw), condition) <= tolerance)
        fields = x[:, None].to(raw)
        after = law.violation(fields, condition)
        return Projected(
            tolerance=tolerance, raw=before, iterations=taken, exchanges=torch.zeros_like(taken),
            displacement=(fields - raw).abs().mean((1, 2, 3)), reached=after <= tolerance,
            fields=fields, moved=fields, before={law.name: before}, after={law.name: after},
        )  # fmt: skip

    def reference(self, condition: Condition) -> Float[Tensor, "batch 1 rows columns"]:
        """The solution of the discrete equation by conjugate gradients, to 1e-8; float64."""
        return self.law().solution(condition)

    def measure(self, network: nn.Module) -> Mapping[str, float]:
        """Figures on 256 fresh coefficients of each family."""
        return {
            f"{family.replace('-', '_')}_{name}": value
            for family in FAMILIES
            for name, value in summarised(network, family).items()
        }


def field_statistics(coefficient: Cells) -> Float[Tensor, "batch statistic"]:
    """Statistics of log a: its range, its deviation, and its increments by lag along both axes."""
    log = coefficient.log()
    flat = log.flatten(1)
    down, along = (
        [(log.roll(-lag, axis) - log).narrow(axis, 0, log.shape[axis] - lag) for lag in LAGS]
        for axis in (1, 2)
    )
    increments = [change.square().mean((1, 2)).sqrt() for change in (*down, *along)]
    return torch.stack([flat.amax(1) - flat.amin(1), flat.std(1), *increments], 1)


@lru_cache(maxsize=4)
def _family(study: DarcyStudy) -> tuple[Tensor, Tensor]:
    """Statistics of fields to train on, and their deviations."""
    drawn = study.draw(FAMILY, torch.Generator().manual_seed(0))["coefficient"]
    found = field_statistics(drawn)
    return found, found.std(0).clamp_min(LEAST)


# Table: how near samples are, and what the solver makes of them


def fresh(family: Family, count: int) -> Cells:
    """Coefficients of a family that no training has seen."""
    study = replace(DarcyStudy.presets()["full"], family=family)
    return study.draw(count, torch.Generator().manual_seed(SEED))["coefficient"]


def summarised(network: nn.Module, family: Family) -> dict[str, float]:
    """Means of the figures of `judged` on fresh coefficients; of bounds the median, and worsts."""
    found = judged(network, fresh(family, FRESH))
    error, bound = found["error"], found["bound"]
    return {name: float(values.mean()) for name, values in found.items()} | {
        "p95": float(error.quantile(0.95)),
        "worst": float(error.max()),
        "bound": float(bound.median()),
        "bound_worst": float(bound.max()),
    }


def judged(network: nn.Module, coefficient: Cells) -> dict[str, Float[Tensor, " batch"]]:
    """Figures of a network's fields for given coefficients, by name.

    Errors are relative L2 distances from the converged discrete solution: of the raw field, of that
    corrected once, and of the iterate that the network starts from (`start`). The size of one
    correction (`estimate`) and bounds, plain and sharpened by three steps, are over the true error.
    Steps are those of conjugate gradients until the error is at most 1e-3.
    """
    law, c = EllipticLaw(), {"coefficient": coefficient.double()}
    operator, f, solution = law.operator(c), law.forcing(c), law.solution(c, 1e-10)
    with torch.no_grad():
        parts = [network({"coefficient": part}) for part in coefficient.split(64)]
    x = torch.cat(parts).double()
    steps = getattr(network, "steps", 0)
    start = solve(operator, f, tolerance=0.0, steps=steps).solution[:, None]
    corrected, energy = x + law.correction(x, c), operator.energy((x - solution)[:, 0])
    error = relative_error(x, solution)
    return {
        "error": error,
        "corrected": relative_error(corrected, solution),
        "start": relative_error(start, solution),
        "estimate": relative_error(x, corrected) / error,
        "bound": law.bound(x, c).value / energy,
        "sharpened": law.bound(x, c, corrections=3).value / energy,
        "steps_from_zero": _steps(operator, f, torch.zeros_like(f), solution[:, 0]),
        "steps_from_sample": _steps(operator, f, x[:, 0], solution[:, 0]),
    }


def _steps(operator: Elliptic, f: Cells, start: Cells, solution: Cells) -> Float[Tensor, " batch"]:
    """Steps of conjugate gradients from a start until the relative error is at most 1e-3."""
    steps = torch.zeros(len(f), device=f.device)
    for iterate in conjugate_gradients(operator, f, start):
        far = relative_error(iterate.solution[:, None], solution[:, None]) > ENOUGH
        if not bool(far.any()):
            break
        steps = steps + far
    return steps


COLUMNS = {
    "raw": Column("error", ".5f"),
    "95th %": Column("p95", ".5f"),
    "worst": Column("worst", ".5f"),
    "solver's start": Column("start", ".4f"),
    "corrected once": Column("corrected", ".5f"),
    "correction / error": Column("estimate", ".2f"),
    "bound / error": Column("bound", ".2f"),
    "its worst": Column("bound_worst", ".2f"),
    "sharpened": Column("sharpened", ".3f"),
    "steps from zero": Column("steps_from_zero", ".2f"),
    "from the sample": Column("steps_from_sample", ".2f"),
}


def darcy_result(models: Mapping[str, Model]) -> Result:
    """Errors, bounds and steps of the solver, on 256 fresh coefficients of each family."""
    model = next(iter(models.values()))
    study = checked(model.study, DarcyStudy)
    records = [{"row": family, **summarised(model.network, family)} for family in FAMILIES]
    shown = torch.cat([fresh("two-valued", 2), fresh("lognormal", 2)])
    samples = model.sample(coefficient=shown)
    titles = ["two-valued"] * 2 + ["lognormal"] * 2
    where = places(study, samples.fields.shape)
    reference = study.reference(samples.condition)
    text = (
        f"{FRESH} fresh coefficients per family; relative L2 errors against the discrete solution. "
        f"The generator takes {study.start} steps of the solver itself before its network; their "
        "own error is the solver's start. Steps are until the error is at most 1e-3.",
        table(records, COLUMNS, "family"),
    )
    return Result(
        "Darcy flow without data",
        "\n\n".join(text),
        {"records": records, "manifest": dict(model.manifest)},
        {"darcy": comparison_figure(samples.fields, reference, titles, where)},
    )


RECIPE = Recipe(darcy_result)
