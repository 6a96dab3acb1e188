"""A law report as text, at most 80 columns wide."""

import sys
from collections.abc import Sequence
from textwrap import fill

from lawful.laws import Condition
from lawful.metrics.summary import Spread, Summary
from lawful.model import WORSENED, too_strict
from lawful.study import Study

HEADS = ("law", "unit", "mean", "95th %", "worst", "floor")
LAWLESS = "The study states no law of a single sample."


def report_rows(summary: Summary) -> list[tuple[str, ...]]:
    """A row a law: violation (root mean square of the residual) over the samples."""
    rows: list[tuple[str, ...]] = [
        (law.name, law.unit, *_figures(law.violation.spread()), _number(law.floor))
        for law in summary.laws.values()
    ]
    if summary.error is not None:
        rows.append(("estimated error", "relative", *_figures(summary.error.spread()), "–"))
        rows.append(("estimated error", "RMS", *_figures(summary.distance.spread()), "–"))
    return rows


def _figures(spread: Spread) -> tuple[str, str, str]:
    return _number(spread.mean), _number(spread.p95), _number(spread.worst)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2e}"


def kind_of(summary: Summary) -> str:
    """Raw, or what was done to the samples."""
    times = summary.refinements
    done = [f"corrected up to {times} time{'s' * (times > 1)}"] if times else []
    done += ["affine laws enforced"] if summary.enforced else []
    if summary.refinement is not None:
        done += [f"refined to {summary.refinement.tolerance:g}"]
    return ", ".join(done) or "raw"


def estimate_text(summary: Summary) -> str:
    """What the estimated error is, and by which judge; or that there is none."""
    if not summary.judge:
        return "Violation only: these laws give no estimate of a sample's error."
    text = (
        "Estimated error: distance of a sample from its corrected self, no solution needed; "
        f"judge: {summary.judge}."
    )
    if not summary.unjudged:
        return text
    return text + (
        f" {summary.unjudged} of {summary.count} samples: violation only (the search for the "
        "solution did not converge)."
    )


def correction_text(summary: Summary) -> str | None:
    """How many corrections were taken, in a sentence; None where none was tried."""
    if summary.accepted is None:
        return None
    tried = summary.count * summary.refinements
    judged = "the violation" if not summary.judge else "the estimated error"
    return (
        f"Corrections: {summary.accepted} of {tried} taken; {tried - summary.accepted} refused, "
        f"for they would not have lowered {judged} or would have broken what holds by construction."
    )


def refinement_text(summary: Summary) -> str | None:
    """What refinement did, in a sentence or two; None where there was none."""
    if (done := summary.refinement) is None:
        return None
    spread = {name: tally.spread() for name, tally in done.tallies.items()}
    missed = done.count - done.reached
    text = (
        f"Refined: {done.reached} of {done.count} samples within {done.tolerance:g} of every law; "
        f"raw violation {spread['raw'].median:.2e} (median), {spread['raw'].worst:.2e} (worst); "
        f"Gauss-Newton steps {spread['iterations'].mean:.1f}, pixel exchanges "
        f"{spread['exchanges'].mean:.1f}, displacement {spread['displacement'].mean:.3f} (means)."
    )
    text += f" {missed} are marked as not reached." if missed else ""
    text += f" T{WORSENED.format(done.worsened, done.count)[1:]}." if done.worsened else ""
    below = too_strict(done.tolerance, {law.name: law.floor for law in summary.laws.values()})
    return text if below is None else f"{text} {below[:1].upper()}{below[1:]}."


def warning_lines(summary: Summary, study: Study, condition: Condition) -> list[str]:
    """What is to be said of samples outside the training, and of those that missed a tolerance.

    Arguments:
        condition: Of some of the samples, among which the reason is looked for.
    """
    meaning, lines = study.left_out(), []
    for name, count in summary.warnings().items():
        more = f": {meaning[name]}" if name in meaning else ""
        lines.append(f"{name} of {count} samples is outside the trained range{more}")
    done = summary.refinement
    if done is not None and done.reached < done.count:
        reason = study.obstacle(condition, done.tolerance)
        lines += [] if reason is None else [reason]
    return lines


def print_report(summary: Summary, warnings: Sequence[str]) -> None:
    """The table, then the warnings."""
    if summary.laws:
        _print_table(summary)
    else:
        print(f"{summary.count} samples, {kind_of(summary)}. {LAWLESS}")
    if summary.laws:
        print(fill(estimate_text(summary), 80))
    for text in (correction_text(summary), refinement_text(summary)):
        if text is not None:
            print(fill(text, 80))
    for line in warnings:
        print(f"lawful: warning: {line}", file=sys.stderr)


def _print_table(summary: Summary) -> None:
    rows = [HEADS, *report_rows(summary)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADS))]
    for row in rows:
        cells = [f"{cell:<{w}}" if i < 2 else f"{cell:>{w}}"
                 for i, (cell, w) in enumerate(zip(row, widths, strict=True))]  # fmt: skip
        print("  ".join(cells).rstrip())
    print(f"Violation: RMS of the residual of {summary.count:,} samples, {kind_of(summary)}.")
    if any(law.floor is not None for law in summary.laws.values()):
        print("Floor: violation of a solver's own fields.")
