"""The result of each study; a user's own study gets its quality as a table."""

from collections.abc import Callable

from lawful.studies.burgers_table import burgers_result
from lawful.studies.model import Model
from lawful.studies.result import Result, markdown_table
from lawful.studies.run import quality

RESULTS: dict[str, Callable[[Model], Result]] = {"burgers": burgers_result}


def result_of(model: Model) -> Result:
    """The study's table and figures for a trained model."""
    return RESULTS.get(model.study.name, quality_result)(model)


def quality_result(model: Model) -> Result:
    """Violations of every law and, where there is a reference, errors, on drawn conditions."""
    data = quality(model)
    head = ["law", "mean", "median", "95th percentile", "worst"]
    entries = {f"{entry['law']} ({entry['unit']})": entry["violation"] for entry in data["laws"]}
    for name in ("estimated_relative_error", "relative_error"):
        if data.get(name):
            entries[name.replace("_", " ")] = data[name]
    rows = [[name, *(f"{value:.3e}" for value in e.values())] for name, e in entries.items()]
    title = f"{model.study.name}: {model.study.about}"
    return Result(title, markdown_table(head, rows), data)
