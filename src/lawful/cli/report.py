"""`lawful report`: a law report of a model or of a file of samples, as JSON and HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from lawful import registry
from lawful.cli import page
from lawful.cli.export import reading
from lawful.cli.options import ReportOptions, parse, refuse_to_replace
from lawful.cli.report_text import (
    HEADS,
    kind_of,
    print_report,
    report_rows,
    sentences,
    warning_lines,
)
from lawful.errors import InputError
from lawful.files import json_bytes
from lawful.laws import Law
from lawful.metrics.figures import comparison_figure, montage_figure, scatter_figure
from lawful.metrics.report import LawReport, law_report, relative_error
from lawful.metrics.summary import SPREAD, Spread, Summary
from lawful.model import Model, Samples, load, manifest_floors
from lawful.reading import reason
from lawful.study import Study, all_laws, headline, places

SHOWN = 5
JSON, HTML = "report.json", "report.html"


@dataclass(frozen=True)
class Report:
    """Samples with what is reported of them.

    Arguments:
        summary: Of all samples.
        samples: Those that are kept for pictures.
        reference: A trusted solver's fields for the first of these, if there is a solver.
    """

    study: Study
    manifest: Mapping[str, Any]
    summary: Summary
    samples: Samples
    reference: Tensor | None

    @cached_property
    def warnings(self) -> list[str]:
        """Of samples outside the training or beyond a tolerance."""
        return warning_lines(self.summary, self.study, self.samples.condition)

    @cached_property
    def appendix(self) -> Mapping[str, Figure | str]:
        """What the study adds to the report."""
        return self.study.appendix(self.samples.fields, self.samples.condition)

    @cached_property
    def error(self) -> Tensor | None:
        """Relative error of the samples that have a reference."""
        if self.reference is None:
            return None
        return relative_error(self.samples.fields[: len(self.reference)], self.reference)


def run(arguments: list[str]) -> None:
    """`lawful report MODEL_OR_FILE`."""
    options = parse(ReportOptions, arguments, "report")
    refuse_to_replace([options.out / name for name in (JSON, HTML)], force=options.force)
    path = Path(options.subject)
    report = from_file(path, options.study) if path.is_file() else from_model(options)
    write_report(report, options.out)
    print_report(report.summary, report.warnings)
    for title, entry in report.appendix.items():
        if isinstance(entry, str):
            print(fill(f"{title}: {entry}", 80))
    if report.error is not None:
        spread = Spread.of(report.error)
        print(
            f"Relative error against the solver, {spread.samples} samples: "
            f"mean {spread.mean:.4f}, worst {spread.worst:.4f}"
        )
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
    return Report(model.study, model.manifest, summary, samples, reference)


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
    return Report(study, manifest, summary, first, study.reference(few))


def _judged(study: Study, laws: Sequence[Law], samples: Samples) -> LawReport:
    """What was found of samples when they were made, with their violations as found now."""
    condition, then = samples.condition, dict(samples.report.outside)
    outside = {
        q.name: q.check(condition[q.name]) | then.get(q.name, torch.tensor(False))
        for q in study.quantities
        if q.name in condition
    }
    lines = law_report(laws, samples.fields, condition).lines
    return replace(samples.report, lines=lines, outside=tuple(outside.items()))


def write_report(report: Report, folder: Path, *, sections: Sequence[tuple[str, str]] = ()) -> None:
    """Write `report.json` and `report.html` into `folder`; `sections` are put in front."""
    data = report.summary.as_dict()
    if report.error is not None:
        data["relative_error"] = Spread.of(report.error).as_dict()
    data |= {"warnings": report.warnings, "manifest": dict(report.manifest)}
    html = report_page(report, sections).encode()
    page.write_folder(folder, {JSON: json_bytes(data), HTML: html})


def report_page(report: Report, sections: Sequence[tuple[str, str]] = ()) -> str:
    """The HTML page."""
    summary, study, fields = report.summary, report.study, report.samples.fields
    lead = (
        f"{summary.count} samples, {kind_of(summary)}. {study.about[:1].upper()}{study.about[1:]}."
    )
    laws = [page.paragraph(f"{line}.", "warning") for line in report.warnings]
    laws += [page.table(HEADS, report_rows(summary))] if summary.laws else []
    laws += map(page.paragraph, sentences(summary))
    parts = [*sections, ("Laws", "".join(laws))]
    if report.error is not None and report.reference is not None:
        parts.append(("Against the solver", _comparison(report, report.error, report.reference)))
    else:
        figure = montage_figure(fields[:32], images=study.images)
        parts.append(("Samples", page.picture(figure, "samples")))
    for title, entry in report.appendix.items():
        shown = page.paragraph(entry) if isinstance(entry, str) else page.picture(entry, title)
        parts.append((title, shown))
    parts.append(("Origin", page.facts(_origin(study, report.manifest))))
    return page.page(f"Law report: {study.name}", lead, parts)


def _comparison(report: Report, error: Tensor, reference: Tensor) -> str:
    """Some samples beside the solver's fields, the worst first and the best second."""
    study, condition, estimate = report.study, report.samples.condition, report.samples.report
    worst = error.argsort(descending=True)
    order = torch.cat([worst[:1], worst[-1:], torch.arange(len(error))]).tolist()
    shown = torch.tensor(list(dict.fromkeys(order))[:SHOWN])
    scalars = [q.name for q in study.quantities if not q.shape and q.name in condition]
    titles = ["\n".join(f"{n} {float(condition[n][i]):.3g}" for n in scalars) for i in shown]
    fields = report.samples.fields[shown]
    figure = comparison_figure(fields, reference[shown], titles, places(study, fields.shape))
    text = page.paragraph("Relative L2 error.") + page.table(SPREAD, [Spread.of(error).texts()])
    text += page.picture(figure, "generated, numerical and difference")
    text += page.paragraph("The worst sample is first, the best second.")
    if estimate.error is not None:
        text += page.picture(scatter_figure(error, estimate.error), "estimated error")
    return text


def _origin(study: Study, manifest: Mapping[str, Any]) -> dict[str, str]:
    versions, quality = manifest.get("versions", {}), manifest.get("quality")
    return {
        "study": str(manifest.get("study")),
        "preset": str(manifest.get("preset") or "own configuration"),
        "steps": str(manifest.get("steps")),
        "training time": f"{float(manifest.get('training_seconds', 0)) / 60:.1f} min",
        "data": ", ".join(manifest.get("data", {}).values()) or "none",
        "measured": headline(study, quality) if quality else "–",
        "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
    }
