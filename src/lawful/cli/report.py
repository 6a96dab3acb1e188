"""`lawful report`: a law report of a model or of a file of samples, as JSON, text and HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lawful import registry
from lawful.cli.export import reading
from lawful.cli.options import ReportOptions, parse, refuse_to_replace
from lawful.cli.page import Block, Section, Table, page, show, write_folder
from lawful.errors import InputError
from lawful.files import json_bytes
from lawful.laws import Condition, Law
from lawful.metrics.figures import comparison_figure, montage_figure, scatter_figure
from lawful.metrics.report import SPREAD, LawReport, Spread, Summary, law_report, relative_error
from lawful.model import WORSENED, Model, Samples, load, manifest_floors, too_strict
from lawful.reading import reason
from lawful.study import Matching, Study, all_laws, headline, places

SHOWN, PANELS = 5, 32  # samples beside the solver's, and alone
JSON, HTML = "report.json", "report.html"
HEADS = ("law", "unit", "mean", "95th %", "worst", "floor")


@dataclass(frozen=True)
class Report:
    """What is reported of samples.

    Arguments:
        manifest: Of the model.
        data: The figures, as plain values.
        warnings: Of samples outside the training or beyond a tolerance.
        sections: What is told of the figures, and pictures.
    """

    study: Study
    manifest: Mapping[str, Any]
    data: Mapping[str, Any]
    warnings: Sequence[str]
    sections: Sequence[Section]


def run(arguments: list[str]) -> None:
    """`lawful report MODEL_OR_FILE`."""
    options = parse(ReportOptions, arguments, "report")
    refuse_to_replace([options.out / name for name in (JSON, HTML)], force=options.force)
    path = Path(options.subject)
    report = from_file(path, options.study) if path.is_file() else from_model(options)
    write_report(report, options.out)
    show(report.sections, report.warnings)
    print(f"report: {options.out / HTML}, of {registry.told(type(report.study))}")


def from_model(options: ReportOptions) -> Report:
    """Draw samples from a model; the reference is solved for every one of them."""
    model = load(options.subject, study=options.study)
    samples = model.sample(
        options.n, seed=options.seed, refine=options.refine, enforce=options.enforce,
        tolerance=options.tolerance,
    )  # fmt: skip
    return report_of(model, samples, model.study.reference(samples.condition))


def report_of(model: Model, samples: Samples, reference: Tensor | None) -> Report:
    """Samples with their report; its floors are those of the reference, where there is one."""
    laws = all_laws(model.study, model.network)
    fresh = law_report(laws, samples.fields, samples.condition, reference=reference)
    summary = Summary.of([replace(samples.report, lines=fresh.lines)])
    return _report(model.study, model.manifest, summary, samples, reference)


def from_file(path: Path, study_file: str | None = None) -> Report:
    """Judge the fields of a file afresh; the reference is solved for the first few."""
    with reading(path) as (manifest, chunks):
        kind = registry.recall(manifest, path, study_file)
        study = kind.from_config(manifest["config"])
        summary, first = Summary(manifest_floors(manifest)), None
        laws = all_laws(study, study.network())
        try:
            for samples in chunks:
                summary.add(_judged(study, laws, samples))
                first = first or samples
        except (KeyError, IndexError, RuntimeError, TypeError) as error:
            said = f"{path}: its fields or conditions are not those of {study.name}"
            raise InputError(f"{said} ({reason(error)})") from None
    if first is None:
        raise InputError(f"{path}: holds no samples")
    few = {name: value[:SHOWN] for name, value in first.condition.items()}
    return _report(study, manifest, summary, first, study.reference(few))


def _judged(study: Study, laws: Sequence[Law], samples: Samples) -> LawReport:
    """What was found of samples when they were made, with their violations as found now."""
    condition, then = samples.condition, dict(samples.report.outside)
    outside = {
        q.name: q.check(condition[q.name]) | then.get(q.name, torch.tensor(False))
        for q in study.quantities
        if q.name in condition
    }
    now = law_report(laws, samples.fields, condition)
    return replace(
        samples.report, lines=now.lines, proven=now.proven, outside=tuple(outside.items())
    )


def _report(
    study: Study,
    manifest: Mapping[str, Any],
    summary: Summary,
    samples: Samples,
    reference: Tensor | None,
) -> Report:
    """A report of all samples in the summary.

    Arguments:
        samples: Those that are kept for pictures.
        reference: A trusted solver's fields for the first of these, if there is a solver.
    """
    data, condition = summary.as_dict(), samples.condition
    sections: list[Section] = [("Laws", law_blocks(data))]
    if reference is None:
        figure = montage_figure(samples.fields[:PANELS], images=study.images)
        sections.append(("Samples", [("some of the samples", figure)]))
    else:
        error = relative_error(samples.fields[: len(reference)], reference)
        spread = Spread.of(error)
        data["relative_error"] = spread.as_dict()
        pictures = _comparison(study, samples, error, reference)
        table: Table = [SPREAD, spread.texts()]
        sections.append(("Against the solver", ["Relative L2 error.", table, *pictures]))
    for title, entry in study.appendix(samples.fields, condition).items():
        sections.append((title, [entry if isinstance(entry, str) else (title, entry)]))
    return Report(study, manifest, data, warning_lines(data, study, condition), sections)


def _comparison(
    study: Study, samples: Samples, error: Tensor, reference: Tensor
) -> list[tuple[str, Any]]:
    """Some samples beside the solver's fields; estimated against true errors."""
    worst = error.argsort(descending=True)
    order = torch.cat([worst[:1], worst[-1:], torch.arange(len(error))]).tolist()
    shown = torch.tensor(list(dict.fromkeys(order))[:SHOWN])
    condition, fields = samples.condition, samples.fields[shown]
    scalars = [q.name for q in study.quantities if not q.shape and q.name in condition]
    titles = ["\n".join(f"{n} {float(condition[n][i]):.3g}" for n in scalars) for i in shown]
    figure = comparison_figure(fields, reference[shown], titles, places(study, fields.shape))
    caption = "Generated, numerical and difference: the worst sample first, the best second."
    estimate = samples.report.error
    return [(caption, figure)] + (
        [] if estimate is None else [("Estimated error.", scatter_figure(error, estimate))]
    )


