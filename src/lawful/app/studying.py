"""`lawful study`: reproduces a study's table and figures as Markdown, JSON and PNG."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lawful.app.options import parse
from lawful.app.training import choose_preset, train_with_progress
from lawful.atomic import replacing
from lawful.errors import InputError
from lawful.games.checkpoint import write_json, write_text
from lawful.studies import registry
from lawful.studies.model import Model, load
from lawful.studies.result import Result
from lawful.studies.results import COMPUTED, recipe_of
from lawful.studies.study import Study


@dataclass(frozen=True)
class StudyOptions:
    """Train what a study's result needs, or take a model, and write its tables and figures."""

    study: Annotated[tyro.conf.Positional[str], tyro.conf.arg(help="a name, or a .py file")]
    preset: Annotated[str | None, tyro.conf.arg(help="configuration to train")] = None
    model: Annotated[str | None, tyro.conf.arg(help="a trained model instead")] = None
    out: Annotated[Path | None, tyro.conf.arg(help="folder [studies/STUDY]")] = None


def run(arguments: list[str]) -> None:
    """`lawful study STUDY`."""
    options = parse(StudyOptions, arguments, "lawful study")
    if options.study in COMPUTED:
        if options.preset or options.model:
            raise InputError(f"study {options.study}: is computed; it has no preset and no model")
        result = COMPUTED[options.study].result()
        write_result(result, options.out or Path("studies") / options.study)
        return
    kind = registry.find(options.study)
    preset = choose_preset(kind, arguments, recipe_of(kind.name).preset)
    folder = options.out or Path("studies") / kind.name
    if options.model is not None:
        models = {options.model: load(options.model)}
        if (found := models[options.model].study.name) != kind.name:
            raise InputError(f"--model {options.model}: a model of {found}, not {kind.name}")
    else:
        models = _trained(kind.presets()[preset], preset, folder)
    write_result(recipe_of(kind.name).result(models), folder)


def _trained(study: Study, preset: str, folder: Path) -> dict[str, Model]:
    """Models of every configuration that the study's result needs; finished ones are kept."""
    runs = recipe_of(study.name).runs(study, preset)
    models = {}
    for number, (name, configuration) in enumerate(runs.items(), 1):
        if len(runs) > 1:
            print(f"{number} of {len(runs)}: {name}", file=sys.stderr)
        train_with_progress(configuration, folder / name, resume=True)
        models[name] = load(folder / name)
    return models


def write_result(result: Result, folder: Path) -> None:
    """Write `table.md`, `table.json` and the figures; print the table."""
    text = f"# {result.title}\n\n{result.markdown}\n"
    try:
        for name, figure in result.figures.items():
            with replacing(folder / f"{name}.png") as path:
                figure.savefig(path, dpi=110, format="png")
        write_json(folder / "table.json", result.data)
        write_text(folder / "table.md", text)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
    print(text)
    print(f"written: {folder}")
