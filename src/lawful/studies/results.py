"""The result of each study: which configurations it trains, and what is made of their models.

A study's recipe is `RECIPE` in its own module, or in the one that `PLACES` names. A study of a
user's own without a recipe gets its quality as a table. Results without training are computed.
"""

import sys
from collections.abc import Mapping
from importlib import import_module

from lawful.catalogue import COMPUTED
from lawful.metrics.report import SPREAD
from lawful.model import Model
from lawful.registry import STUDIES
from lawful.run import quality
from lawful.study import Study
from lawful.table import Recipe, Result, markdown_table

PLACES: Mapping[str, str] = {
    name: f"lawful.studies.{name}_table" for name in ("burgers", "microstructure")
}


def compute(name: str) -> Result:
    """A result without training, of those that the catalogue lists."""
    found: Result = import_module(COMPUTED[name].place).result()
    return found


def recipe_of(kind: type[Study]) -> Recipe:
    """The recipe of a study; that of one without its own reports its quality."""
    place = kind.__module__
    if STUDIES.get(kind.name) is kind and kind.name in PLACES:
        place = PLACES[kind.name]
        import_module(place)
    own = getattr(sys.modules[place], "RECIPE", None)
    return own if isinstance(own, Recipe) else Recipe(quality_result)


def quality_result(models: Mapping[str, Model]) -> Result:
    """Violations of every law and, where there is a reference, errors, on drawn conditions."""
    model = next(iter(models.values()))
    data = quality(model)
    entries = {f"{entry['law']} ({entry['unit']})": entry["violation"] for entry in data["laws"]}
    for name in ("estimated_error", "estimated_error_absolute", "relative_error"):
        if data.get(name):
            entries[name.replace("_", " ")] = data[name]
    rows = [[name, *(f"{value:.4g}" for value in e.values())] for name, e in entries.items()]
    table = markdown_table(("law", *SPREAD), rows)
    if figures := [(n, f"{v:.4g}") for n, v in data.items() if isinstance(v, float)]:
        table += "\n\n" + markdown_table(("measured", "value"), figures)
    title = f"{model.study.name}: {model.study.about}"
    return Result(title, table, data)