def write_report(report: Report, folder: Path) -> None:
    """Write `report.json` and `report.html` into `folder`."""
    study, manifest = report.study, report.manifest
    data = {**report.data, "warnings": report.warnings, "manifest": dict(manifest)}
    title, about = f"Law report: {study.name}", f"{study.about[:1].upper()}{study.about[1:]}"
    lead = f"{report.data['samples']} samples, {kind_of(report.data)}. {about}."
    sections = [*report.sections, ("Origin", [_origin(study, manifest)])]
    html = page(title, lead, report.warnings, sections)
    write_folder(folder, {JSON: json_bytes(data), HTML: html.encode()})


def _origin(study: Study, manifest: Mapping[str, Any]) -> Table:
    versions, quality = manifest.get("versions", {}), manifest.get("quality")
    return [
        ("study", str(manifest.get("study"))),
        ("preset", str(manifest.get("preset") or "own configuration")),
        ("steps", str(manifest.get("steps"))),
        ("training time", f"{float(manifest.get('training_seconds', 0)) / 60:.1f} min"),
        ("data", ", ".join(manifest.get("data", {}).values()) or "none"),
        ("measured", headline(study, quality) if quality else "–"),
        ("versions", ", ".join(f"{name} {value}" for name, value in versions.items())),
    ]


# What is said of the figures of a summary, on a terminal and on a page.


def law_blocks(data: Mapping[str, Any]) -> list[Block]:
    """A table of violations and estimated errors, what it means, and what was done to samples."""
    of = f"{data['samples']:,} samples, {kind_of(data)}."
    if not data["laws"]:
        said: list[Block] = [f"{of} The study states no law of a single sample."]
    else:
        rows = [(e["law"], e["unit"], e["violation"], e["floor"]) for e in data["laws"]]
        for name, unit in (("estimated_error", "relative"), ("estimated_error_absolute", "RMS")):
            if data[name] is not None:
                rows.append(("estimated error", unit, data[name], None))
        if data["bound"] is not None:
            rows.append(("proven bound", data["bound_norm"], data["bound"], None))
        said = [[HEADS, *(_row(*row) for row in rows)]]
        said.append(f"Violation: RMS of the residual of {of}")
        if any(entry["floor"] is not None for entry in data["laws"]):
            solver = "violation of a trusted solver's own fields, which a perfect sample has too."
            said.append(f"Floor: {solver}")
        said += [_estimate(data), _bound(data)]
    if data["corrections_accepted"] is not None:
        said.append(_corrections(data))
    return said if data["refinement"] is None else [*said, _refinement(data)]


