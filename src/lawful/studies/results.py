"""The result of each study: which configurations it trains, and what is made of their models.

A study of a user's own gets its quality as a table. Results that need no training are computed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lawful.metrics.summary import SPREAD
from lawful.model import Model
from lawful.run import quality
from lawful.studies.burgers_table import burgers_result
from lawful.studies.histology_table import histology_result, histology_runs
from lawful.studies.microstructure_table import microstructure_result, microstructure_runs
from lawful.studies.mixture_table import mixture_result, mixture_runs
from lawful.studies.motif_table import motif_result, motif_runs
from lawful.studies.rotmnist_table import rotmnist_result, rotmnist_runs
from lawful.study import Study
from lawful.table import Result, markdown_table
from lawful.theory.linear_table import ABOUT, linear_result
from lawful.theory.symmetry_table import ABOUT as ABOUT_SYMMETRY
from lawful.theory.symmetry_table import symmetry_result


@dataclass(frozen=True)
class Computed:
    """A result without training.

    Arguments:
        about: For listings.
        result: Computes it.
    """

    about: str
    result: Callable[[], Result]


def itself(study: Study, preset: str) -> Mapping[str, Study]:
    """The preset alone."""
    return {f"run-{preset}": study}


@dataclass(frozen=True)
class Recipe:
    """How a study's result comes about.

    Arguments:
        result: From trained models by name.
        runs: Configurations to train by name, from a preset and its name.
        preset: What is taken where none is asked for; None for the study's first.
    """

    result: Callable[[Mapping[str, Model]], Result]
    runs: Callable[[Study, str], Mapping[str, Study]] = itself
    preset: str | None = None


COMPUTED: Mapping[str, Computed] = {
    "game": Computed(ABOUT, linear_result),
    "symmetry": Computed(ABOUT_SYMMETRY, symmetry_result),
}
RECIPES: Mapping[str, Recipe] = {
    "burgers": Recipe(lambda models: burgers_result(_only(models))),
    "histology": Recipe(histology_result, histology_runs, "quick"),
    "microstructure": Recipe(microstructure_result, microstructure_runs),
    "mixture": Recipe(mixture_result, mixture_runs),
    "motif": Recipe(motif_result, motif_runs, "quick"),
    "rotmnist": Recipe(rotmnist_result, rotmnist_runs, "quick"),
}


def recipe_of(name: str) -> Recipe:
    """The recipe of a study; that of one without its own reports its quality."""
    return RECIPES.get(name, Recipe(lambda models: quality_result(_only(models))))


def _only(models: Mapping[str, Model]) -> Model:
    return next(iter(models.values()))


def quality_result(model: Model) -> Result:
    """Violations of every law and, where there is a reference, errors, on drawn conditions."""
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
