"""`lawful report`: a law report of a model or of a file of samples, as JSON and HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor

from lawful import registry
from lawful.atomic import write_all
from lawful.cli import page
from lawful.cli.files import REFINEMENT, Chunk, reading
from lawful.cli.options import STUDY_HELP, parse, refuse_to_replace
from lawful.cli.report_text import (
    HEADS,
    LAWLESS,
    correction_text,
    estimate_text,
    kind_of,
    print_report,
    refinement_text,
    report_rows,
    warning_lines,
)
from lawful.errors import InputError
from lawful.files import json_bytes
from lawful.laws import Condition, Estimate, Law
from lawful.metrics.pictures import comparison_figure, montage_figure, scatter_figure
from lawful.metrics.report import LawReport, Refinement, law_report, relative_error
from lawful.metrics.summary import SPREAD, Spread, Summary
from lawful.model import Model, Samples, load, manifest_floors
from lawful.reading import reason
from lawful.study import Study

SHOWN = 5
JSON, HTML = "report.json", "report.html"


@dataclass(frozen=True)
class ReportOptions:
    """Report how well a model's samples, or the samples in a file, obey the laws."""

    subject: Annotated[tyro.conf.Positional[str], tyro.conf.arg(help="a model, run or file")]
    out: Annotated[Path, tyro.conf.arg(help="folder for report.json and report.html")] = Path(
        "report"
    )
    n: Annotated[int, tyro.conf.arg(aliases=["-n"], help="samples drawn from a model")] = 32
    seed: Annotated[int, tyro.conf.arg(help="of the conditions drawn for a model")] = 1
    refine: Annotated[int, tyro.conf.arg(help="corrections on each sample of a model")] = 0
    enforce: Annotated[bool, tyro.conf.arg(help="enforce the affine laws on a model's")] = False
    tolerance: Annotated[
        float | None, tyro.conf.arg(help="refine a model's samples below this violation")
    ] = None
    study: Annotated[str | None, tyro.conf.arg(help=STUDY_HELP)] = None
    force: Annotated[bool, tyro.conf.arg(help="replace the report in --out")] = False


@dataclass(frozen=True)
class Subject:
    """What is reported on.

    Arguments:
        summary: Of all samples.
        fields, condition, estimate: Of the samples that are kept for pictures.
        reference: A trusted solver's fields for the first of these, if there is a solver.
    """

    study: Study
    manifest: Mapping[str, Any]
    summary: Summary
    fields: Tensor
    condition: Condition
    estimate: Estimate | None
    reference: Tensor | None

    @cached_property
    def warnings(self) -> list[str]:
        """Of samples outside the training or beyond a tolerance."""
        return warning_lines(self.summary, self.study, self.condition)

    @property
    def error(self) -> Tensor | None:
        """Relative error of the samples that have a reference."""
        if self.reference is None:
            return None
        return relative_error(self.fields[: len(self.reference)], self.reference)


def run(arguments: list[str]) -> None:
    """`lawful report MODEL_OR_FILE`."""
    options = parse(ReportOptions, arguments, "lawful report")
    refuse_to_replace([options.out / name for name in (JSON, HTML)], force=options.force)
    path = Path(options.subject)
    subject = from_file(path, options.study) if path.is_file() else from_model(options)
    write_report(subject, options.out)
    print_report(subject.summary, subject.warnings)
    for remark in subject.study.remarks(subject.fields):
        print(fill(remark, 80))
    if subject.error is not None:
        spread = Spread.of(subject.error)
        print(
            f"Relative error against the solver, {subject.error.numel()} samples: "
            f"mean {spread.mean:.4f}, worst {spread.worst:.4f}"
        )
    print(f"report: {options.out / HTML}, of {registry.told(type(subject.study))}")


def from_model(options: ReportOptions) -> Subject:
    """Draw samples from a model; the reference is solved for every one of them."""
    model = load(options.subject, study=options.study)
    samples = model.sample(
        options.n, seed=options.seed, refine=options.refine, enforce=options.enforce,
        tolerance=options.tolerance,
    )  # fmt: skip
    return subject_of(model, samples, model.study.reference(samples.condition))


def subject_of(model: Model, samples: Samples, reference: Tensor | None) -> Subject:
    """Samples with their report; its floors are those of the reference, where there is one."""
    laws = model.study.all_laws(model.network)
    fresh = law_report(laws, samples.fields, samples.condition, reference=reference)
    report = replace(samples.report, lines=fresh.lines)
    return Subject(
        model.study, model.manifest, Summary.of([report]), samples.fields, samples.condition,
        samples.report.estimate, reference,
    )  # fmt: skip


def from_file(path: Path, study_file: str | None = None) -> Subject:
    """Judge the fields of a file afresh; the reference is solved for the first few."""
    with reading(path) as file:
        kind = registry.recall(file.manifest, path, study_file)
        study = kind.from_config(file.manifest["config"])
        summary = Summary(manifest_floors(file.manifest))
        sampled = file.manifest.get("sampled", {})
        refinements = int(sampled.get("refine", 0))
        enforced = bool(sampled.get("enforce", False))
        first, laws = None, study.all_laws(study.network())
        for chunk in file.chunks:
            try:
                report = _judge(study, laws, chunk)
            except (KeyError, IndexError, RuntimeError, TypeError) as error:
                said = f"{path}: its fields or conditions are not those of {study.name}"
                raise InputError(f"{said} ({reason(error)})") from None
            done = _refinement(chunk, file.manifest)
            summary.add(
                replace(report, refinements=refinements, enforced=enforced, refinement=done)
            )
            first = first or chunk
    if first is None:
        raise InputError(f"{path}: holds no samples")
    few = {name: value[:SHOWN] for name, value in first.condition.items()}
    return Subject(
        study, file.manifest, summary, first.fields, first.condition, first.estimate,
        study.reference(few),
    )  # fmt: skip