def _row(name: str, unit: str, spread: Mapping[str, float], floor: float | None) -> Sequence[str]:
    figures = (spread["mean"], spread["p95"], spread["worst"], floor)
    return name, unit, *("–" if value is None else f"{value:.2e}" for value in figures)


def kind_of(data: Mapping[str, Any]) -> str:
    """Raw, or what was done to the samples."""
    times, refined = data["refinements"], data["refinement"]
    done = [f"corrected up to {times} time{'s' * (times > 1)}"] if times else []
    done += ["affine laws enforced"] if data["enforced"] else []
    done += [f"refined to {refined['tolerance']:g}"] if refined is not None else []
    return ", ".join(done) or "raw"


def _estimate(data: Mapping[str, Any]) -> str:
    """What the estimated error is, and by which judge; or that there is none."""
    if not data["judge"]:
        return "Violation only: these laws give no estimate of a sample's error."
    text = (
        "Estimated error: distance of a sample from its corrected self, no solution needed; "
        f"judge: {data['judge']}."
    )
    if unjudged := data["samples_without_estimate"]:
        text += (
            f" {unjudged} of {data['samples']} samples: violation only (the search for the "
            "solution did not converge)."
        )
    return text


def _bound(data: Mapping[str, Any]) -> str:
    """What is proven of a sample's distance from the solution, or that nothing is."""
    if data["bound"] is None:
        return "No law proves a bound of a sample's distance from the solution."
    return (
        f"Proven bound: no sample is further, in the {data['bound_norm']} norm, from the exact "
        "solution of its discrete law; that law's own error is not in it."
    )


def _corrections(data: Mapping[str, Any]) -> str:
    tried, accepted = data["samples"] * data["refinements"], data["corrections_accepted"]
    judged = "the estimated error" if data["judge"] else "the violation"
    return (
        f"Corrections: {accepted} of {tried} taken; {tried - accepted} refused, for they would not "
        f"have lowered {judged} or would have broken what holds by construction."
    )


def _refinement(data: Mapping[str, Any]) -> str:
    done, count = data["refinement"], data["samples"]
    text = (
        f"Refined: {done['reached']} of {count} samples within {done['tolerance']:g} of every law; "
        f"raw violation {done['raw']['median']:.2e} (median), {done['raw']['worst']:.2e} (worst); "
        f"Gauss-Newton steps {done['iterations']['mean']:.1f}, pixel exchanges "
        f"{done['exchanges']['mean']:.1f}, displacement {done['displacement']['mean']:.3f} (means)."
    )
    if missed := count - done["reached"]:
        text += f" {missed} are marked as not reached."
    if done["worsened"]:
        text += f" T{WORSENED.format(done['worsened'], count)[1:]}."
    strict = too_strict(done["tolerance"], {e["law"]: e["floor"] for e in data["laws"]})
    return text if strict is None else f"{text} {strict[:1].upper()}{strict[1:]}."


def warning_lines(data: Mapping[str, Any], study: Study, condition: Condition) -> list[str]:
    """What is to be said of samples outside the training, and of those that missed a tolerance.

    Arguments:
        condition: Of some of the samples, among which the reason is looked for.
    """
    meaning, said = {q.name: q.beyond for q in study.quantities}, []
    for name, count in data["outside_trained_range"].items():
        more = f": {meaning[name]}" if meaning.get(name) else ""
        said.append(f"{name} of {count} samples is outside the trained range{more}")
    done = data["refinement"]
    if done is not None and done["reached"] < data["samples"] and isinstance(study, Matching):
        obstacle = study.obstacle(condition, done["tolerance"])
        said += [] if obstacle is None else [obstacle]
    return said
