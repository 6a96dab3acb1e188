"""A law report as text, at most 80 columns wide."""

import sys
from collections.abc import Mapping
from typing import Any

from lawful.evaluation.report import LawReport, Spread

HEADS = ("law", "unit", "mean", "95th %", "worst", "floor")


def report_rows(report: LawReport, floors: Mapping[str, float | None]) -> list[tuple[str, ...]]:
    """A row a law: violation (root mean square of the residual) over the samples."""
    rows = []
    for line in report.lines:
        spread = Spread.of(line.violation)
        floor = line.floor if line.floor is not None else floors.get(line.name)
        figures = (spread.mean, spread.p95, spread.worst)
        shown = "–" if floor is None else f"{floor:.2e}"
        rows.append((line.name, line.unit, *(f"{value:.2e}" for value in figures), shown))
    if report.error is not None:
        spread = Spread.of(report.error)
        figures = (spread.mean, spread.p95, spread.worst)
        rows.append(("est. relative error", "1", *(f"{v:.2e}" for v in figures), "–"))
    return rows


def manifest_floors(manifest: Mapping[str, Any]) -> dict[str, float | None]:
    """Each law's violation by the trusted solver, as measured when the model was made."""
    laws = manifest.get("quality", {}).get("laws", [])
    return {entry["law"]: entry["floor"] for entry in laws}


def print_report(report: LawReport, manifest: Mapping[str, Any]) -> None:
    """The table, then a warning for every quantity outside its trained range."""
    rows = [HEADS, *report_rows(report, manifest_floors(manifest))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADS))]
    for row in rows:
        cells = [f"{cell:<{w}}" if i < 2 else f"{cell:>{w}}"
                 for i, (cell, w) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
        print("  ".join(cells).rstrip())
    kind = f"refined by {report.refinements} corrections" if report.refinements else "raw"
    print(f"violation: RMS of the residual; samples are {kind}; floor: a solver's own fields")
    for name, count in report.outside_count().items():
        print(
            f"lawful: warning: {name} of {count} samples is outside the trained range",
            file=sys.stderr,
        )
