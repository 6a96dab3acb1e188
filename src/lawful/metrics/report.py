"""Law reports: how well each sample obeys each law, and many samples taken together."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lawful.errors import InputError
from lawful.laws import Bound, Condition, Estimate, Law, Projection

KEPT = 65_536  # values of which quantiles are taken
SPREAD = ("mean", "median", "95th percentile", "worst", "samples")
MOVED = ("raw", "iterations", "exchanges", "displacement")  # figures of a projection


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
        proven: Bounds of the distance from the solution of a law that can prove them.
    """

    lines: tuple[LawLine, ...]
    estimate: Estimate | None = None
    outside: tuple[tuple[str, Tensor], ...] = ()
    tried: int = 0
    accepted: Int[Tensor, " batch"] | None = None
    enforced: bool = False
    projection: Projection | None = None
    proven: Bound | None = None

    @property
    def bound(self) -> Float[Tensor, " batch"] | None:
        """What the distance of each sample from the exact solution of its discrete law is proven
        not to exceed, absolute, in the norm `bound_norm`; None where no law proves one."""
        return None if self.proven is None else self.proven.value

    @property
    def bound_norm(self) -> str | None:
        """`energy`, `L1` or `max`; None where there is no bound."""
        return None if self.proven is None else self.proven.norm

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
    """Violations of `fields`; with a reference, the floor is the reference's own violation.

    Of several laws that prove a bound the first one's is taken.
    """
    lines, proven = [], None
    with torch.no_grad():
        for law in laws:
            floor = None
            if reference is not None:  # in the precision of the fields, whose rounding it shares
                floor = float(law.violation(reference.to(fields), condition).mean())
            violation, worst = law.violation(fields, condition), law.worst(fields, condition)
            lines.append(LawLine(law.name, law.unit, violation, worst, floor))
            proven = proven or law.bound(fields, condition)
    return LawReport(tuple(lines), proven=proven)


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


class Spread:
    """Mean, median, 95th percentile and worst case of a figure, of values that come in parts.

    NaN counts as infinitely bad. Mean and worst case are exact, and so are quantiles up to 65,536
    values; beyond, these are of a uniform random selection of so many. A worst case grows with the
    number of samples, and says little without it.
    """

    def __init__(self) -> None:
        self.samples, self.total, self.worst = 0, 0.0, -inf
        self.parts: list[np.ndarray] = []  # a random number for each value, and the values
        self.random = np.random.default_rng(0)

    @classmethod
    def of(cls, values: Float[Tensor, " batch"]) -> "Spread":
        """The spread of a non-empty vector.

        >>> Spread.of(torch.tensor([1.0, 2.0, 6.0])).as_dict()
        {'mean': 3.0, 'median': 2.0, 'p95': 6.0, 'worst': 6.0, 'samples': 3}
        """
        spread = cls()
        spread.add(values)
        return spread

    def add(self, values: Float[Tensor, " batch"]) -> None:
        """Take in some values."""
        v = values.double().nan_to_num(nan=inf, posinf=inf).cpu().numpy()
        self.samples, self.total = self.samples + len(v), self.total + float(v.sum())
        self.worst = max(self.worst, float(v.max(initial=-inf)))
        self.parts.append(np.stack([self.random.random(len(v)), v]))
        if sum(part.shape[1] for part in self.parts) > 2 * KEPT:
            self.parts = [self._selection()]

    def _selection(self) -> np.ndarray:
        """The values of the smallest random numbers, whatever the parts they came in."""
        found = np.concatenate(self.parts, 1)
        many = found.shape[1] > KEPT
        return found[:, np.argpartition(found[0], KEPT)[:KEPT]] if many else found

    def as_dict(self) -> dict[str, float]:
        """Plain numbers, for JSON."""
        median, p95 = np.quantile(self._selection()[1], (0.5, 0.95), method="higher")
        return {
            "mean": self.total / self.samples, "median": float(median), "p95": float(p95),
            "worst": self.worst, "samples": self.samples,
        }  # fmt: skip

    def texts(self) -> tuple[str, ...]:
        """The entries of a table whose heads are `SPREAD`."""
        *figures, count = self.as_dict().values()
        return *(f"{value:.4f}" for value in figures), f"{count}"


class Summary:
    """Law reports taken together; its size does not depend on the number of samples.

    Arguments:
        floors: Violation of a trusted solver's own fields by law, where a report has none.
    """

    def __init__(self, floors: Mapping[str, float | None] | None = None) -> None:
        self.floors = dict(floors or {})
        self.last = LawReport(())
        self.laws: dict[str, LawLine] = {}
        self.spreads: defaultdict[tuple[str, ...], Spread] = defaultdict(Spread)
        self.counts: Counter[str] = Counter()
        self.outside: Counter[str] = Counter()

    @classmethod
    def of(
        cls, reports: Iterable[LawReport], floors: Mapping[str, float | None] | None = None
    ) -> "Summary":
        """The summary of some reports."""
        summary = cls(floors)
        for report in reports:
            summary.add(report)
        return summary

    def add(self, report: LawReport) -> None:
        """Take in one report; what was asked of the samples is the same in all of them."""
        self.last = report
        self.counts["samples"] += report.count
        for line in report.lines:
            self.laws.setdefault(line.name, line)
            self.spreads["violation", line.name].add(line.violation)
            self.spreads["worst", line.name].add(line.worst)
        if report.accepted is not None:
            self.counts["accepted"] += int(report.accepted.sum())
        if (estimate := report.estimate) is not None:
            known = ~estimate.relative.isnan()
            self.counts["unjudged"] += int((~known).sum())
            if bool(known.any()):
                self.spreads["relative",].add(estimate.relative[known])
                self.spreads["absolute",].add(estimate.absolute[known])
        if report.bound is not None:
            self.spreads["bound",].add(report.bound)
        if (done := report.projection) is not None:
            self.counts["reached"] += int(done.reached.sum())
            self.counts["worsened"] += 0 if done.worsened is None else int(done.worsened.sum())
            for name in MOVED:
                self.spreads[name,].add(getattr(done, name).float())
        self.outside.update({name: int(mask.sum()) for name, mask in report.outside})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, of which reports are made in JSON and in words."""
        counts, last, done = self.counts, self.last, self.last.projection
        spreads = {key: spread.as_dict() for key, spread in self.spreads.items()}
        moved = {name: spreads[name,] for name in MOVED if (name,) in spreads}
        return {
            "samples": counts["samples"],
            "refinements": last.tried,
            "corrections_accepted": None if last.accepted is None else counts["accepted"],
            "enforced": last.enforced,
            "refinement": None if done is None else {
                "tolerance": done.tolerance, "reached": counts["reached"],
                "worsened": counts["worsened"], **moved,
            },
            "laws": [
                {
                    "law": name,
                    "unit": line.unit,
                    "violation": spreads["violation", name],
                    "largest_residual": self.spreads["worst", name].worst,
                    "floor": self.floors.get(name) if line.floor is None else line.floor,
                }
                for name, line in self.laws.items()
            ],
            "estimated_error": spreads.get(("relative",)),
            "estimated_error_absolute": spreads.get(("absolute",)),
            "samples_without_estimate": counts["unjudged"],
            "judge": None if last.estimate is None else last.estimate.judge,
            "bound": spreads.get(("bound",)),
            "bound_norm": last.bound_norm,
            "outside_trained_range": {name: n for name, n in self.outside.items() if n},
        }  # fmt: skip
