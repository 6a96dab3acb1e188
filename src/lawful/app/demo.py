"""`lawful demo`: a newcomer's first minutes."""

import shutil
import sys
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lawful.app import page
from lawful.app.options import parse
from lawful.app.report_text import print_report
from lawful.app.reporting import ReportOptions, from_model, write_report
from lawful.app.training import train_with_progress
from lawful.evaluation.report import Spread
from lawful.studies.burgers import BurgersStudy
from lawful.studies.model import shipped

SAMPLES = 16


@dataclass(frozen=True)
class DemoOptions:
    """Train a small generator of Burgers solutions without data and check it against a solver."""

    out: Annotated[Path, tyro.conf.arg(help="folder for the run and the reports")] = Path("demo")
    open: Annotated[bool, tyro.conf.arg(help="open the report in a browser")] = sys.stdout.isatty()


def run(arguments: list[str]) -> None:
    """`lawful demo`."""
    options = parse(DemoOptions, arguments, "lawful demo")
    folder: Path = options.out / "run"
    study = BurgersStudy.presets()["smoke"]
    print("1. Training a generator of solutions of Burgers' equation, from the equation alone")
    if (folder / "manifest.json").is_file():
        shutil.rmtree(folder)  # a finished demo starts afresh, an interrupted one goes on
    train_with_progress(study, folder, resume=True)
    print("2. Sampling it, and solving for the same conditions (WENO5, 1,024 cells)")
    subjects = {"trained just now": str(folder)}
    subjects |= {f"shipped ({name})": name for name in shipped() if name == study.name}
    rows = []
    for label, name in subjects.items():
        for refine in (0, 1):
            subject = from_model(ReportOptions(name, n=SAMPLES, refine=refine))
            if subject.error is None:
                continue
            spread = Spread.of(subject.error)
            kind = "one correction" if refine else "raw"
            rows.append(
                [label, kind, *(f"{v:.4f}" for v in (spread.mean, spread.p95, spread.worst))]
            )
    print("3. Relative L2 error against the solver")
    head = ["model", "samples", "mean", "95th %", "worst"]
    for row in [head, *rows]:
        print(f"   {row[0]:<20}{row[1]:<16}" + "".join(f"{cell:>9}" for cell in row[2:]))
    best = from_model(ReportOptions(list(subjects.values())[-1], n=SAMPLES))
    intro = page.table(head, rows) + page.paragraph(
        "No solution was used in training: the generator saw initial conditions, viscosities and "
        "the equation. The pictures below are of the last model in this table, raw."
    )
    write_report(best, options.out, sections=[("Errors against the solver", intro)])
    print("4. Violations of the laws")
    print_report(best.report, best.manifest)
    report = (options.out / "report.html").resolve()
    print(f"report: {options.out / 'report.html'}")
    if options.open:
        webbrowser.open(report.as_uri())
