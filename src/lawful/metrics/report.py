"""Law reports: how well each sample obeys each law."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import Condition, Estimate, Law
from lawful.project import Refined


@dataclass(frozen=True)
class LawLine:
    """One law's violation (root mean square of the residual) for every sample.

    Arguments:
        worst: Largest residual magnitude of each sample.
        floor: Mean violation of a trusted solver's own fields; None where there is no solver.
    """

    name: str
    unit: str
    violation: Float[Tensor, " batch"]
    worst: Float[Tensor, " batch"]
    floor: float | None = None


@dataclass(frozen=True)
class Refinement:
    """What was done to each sample to bring every violation below `tolerance`.

    Arguments:
        raw: Largest violation of each raw sample.
        iterations: Gauss-Newton steps.
        exchanges: Pairs of pixels exchanged after them.
        displacement: Mean absolute change of the sample.
        reached: Whether it is below the tolerance now.
        worsened: Whether its estimated error rose, where the study can give one.
    """

    tolerance: float
    raw: Float[Tensor, " batch"]
    iterations: Int[Tensor, " batch"]
    exchanges: Int[Tensor, " batch"]
    displacement: Float[Tensor, " batch"]
    reached: Bool[Tensor, " batch"]
    worsened: Bool[Tensor, " batch"] | None = None

    @classmethod
    def of(cls, refined: Refined, tolerance: float) -> "Refinement":
        """In short, what `laws.refine` did."""
        raw = torch.stack(list(refined.before.values())).amax(0)
        return cls(tolerance, raw.cpu(), refined.iterations.cpu(), refined.exchanges.cpu(),
                   refined.displacement.cpu(), refined.reached.cpu())  # fmt: skip

    def checked(self, lines: Sequence[LawLine]) -> "Refinement":
        """Reached only where every law that is reported is within the tolerance."""
        within = [line.violation <= self.tolerance for line in lines]
        return replace(self, reached=torch.stack([self.reached, *within]).all(0))

    def judged(self, before: Estimate | None, after: Estimate | None) -> "Refinement":
        """Worse where the sample was moved and its estimated error is larger than before."""
        if before is None or after is None:
            return self
        rose = (after.absolute > before.absolute).cpu()
        return replace(self, worsened=rose & (self.displacement > 0))

    @classmethod
    def merge(cls, parts: Sequence["Refinement"]) -> "Refinement":
        """One account of the samples of several."""
        names = ("raw", "iterations", "exchanges", "displacement", "reached")
        joined = (torch.cat([getattr(part, name) for part in parts]) for name in names)
        worsened = [part.worsened for part in parts if part.worsened is not None]
        whole = len(worsened) == len(parts)
        rose = torch.cat(worsened) if whole else None
        return replace(cls(parts[0].tolerance, *joined), worsened=rose)


@dataclass(frozen=True)
class LawReport:
    """What is known of every sample without comparing it with a solution.

    Arguments:
        lines: One a law.
        estimate: Estimated error of each sample, where the study can give it.
        outside: For each quantity, which samples lie outside its trained range.
        refinements: Corrections tried on each raw sample.
        accepted: How many of them each sample has taken, where any were tried: those that lower
            its estimate. The others were refused and left it as it was.
        enforced: Whether affine laws were enforced on them after that.
        refinement: What it took to bring each sample below a tolerance, where that was asked for.
    """

    lines: tuple[LawLine, ...]
    estimate: Estimate | None = None
    outside: tuple[tuple[str, Tensor], ...] = ()
    refinements: int = 0
    accepted: Int[Tensor, " batch"] | None = None
    enforced: bool = False
    refinement: Refinement | None = None

    @property
    def count(self) -> int:
        """Number of samples; 0 where nothing is known of any."""
        known = [line.violation for line in self.lines] + [mask for _, mask in self.outside]
        return len(known[0]) if known else 0

    @property
    def error(self) -> Float[Tensor, " batch"] | None:
        """Estimated relative L2 error of each sample, where the study can give it."""
        return None if self.estimate is None else self.estimate.relative

    def line(self, name: str) -> LawLine:
        """The line of the law called `name`.

        Raises:
            InputError: There is no such law.
        """
        lines = {line.name: line for line in self.lines}
        if name not in lines:
            raise InputError(f"report: no law {name!r}; there are {', '.join(lines) or 'none'}")
        return lines[name]


def law_report(
    laws: Sequence[Law],
    fields: Float[Tensor, "batch channel *space"],
    condition: Condition,
    *,
    reference: Float[Tensor, "batch channel *space"] | None = None,
) -> LawReport:
    """Violations of `fields`; with a reference, the floor is the reference's own violation."""
    lines = []
    with torch.no_grad():
        for law in laws:
            floor = None if reference is None else float(law.violation(reference, condition).mean())
            violation, worst = law.violation(fields, condition), law.worst(fields, condition)
            lines.append(LawLine(law.name, law.unit, violation, worst, floor))
    return LawReport(tuple(lines))


def merge(reports: Sequence[LawReport]) -> LawReport:
    """One report over the samples of several, which must be of the same laws.

    It has an estimate where each of them has one.
    """
    first = reports[0]
    lines = tuple(
        LawLine(
            line.name,
            line.unit,
            torch.cat([r.lines[i].violation for r in reports]),
            torch.cat([r.lines[i].worst for r in reports]),
            line.floor,
        )
        for i, line in enumerate(first.lines)
    )
    estimates = [r.estimate for r in reports if r.estimate is not None]
    whole = len(estimates) == len(reports)
    outside = tuple(
        (name, torch.cat([r.outside[i][1] for r in reports]))
        for i, (name, _) in enumerate(first.outside)
    )
    estimate = Estimate.merge(estimates) if whole else None
    refined = [r.refinement for r in reports if r.refinement is not None]
    refinement = Refinement.merge(refined) if refined else None
    taken = [r.accepted for r in reports if r.accepted is not None]
    accepted = torch.cat(taken) if taken else None
    return LawReport(
        lines, estimate, outside, first.refinements, accepted, first.enforced, refinement
    )


def relative_error(
    fields: Float[Tensor, "batch *space"], reference: Float[Tensor, "batch *space"]
) -> Float[Tensor, " batch"]:
    """Relative L2 error of each sample, in float64 (InvNet, table 2).

    Where the reference is zero there is no scale, and it is the root mean square error.
    """
    truth = reference.flatten(1).double()
    difference = fields.flatten(1).double() - truth
    size = truth.norm(dim=1)
    return difference.norm(dim=1) / size.masked_fill(size == 0, truth.shape[1] ** 0.5)
