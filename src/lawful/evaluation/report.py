"""Law reports: how well each sample obeys each law."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lawful.condition import Condition
from lawful.laws.law import Law


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
class LawReport:
    """What is known of every sample without comparing it with a solution.

    Arguments:
        lines: One a law.
        error: Estimated relative L2 error of each sample, where the study can give it.
        outside: For each quantity, which samples lie outside its trained range.
        refinements: Corrections applied to the raw samples.
        enforced: Whether affine laws were enforced on them after that.
    """

    lines: tuple[LawLine, ...]
    error: Float[Tensor, " batch"] | None = None
    outside: tuple[tuple[str, Tensor], ...] = ()
    refinements: int = 0
    enforced: bool = False

    def line(self, name: str) -> LawLine:
        """The line of the law called `name`."""
        return next(line for line in self.lines if line.name == name)


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
    """One report over the samples of several, which must be of the same laws."""
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
    errors = [r.error for r in reports if r.error is not None]
    outside = tuple(
        (name, torch.cat([r.outside[i][1] for r in reports]))
        for i, (name, _) in enumerate(first.outside)
    )
    error = torch.cat(errors) if errors else None
    return LawReport(lines, error, outside, first.refinements, first.enforced)


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
