"""What a report says of many samples, gathered in bounded memory."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lawful.laws import Estimate, Projection
from lawful.metrics.report import LawReport

KEPT = 65_536
SPREAD = ("mean", "median", "95th percentile", "worst", "samples")


@dataclass(frozen=True)
class Spread:
    """Mean, median, 95th percentile and worst case of a figure, and of how many samples.

    A worst case grows with the number of samples, and says little without it.
    """

    mean: float
    median: float
    p95: float
    worst: float
    samples: int

    @classmethod
    def of(cls, values: Float[Tensor, " batch"]) -> "Spread":
        """The spread of a non-empty vector; NaN counts as infinitely bad.

        >>> Spread.of(torch.tensor([1.0, 2.0, 6.0]))
        Spread(mean=3.0, median=2.0, p95=6.0, worst=6.0, samples=3)
        """
        tally = Tally()
        tally.add(values)
        return tally.spread()

    def as_dict(self) -> dict[str, float]:
        """Plain numbers, for JSON."""
        return asdict(self)

    def texts(self) -> tuple[str, ...]:
        """The entries of a table whose heads are `SPREAD`."""
        return *(
            f"{v:.4f}" for v in (self.mean, self.median, self.p95, self.worst)
        ), f"{self.samples}"


class Tally:
    """A running spread: mean and worst case exact, quantiles exact up to 65,536 values and of a
    uniform random selection of so many beyond (Vitter 1985, algorithm R)."""

    def __init__(self) -> None:
        self.count, self.total, self.worst = 0, 0.0, float("-inf")
        self.kept = np.empty(0)
        self.random = np.random.default_rng(0)

    def add(self, values: Float[Tensor, " batch"]) -> None:
        """Take in some values; NaN counts as infinitely bad."""
        v = values.double().nan_to_num(nan=torch.inf, posinf=torch.inf).cpu().numpy()
        room = max(KEPT - len(self.kept), 0)
        self.kept = np.concatenate([self.kept, v[:room]]) if room else self.kept
        for i, value in enumerate(v[room:], start=self.count + min(room, len(v))):
            place = int(self.random.integers(0, i + 1))
            if place < KEPT:
                self.kept[place] = value
        self.count, self.total = self.count + len(v), self.total + float(v.sum())
        self.worst = max(self.worst, float(v.max(initial=float("-inf"))))

    def spread(self) -> Spread:
        """The spread of all values so far."""
        median, p95 = np.quantile(self.kept, (0.5, 0.95), method="higher")
        return Spread(self.total / self.count, float(median), float(p95), self.worst, self.count)


@dataclass
class LawTally:
    """One law's figures over the samples so far."""

    name: str
    unit: str
    violation: Tally
    largest: float
    floor: float | None


class ProjectionTally:
    """What projection did to the samples so far."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance, self.count, self.reached, self.worsened = tolerance, 0, 0, 0
        self.tallies = {
            name: Tally() for name in ("raw", "iterations", "exchanges", "displacement")
        }

    def add(self, done: Projection) -> None:
        """Take in the samples of one report."""
        self.count += len(done.reached)
        self.reached += int(done.reached.sum())
        self.worsened += 0 if done.worsened is None else int(done.worsened.sum())
        for name, tally in self.tallies.items():
            tally.add(getattr(done, name).float())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        spreads = {name: tally.spread().as_dict() for name, tally in self.tallies.items()}
        return {"tolerance": self.tolerance, "reached": self.reached, "worsened": self.worsened,
                **spreads}  # fmt: skip


class Summary:
    """Law reports taken together; its size does not depend on the number of samples.

    Arguments:
        floors: Violation of a trusted solver's own fields by law, where a report has none.
    """

    def __init__(self, floors: Mapping[str, float | None] | None = None) -> None:
        self.floors = dict(floors or {})
        self.count, self.refinements, self.enforced = 0, 0, False
        self.laws: dict[str, LawTally] = {}
        self.accepted: int | None = None
        self.error: Tally | None = None
        self.distance = Tally()
        self.unjudged = 0
        self.judge = ""
        self.outside: dict[str, int] = {}
        self.projection: ProjectionTally | None = None

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
        """Take in one report."""
        self.tried, self.enforced = report.tried, report.enforced
        for line in report.lines:
            floor = self.floors.get(line.name) if line.floor is None else line.floor
            fresh = LawTally(line.name, line.unit, Tally(), 0.0, floor)
            tally = self.laws.setdefault(line.name, fresh)
            tally.violation.add(line.violation)
            largest = float(line.worst.nan_to_num(nan=torch.inf, posinf=torch.inf).max())
            tally.largest = max(tally.largest, largest)
        self.count += report.count
        if report.accepted is not None:
            self.accepted = (self.accepted or 0) + int(report.accepted.sum())
        if report.estimate is not None:
            self._judge(report.estimate)
        if (done := report.projection) is not None:
            self.projection = self.projection or ProjectionTally(done.tolerance)
            self.projection.add(done)
        for name, mask in report.outside:
            self.outside[name] = self.outside.get(name, 0) + int(mask.sum())

    def _judge(self, estimate: Estimate) -> None:
        """Figures of the samples that have an estimate; the others are counted."""
        known = ~estimate.relative.isnan()
        self.unjudged += int((~known).sum())
        self.judge = estimate.judge
        if bool(known.any()):
            self.error = self.error or Tally()
            self.error.add(estimate.relative[known])
            self.distance.add(estimate.absolute[known])

    def warnings(self) -> dict[str, int]:
        """Samples outside the trained range by quantity, where there are any."""
        return {name: count for name, count in self.outside.items() if count}

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "samples": self.count,
            "refinements": self.tried,
            "corrections_accepted": self.accepted,
            "enforced": self.enforced,
            "refinement": None if self.projection is None else self.projection.as_dict(),
            "laws": [
                {
                    "law": tally.name,
                    "unit": tally.unit,
                    "violation": tally.violation.spread().as_dict(),
                    "largest_residual": tally.largest,
                    "floor": tally.floor,
                }
                for tally in self.laws.values()
            ],
            "estimated_error": None if self.error is None else self.error.spread().as_dict(),
            "estimated_error_absolute": (
                None if self.error is None else self.distance.spread().as_dict()
            ),
            "samples_without_estimate": self.unjudged,
            "judge": self.judge or None,
            "outside_trained_range": self.warnings(),
        }
