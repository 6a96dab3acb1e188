"""`lawful demo`: a newcomer's first minutes."""

import shutil
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lawful.catalogue import MANIFEST
from lawful.cli.options import DemoOptions, parse
from lawful.cli.page import Section, show
from lawful.cli.report import HTML, Report, report_of, write_report
from lawful.cli.train import train_with_progress
from lawful.metrics.report import Spread, relative_error
from lawful.model import Model, load
from lawful.studies.burgers import BurgersStudy

SAMPLES = 16
INTRODUCTION = (
    "No solution was used in training: the generator saw initial conditions, viscosities and the "
    "equation. The rest of this page is about the last model in this table, raw."
)


def run(arguments: list[str]) -> None:
    """`lawful demo`."""
    options = parse(DemoOptions, arguments, "demo")
    folder = options.out / "run"
    print("1. Training a generator of solutions of Burgers' equation, by the equation alone")
    if (folder / MANIFEST).is_file() and load(folder).manifest["preset"] == "smoke":
        shutil.rmtree(folder)  # a finished demo starts afresh, an interrupted one goes on
    train_with_progress(BurgersStudy.presets()["smoke"], folder, resume=True)
    print("2. Sampling it, and solving for the same conditions (WENO5, 1,024 cells)")
    models = {"trained just now": load(folder), "shipped (burgers)": load("burgers")}
    table, report = _compare(models)
    print("3. Relative L2 error against the solver")
    compared: Section = ("Generated against numerical", [table])
    show([compared])
    introduced: Section = (compared[0], [table, INTRODUCTION])
    write_report(replace(report, sections=[introduced, *report.sections]), options.out)
    print("4. Violations of the laws")
    show(report.sections[:1], report.warnings)
    page = options.out / HTML
    print(f"report: {page}")
    if options.open:
        webbrowser.open(page.resolve().as_uri())


def _compare(models: Mapping[str, Model]) -> tuple[list[Sequence[str]], Report]:
    """Errors of each model on the same conditions, raw and corrected; the report of the last."""
    raw = {name: model.sample(SAMPLES, seed=1) for name, model in models.items()}
    condition = next(iter(raw.values())).condition
    reference = BurgersStudy.presets()["smoke"].reference(condition)
    table: list[Sequence[str]] = [("model", "samples", "mean", "95th %", "worst")]
    for name, model in models.items():
        corrected = model.sample(SAMPLES, seed=1, refine=1)
        for kind, samples in (("raw", raw[name]), ("one correction", corrected)):
            spread = Spread.of(relative_error(samples.fields, reference)).as_dict()
            figures = (f"{spread[entry]:.4f}" for entry in ("mean", "p95", "worst"))
            table.append((name, kind, *figures))
    return table, report_of(model, raw[name], reference)
