"""A law report in words: a table and sentences, on the terminal and on the page."""

import sys
from collections.abc import Sequence
from textwrap import fill

from lawful.laws import Condition
from lawful.metrics.summary import ProjectionTally, Summary, Tally
from lawful.model import WORSENED, too_strict
from lawful.study import Matching, Study

HEADS = ("law", "unit", "mean", "95th %", "worst", "floor")


def report_rows(summary: Summary) -> list[tuple[str, ...]]:
    """A row per law: violation (root mean square of the residual) over the samples."""
    rows = [_row(law.name, law.unit, law.violation, law.floor) for law in summary.laws.values()]
    if summary.error is not None:
        rows.append(_row("estimated error", "relative", summary.error))
        rows.append(_row("estimated error", "RMS", summary.distance))
    return rows


def _row(name: str, unit: str, tally: Tally, floor: float | None = None) -> tuple[str, ...]:
    spread = tally.spread()
    figures = (spread.mean, spread.p95, spread.worst, floor)
    return name, unit, *("–" if value is None else f"{value:.2e}" for value in figures)


def kind_of(summary: Summary) -> str:
    """Raw, or what was done to the samples."""
    times = summary.tried
    done = [f"corrected up to {times} time{'s' * (times > 1)}"] if times else []
    done += ["affine laws enforced"] if summary.enforced else []
    if summary.projection is not None:
        done += [f"refined to {summary.projection.tolerance:g}"]
    return ", ".join(done) or "raw"


def sentences(summary: Summary) -> list[str]:
    """What the table means, how errors were estimated, and what was done to the samples."""
    of = f"{summary.count:,} samples, {kind_of(summary)}."
    if not summary.laws:
        said = [f"{of} The study states no law of a single sample."]
    else:
        said = [f"Violation: RMS of the residual of {of}"]
        if any(law.floor is not None for law in summary.laws.values()):
            solver = "violation of a trusted solver's own fields, which a perfect sample has too."
            said.append(f"Floor: {solver}")
        said.append(_estimate(summary))
    if summary.accepted is not None:
        said.append(_corrections(summary, summary.accepted))
    done = summary.projection
    return said + ([] if done is None else [_refinement(summary, done)])


def _estimate(summary: Summary) -> str:
    """What the estimated error is, and by which judge; or that there is none."""
    if not summary.judge:
        return "Violation only: these laws give no estimate of a sample's error."
    text = (
        "Estimated error: distance of a sample from its corrected self, no solution needed; "
        f"judge: {summary.judge}."
    )
    if summary.unjudged:
        text += (
            f" {summary.unjudged} of {summary.count} samples: violation only (the search for the "
            "solution did not converge)."
        )
    return text


def _corrections(summary: Summary, accepted: int) -> str:
    tried = summary.count * summary.tried
    judged = "the estimated error" if summary.judge else "the violation"
    return (
        f"Corrections: {accepted} of {tried} taken; {tried - accepted} refused, for they would not "
        f"have lowered {judged} or would have broken what holds by construction."
    )


def _refinement(summary: Summary, done: ProjectionTally) -> str:
    spread = {name: tally.spread() for name, tally in done.tallies.items()}
    text = (
        f"Refined: {done.reached} of {done.count} samples within {done.tolerance:g} of every law; "
        f"raw violation {spread['raw'].median:.2e} (median), {spread['raw'].worst:.2e} (worst); "
        f"Gauss-Newton steps {spread['iterations'].mean:.1f}, pixel exchanges "
        f"{spread['exchanges'].mean:.1f}, displacement {spread['displacement'].mean:.3f} (means)."
    )
    missed = done.count - done.reached
    text += f" {missed} are marked as not reached." if missed else ""
    text += f" T{WORSENED.format(done.worsened, done.count)[1:]}." if done.worsened else ""
    below = too_strict(done.tolerance, {law.name: law.floor for law in summary.laws.values()})
    return text if below is None else f"{text} {below[:1].upper()}{below[1:]}."


def warning_lines(summary: Summary, study: Study, condition: Condition) -> list[str]:
    """What is to be said of samples outside the training, and of those that missed a tolerance.

    Arguments:
        condition: Of some of the samples, among which the reason is looked for.
    """
    meaning, lines = {q.name: q.beyond for q in study.quantities}, []
    for name, count in summary.warnings().items():
        more = f": {meaning[name]}" if meaning.get(name) else ""
        lines.append(f"{name} of {count} samples is outside the trained range{more}")
    done = summary.projection
    if done is not None and done.reached < done.count and isinstance(study, Matching):
        reason = study.obstacle(condition, done.tolerance)
        lines += [] if reason is None else [reason]
    return lines


def print_report(summary: Summary, warnings: Sequence[str]) -> None:
    """The table and the sentences, at most 80 columns wide, then the warnings."""
    rows = [HEADS, *report_rows(summary)] if summary.laws else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:{'<' if i < 2 else '>'}{widths[i]}}" for i, cell in enumerate(row)]
        print("  ".join(cells).rstrip())
    for text in sentences(summary):
        print(fill(text, 80))
    for line in warnings:
        print(f"lawful: warning: {line}", file=sys.stderr)
