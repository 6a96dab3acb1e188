"""`lawful demo`: a newcomer's first minutes."""

import shutil
import webbrowser
from collections.abc import Mapping
from pathlib import Path

from lawful.catalogue import MANIFEST
from lawful.cli import page
from lawful.cli.options import DemoOptions, parse
from lawful.cli.report import HTML, Report, report_of, write_report
from lawful.cli.report_text import print_report
from lawful.cli.train import train_with_progress
from lawful.metrics.report import relative_error
from lawful.metrics.summary import Spread
from lawful.model import Model, load
from lawful.studies.burgers import BurgersStudy

SAMPLES = 16
HEAD = ["model", "samples", "mean", "95th %", "worst"]


def run(arguments: list[str]) -> None:
    """`lawful demo`."""
    options = parse(DemoOptions, arguments, "demo")
    folder: Path = options.out / "run"
    print("1. Training a generator of solutions of Burgers' equation, by the equation alone")
    if (folder / MANIFEST).is_file() and load(folder).manifest["preset"] == "smoke":
        shutil.rmtree(folder)  # a finished demo starts afresh, an interrupted one goes on
    train_with_progress(BurgersStudy.presets()["smoke"], folder, resume=True)
    print("2. Sampling it, and solving for the same conditions (WENO5, 1,024 cells)")
    models = {"trained just now": load(folder), "shipped (burgers)": load("burgers")}
    rows, report = _compare(models)
    print("3. Relative L2 error against the solver")
    for row in [HEAD, *rows]:
        print(f"   {row[0]:<20}{row[1]:<16}" + "".join(f"{cell:>9}" for cell in row[2:]))
    intro = page.table(HEAD, rows) + page.paragraph(
        "No solution was used in training: the generator saw initial conditions, viscosities and "
        "the equation. The rest of this page is about the last model in this table, raw."
    )
    write_report(report, options.out, sections=[("Generated against numerical", intro)])
    print("4. Violations of the laws")
    print_report(report.summary, report.warnings)
    print(f"report: {options.out / HTML}")
    if options.open:
        webbrowser.open((options.out / HTML).resolve().as_uri())


def _compare(models: Mapping[str, Model]) -> tuple[list[list[str]], Report]:
    """Errors of each model on the same conditions, raw and corrected; the report of the last."""
    rows, raw = [], {name: model.sample(SAMPLES, seed=1) for name, model in models.items()}
    condition = next(iter(raw.values())).condition
    reference = BurgersStudy.presets()["smoke"].reference(condition)
    for name, model in models.items():
        corrected = model.sample(SAMPLES, seed=1, refine=1)
        for kind, samples in (("raw", raw[name]), ("one correction", corrected)):
            spread = Spread.of(relative_error(samples.fields, reference))
            figures = (spread.mean, spread.p95, spread.worst)
            rows.append([name, kind, *(f"{value:.4f}" for value in figures)])
    return rows, report_of(model, raw[name], reference)
