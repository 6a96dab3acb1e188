"""Law reports: how well each sample obeys each law."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import Condition, Estimate, Law, Projection


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
        lines: One per law.
        estimate: Estimated error of each sample, where the study can give it.
        outside: For each quantity, which samples lie outside its trained range.
        tried: Corrections tried on each raw sample.
        accepted: How many of them each sample has taken, where any were tried: those that lower
            its estimate. The others were refused and left it as it was.
        enforced: Whether affine laws were enforced on them after that.
        projection: What it took to bring each sample below a tolerance, where that was asked for.
    """

    lines: tuple[LawLine, ...]
    estimate: Estimate | None = None
    outside: tuple[tuple[str, Tensor], ...] = ()
    tried: int = 0
    accepted: Int[Tensor, " batch"] | None = None
    enforced: bool = False
    projection: Projection | None = None

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


def reached(
    done: Projection,
    lines: Sequence[LawLine],
    before: Estimate | None,
    after: Estimate | None,
) -> Projection:
    """A projection judged by a report: reached only where every law of it is within the tolerance,
    and worse where the sample was moved and its estimated error is larger than before."""
    within = [line.violation <= done.tolerance for line in lines]
    worsened = None
    if before is not None and after is not None:
        worsened = (after.absolute > before.absolute).cpu() & (done.displacement > 0)
    return replace(done, reached=torch.stack([done.reached, *within]).all(0), worsened=worsened)


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