def _refinement(chunk: Chunk, manifest: Mapping[str, Any]) -> Refinement | None:
    """What was done to the samples of a file when they were made."""
    if not chunk.refinement:
        return None
    tolerance = float(manifest.get("sampled", {}).get("tolerance") or 0)
    columns = [chunk.refinement[name] for name in REFINEMENT]
    return replace(Refinement(tolerance, *columns), worsened=chunk.refinement.get("worsened"))


def _judge(study: Study, laws: Sequence[Law], chunk: Chunk) -> LawReport:
    report = law_report(laws, chunk.fields, chunk.condition)
    outside = {
        q.name: q.check(chunk.condition[q.name]) | chunk.outside.get(q.name, torch.tensor(False))
        for q in study.quantities
        if q.name in chunk.condition
    }
    return replace(
        report, outside=tuple(outside.items()), estimate=chunk.estimate, accepted=chunk.accepted
    )


def write_report(
    subject: Subject, folder: Path, *, sections: Sequence[tuple[str, str]] = ()
) -> None:
    """Write `report.json` and `report.html` into `folder`; `sections` are put in front."""
    summary = subject.summary.as_dict()
    if subject.error is not None:
        summary["relative_error"] = Spread.of(subject.error).as_dict()
    summary["warnings"] = subject.warnings
    summary["manifest"] = dict(subject.manifest)
    files = {
        folder / JSON: json_bytes(summary),
        folder / HTML: report_page(subject, sections).encode(),
    }
    try:
        write_all(files)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None


def report_page(subject: Subject, sections: Sequence[tuple[str, str]] = ()) -> str:
    """The HTML page."""
    summary, about = subject.summary, subject.study.about
    lead = f"{summary.count} samples, {kind_of(summary)}. {about[:1].upper()}{about[1:]}."
    said = "Violation: root mean square of the law's residual, over the samples."
    if any(law.floor is not None for law in summary.laws.values()):
        said += (
            " The floor is the violation of a trusted solver's own fields, which a perfect sample "
            "would have too."
        )
    table = page.table(HEADS, report_rows(summary)) + page.paragraph(said)
    laws = table if summary.laws else page.paragraph(LAWLESS)
    if summary.laws:
        laws += page.paragraph(estimate_text(summary))
    for text in (correction_text(summary), refinement_text(summary)):
        laws += "" if text is None else page.paragraph(text)
    laws += "".join(map(page.paragraph, subject.study.remarks(subject.fields)))
    warnings = "".join(page.paragraph(f"{line}.", "warning") for line in subject.warnings)
    parts = [*sections, ("Laws", warnings + laws)]
    if subject.error is not None and subject.reference is not None:
        parts.append(("Against the solver", _comparison(subject, subject.error, subject.reference)))
    else:
        figure = montage_figure(subject.fields[:32], images=subject.study.images)
        parts.append(("Samples", page.picture(figure, "samples")))
    shown = subject.study.pictures(subject.fields, subject.condition)
    parts += [(title, page.picture(figure, title)) for title, figure in shown.items()]
    parts.append(("Origin", _origin(subject.study, subject.manifest)))
    return page.page(f"Law report: {subject.study.name}", lead, parts)


def _comparison(subject: Subject, error: Tensor, reference: Tensor) -> str:
    spread = Spread.of(error)
    worst = error.argsort(descending=True)
    order = torch.cat([worst[:1], worst[-1:], torch.arange(len(error))])
    shown = torch.tensor(list(dict.fromkeys(order.tolist()))[:SHOWN])
    titles = [_title(subject, int(i)) for i in shown]
    text = page.paragraph("Relative L2 error.")
    text += page.table(SPREAD, [spread.texts()])
    fields, truth = subject.fields[shown], reference[shown]
    study = subject.study
    figure = comparison_figure(fields, truth, titles, study.places(fields.shape))
    text += page.picture(figure, "generated, numerical and difference")
    text += page.paragraph("The worst sample is first, the best second.")
    if subject.estimate is not None:
        text += page.picture(scatter_figure(error, subject.estimate.relative), "estimated error")
    return text


def _title(subject: Subject, index: int) -> str:
    numbers = [
        f"{q.name} {float(subject.condition[q.name][index]):.3g}"
        for q in subject.study.quantities
        if not q.shape and q.name in subject.condition
    ]
    return "\n".join(numbers)


def _headline(study: Study, quality: Mapping[str, Any]) -> str:
    try:
        return study.headline(quality)
    except (KeyError, TypeError, ValueError):  # null where a figure is not finite
        return "not all figures are there"


def _origin(study: Study, manifest: Mapping[str, Any]) -> str:
    versions = manifest.get("versions", {})
    quality = manifest.get("quality")
    entries = {
        "study": str(manifest.get("study")),
        "preset": str(manifest.get("preset") or "own configuration"),
        "steps": str(manifest.get("steps")),
        "training time": f"{float(manifest.get('training_seconds', 0)) / 60:.1f} min",
        "data": ", ".join(manifest.get("data", {}).values()) or "none",
        "measured": _headline(study, quality) if quality else "–",
        "versions": ", ".join(f"{name} {value}" for name, value in versions.items()),
    }
    return page.facts(entries)
