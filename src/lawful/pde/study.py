"""A study of a conservation law: state the equation and the initial profile, and train on the law.

Fields are `(batch, 1, times, cells)`, cell averages at even times. The generator carries a finer
field, `refinement` cells per cell, and users see its averages.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import Condition, Estimate, Law
from lawful.pde.equations import ConservationLaw
from lawful.pde.grid import Dirichlet, Grid, Periodic, coarsen, refine
from lawful.pde.laws import BoundaryLaw, InitialLaw, MassLaw, ThetaLaw
from lawful.pde.network import EvolutionGenerator
from lawful.pde.schemes import FirstOrder, Muscl, Scheme, Weno5
from lawful.pde.solve import solve
from lawful.study import Axis, Quantity, Study
from lawful.training import Adam, Batch, Game, Move, correction_loss
from lawful.typed import Size, Within

CHUNK = 64  # samples solved at once, so that memory does not grow with the fine grid
CREST = 0.1  # slack of the clamp over a row's range: a peak can lie above every cell average
SCHEMES: Mapping[str, Scheme] = {
    "first-order": FirstOrder(),
    "muscl": Muscl(),
    "weno5": Weno5(epsilon=1e-4),
}


@dataclass(frozen=True)
class ConservationStudy(Study):
    """A generator of solutions of a conservation law, trained by the equation alone.

    A subclass states `equation`, two `axes`, of time (with `nodes`) and of space, and its
    `quantities`: the equation's parameters by name, and where rows begin. Either a `profile` makes
    the initial row from quantities of its own; users may give a row of cell averages instead where
    there is a quantity `initial` of shape `(cells,)` that is not required and stands `instead_of`
    one of them. Or `initial` is required itself, and `family` draws the rows to train on.

    Arguments:
        scheme: Scheme of the law.
        refinement: Cells of the generator and of the law that trains it, per cell that users see;
            what users see are averages over them.
        width, depth: Width and number of halvings of the U-Net.

    Attributes:
        cells, times: Cells and rows that users see.
        own_speeds: Characteristic speeds of each initial row's own at which the network sees it,
            of a periodic equation; 0 for the fixed ones of `carried`.
        patch_rows: Rows of the patches that the network sees.
        substeps: Steps of a correction's march per row, at least the greatest Courant number.
        nonnegative: Whether initial rows are, and stay so when they are refined.
    """

    scheme: Literal["first-order", "muscl", "weno5"] = "weno5"
    refinement: Annotated[int, Within(1, 16)] = 2
    width: Size = 32
    depth: Annotated[int, Within(0, 5)] = 1

    cells: ClassVar[int] = 64
    times: ClassVar[int] = 64
    own_speeds: ClassVar[int] = 0
    patch_rows: ClassVar[int] = 2
    substeps: ClassVar[int] = 1
    nonnegative: ClassVar[bool] = False

    @abstractmethod
    def equation(self, grid: Grid, scheme: Scheme) -> ConservationLaw:
        """The equation with its two ends on a grid."""

    def profile(self, grid: Grid, c: Condition) -> Float[Tensor, "batch cells"]:
        """Initial cell averages on a grid, from the quantities of `c`."""
        raise InputError(f"study {self.name!r}: expected an initial row or a profile")

    def family(self, count: int, generator: torch.Generator) -> Float[Tensor, "batch cells"]:
        """Initial rows to train on, where `initial` is a required quantity."""
        raise InputError(f"study {self.name!r}: expected a family of initial rows")

    def carried(self) -> tuple[float, ...]:
        """Speeds, of either sign, at which the network sees the initial row carried."""
        return ()

    @property
    def exact_initial(self) -> bool:
        """Whether the generator has the initial row by construction."""
        return True

    def grid(self, factor: int = 1) -> Grid:
        """The grid with `factor` cells per cell that users see."""
        _, space = self.axes
        return Grid(self.cells * factor, float(space.lower), float(space.upper))

    def law(self, factor: int = 1, times: int | None = None) -> ThetaLaw:
        """Crank-Nicolson residual on `factor` cells per cell, between so many rows."""
        equation = self.equation(self.grid(factor), SCHEMES[self.scheme])
        return ThetaLaw(equation, self.axes[0].step(times or self.times), substeps=self.substeps)

    def laws(self) -> tuple[Law, ...]:
        law = self.law()
        ends = {"boundary": law.equation.left, "right boundary": law.equation.right}
        fixed = (
            BoundaryLaw(end.value, right=name != "boundary", name=name)
            for name, end in ends.items()
            if isinstance(end, Dirichlet)
        )
        return law, MassLaw(law), InitialLaw(), *fixed

    def network(self) -> torch.nn.Module:
        time, space = self._stated()
        equation = self.law().equation
        ranges = {q.name: (q.lower, q.upper) for q in self.quantities}
        if missing := set(equation.parameters) - ranges.keys():
            raise InputError(f"study {self.name!r}: expected a quantity {min(missing)!r}")
        return EvolutionGenerator(
            self.cells,
            self.times,
            {name: ranges[name] for name in equation.parameters},
            duration=(time.upper - time.lower) / (space.upper - space.lower),
            refinement=self.refinement,
            speeds=self.carried(),
            equation=equation if self.own_speeds else None,
            own_speeds=self.own_speeds,
            rows=self.patch_rows,
            periodic=isinstance(equation.left, Periodic),
            nonnegative=self.nonnegative,
            exact_initial=self.exact_initial,
            width=self.width,
            depth=self.depth,
        )

    def _stated(self) -> tuple[Axis, Axis]:
        """The two axes, once what the equation states has the shapes that it must have."""
        said = f"study {self.name!r}"
        if len(self.axes) != 2 or not self.axes[0].nodes:
            raise InputError(f"{said}: expected two axes, of time with nodes=True and of space")
        equation = self.law().equation
        if self.own_speeds and not isinstance(equation.left, Periodic):
            raise InputError(f"{said}: own_speeds are of periodic equations, got {equation.left}")
        if not isinstance(equation.parameters, tuple):
            raise InputError(f"{said}: expected a tuple of names, got {equation.parameters!r}")
        if self.substeps < 1 or self.own_speeds < 0 or self.patch_rows < 1:
            raise InputError(f"{said}: expected substeps and patch_rows >= 1 and own_speeds >= 0")
        u = torch.full((2, self.cells), 0.5)
        c = {name: torch.ones(2, 1) for name in equation.parameters}
        stated = {
            "flux": (equation.flux(u, c), u.shape),
            "speed": (equation.speed(u, c) + 0 * u, u.shape),
            "source": (equation.source(u, c), u.shape),
            "diffusivity": (equation.diffusivity(c), (2, 1)),
        }
        for name, (value, shape) in stated.items():
            found = torch.as_tensor(value).shape
            if found != shape and (name == "flux" or not _fits(found, shape)):
                raise InputError(
                    f"{said}: {name} of shape {tuple(found)}, expected {tuple(shape)} of 2 samples"
                )
        return self.axes[0], self.axes[1]

    def game(self) -> Game:
        loss = correction_loss(self.law(self.refinement))
        move = Move("generator", loss, Adam(self.training.learning_rate), name="equation")
        return Game((move,), lambda rng: Batch(self.draw(self.training.batch, rng)))

    def draw_quantity(self, quantity: Quantity, count: int, generator: torch.Generator) -> Tensor:
        if quantity.name == "initial":
            return self.family(count, generator)
        return super().draw_quantity(quantity, count, generator)

    def condition(self, given: Condition) -> Condition:
        if "initial" in given:
            return {name: v for name, v in given.items() if name not in self._profile_quantities()}
        row = self.profile(self.grid(), given)
        return {**given, "initial": row.to(next(iter(given.values())))}

    def _profile_quantities(self) -> list[str]:
        """The arguments of the profile: required quantities that are no parameters."""
        parameters = self.law().equation.parameters
        others = {*parameters, "initial"}
        return [q.name for q in self.quantities if q.required and q.name not in others]

    def observe(self, fields: Tensor) -> Tensor:
        """Averages over the cells, clamped to the range of the initial and the boundary values.

        A solution stays in that range (maximum principle), and the nearest field that does is
        nearer to every solution. Only averages of the initial row are known, and its values may be
        beyond them: the clamp leaves a slack of `CREST` of the range. It may change the total mass.
        """
        seen = coarsen(fields, fields.shape[-1] // self.cells)
        equation = self.law().equation
        if not (self.exact_initial and equation.bounded):
            return seen
        ends = seen.new_tensor(equation.prescribed()).expand(*seen[:, :, :1, 0].shape, -1)
        values = torch.cat([seen[:, :, :1], ends], -1)
        low, high = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
        slack = CREST * (high - low)
        return seen.clamp(low - slack, high + slack)

    def corrector(self) -> ThetaLaw:
        return self.law(self.refinement)

    def estimate(self, network: torch.nn.Module, fields: Tensor, condition: Condition) -> Estimate:
        """Change of the observed field under two corrections on a grid twice as fine.

        The field is refined in space and interpolated in time, and corrected by the law on twice
        the cells and half the step: the change contains the generator's error and most of the error
        of the law that it was trained with. A correction is linear, and one alone falls short of
        large errors: of an inviscid rarefaction that opens at the inflow it finds half.
        """
        fine = refine(fields, 2)
        rows = torch.stack([fine[:, :, :-1], (fine[:, :, 1:] + fine[:, :, :-1]) / 2], 3)
        fine = torch.cat([rows.flatten(2, 3), fine[:, :, -1:]], 2)
        times, cells = fine.shape[2:]
        law = self.law(cells // self.cells, times)
        for _ in range(2):
            fine = fine + law.correction(fine, condition)
        corrected = self.observe(coarsen(fine[:, :, ::2], 2))
        judge = f"{law.name} on {cells} cells and {times - 1} steps"
        return Estimate.of(self.observe(fields), corrected, judge)

    def reference(
        self, condition: Condition, factor: int = 16
    ) -> Float[Tensor, "batch 1 times cells"]:
        """WENO5 and SSP-RK3 on `factor` cells per cell, averaged; float64.

        The initial row is exact where the condition has what the profile depends on, else it is
        reconstructed from its averages.
        """
        time, _ = self.axes
        rows = torch.linspace(time.lower, time.upper, self.times, dtype=torch.float64)
        equation, shape = self.equation(self.grid(factor), Weno5()), self._profile_quantities()

        def solved(first: int) -> Tensor:
            c = {name: value[first : first + CHUNK] for name, value in condition.items()}
            if shape and all(name in c for name in shape):
                initial = self.profile(equation.grid, c).double()
            else:
                initial = refine(c["initial"].double(), factor, nonnegative=self.nonnegative)
            return coarsen(solve(equation, initial, c, rows), factor).unsqueeze(1)

        return torch.cat([solved(first) for first in range(0, len(condition["initial"]), CHUNK)])


def _fits(found: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether values of one shape stand for those of the other, repeated."""
    padded = (1,) * (len(shape) - len(found)) + tuple(found)
    pairs = zip(padded, shape, strict=False)
    return len(found) <= len(shape) and all(a in (1, b) for a, b in pairs)
