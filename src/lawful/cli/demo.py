"""`lawful demo`: a newcomer's first minutes."""

import shutil
import sys
import webbrowser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lawful.cli import page
from lawful.cli.options import parse
from lawful.cli.report_text import print_report
from lawful.cli.reporting import Subject, subject_of, write_report
from lawful.cli.training import train_with_progress
from lawful.errors import InputError
from lawful.metrics.report import relative_error
from lawful.metrics.summary import Spread
from lawful.model import Model, load, shipped
from lawful.studies.burgers import BurgersStudy

SAMPLES = 16
HEAD = ["model", "samples", "mean", "95th %", "worst"]


@dataclass(frozen=True)
class DemoOptions:
    """Train a small generator of Burgers solutions without data and check it against a solver."""

    out: Annotated[Path, tyro.conf.arg(help="folder for the run and the reports")] = Path("demo")
    open: Annotated[bool, tyro.conf.arg(help="open the report in a browser")] = sys.stdout.isatty()


def run(arguments: list[str]) -> None:
    """`lawful demo`."""
    options = parse(DemoOptions, arguments, "lawful demo")
    folder: Path = options.out / "run"
    print("1. Training a generator of solutions of Burgers' equation, by the equation alone")
    if (folder / "manifest.json").is_file() and load(folder).manifest["preset"] == "smoke":
        shutil.rmtree(folder)  # a finished demo starts afresh, an interrupted one goes on
    train_with_progress(BurgersStudy.presets()["smoke"], folder, resume=True)
    print("2. Sampling it, and solving for the same conditions (WENO5, 1,024 cells)")
    models = {"trained just now": load(folder)}
    models |= {f"shipped ({name})": load(name) for name in shipped() if name == "burgers"}
    rows, subject = _compare(models)
    print("3. Relative L2 error against the solver")
    for row in [HEAD, *rows]:
        print(f"   {row[0]:<20}{row[1]:<16}" + "".join(f"{cell:>9}" for cell in row[2:]))
    intro = page.table(HEAD, rows) + page.paragraph(
        "No solution was used in training: the generator saw initial conditions, viscosities and "
        "the equation. The rest of this page is about the last model in this table, raw."
    )
    write_report(subject, options.out, sections=[("Generated against numerical", intro)])
    print("4. Violations of the laws")
    print_report(subject.summary, subject.warnings)
    report = options.out / "report.html"
    print(f"report: {report}")
    if options.open:
        webbrowser.open(report.resolve().as_uri())


def _compare(models: Mapping[str, Model]) -> tuple[list[list[str]], Subject]:
    """Errors of each model on the same drawn conditions, raw and corrected once."""
    rows, reference, subject = [], None, None
    for label, model in models.items():
        for refine in (0, 1):
            samples = model.sample(SAMPLES, seed=1, refine=refine)
            reference = model.study.reference(samples.condition) if reference is None else reference
            if reference is None:
                raise InputError(f"demo: study {model.study.name!r} has no reference")
            spread = Spread.of(relative_error(samples.fields, reference))
            kind = "one correction" if refine else "raw"
            figures = (spread.mean, spread.p95, spread.worst)
            rows.append([label, kind, *(f"{value:.4f}" for value in figures)])
            if not refine:
                subject = subject_of(model, samples, reference)
    if subject is None:
        raise InputError("demo: no model to report on")
    return rows, subject
