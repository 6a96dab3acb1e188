"""`lawful study`: reproduces a study's table and figures as Markdown, JSON and PNG."""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from lawful import registry
from lawful import run as runs
from lawful.atomic import write_all
from lawful.cli.options import parse
from lawful.cli.page import png
from lawful.cli.training import (
    Devices,
    choose_preset,
    launched,
    parse_overrides,
    study_named,
    train_with_progress,
)
from lawful.errors import InputError
from lawful.files import json_bytes
from lawful.model import MANIFEST, Model, load
from lawful.reading import reason
from lawful.studies.results import COMPUTED, recipe_of
from lawful.study import Study
from lawful.table import Result


@dataclass(frozen=True)
class ComputedOptions:
    """Compute what a study's result says, and write its tables and figures."""

    study: Annotated[tyro.conf.Positional[str], tyro.conf.arg(help="a name, or a .py file")]
    out: Annotated[Path | None, tyro.conf.arg(help="folder [studies/STUDY]")] = None


@dataclass(frozen=True)
class ModelOptions(ComputedOptions):
    """Take a trained model, and write the study's tables and figures of it."""

    model: Annotated[str, tyro.conf.arg(help="a trained model instead")] = ""


@dataclass(frozen=True)
class StudyOptions(ModelOptions):
    """Train what a study's result needs, or take a model, and write its tables and figures.
    STUDY --help adds the configuration that its runs have in common."""

    preset: Annotated[str | None, tyro.conf.arg(help="configuration to train")] = None
    device: Devices = field(default=Devices())


def run(arguments: list[str]) -> None:
    """`lawful study STUDY`."""
    name = study_named(StudyOptions, arguments, "lawful study")
    if name in COMPUTED:
        out = _parse_alone(ComputedOptions, arguments, f"study {name}: is computed").out
        write_result(COMPUTED[name].result(), out or Path("studies") / name)
        return
    kind = registry.find(name, COMPUTED)
    if any(argument.partition("=")[0] == "--model" for argument in arguments):
        _of_model(kind, arguments)
        return
    recipe = recipe_of(kind)
    preset = choose_preset(kind, arguments, recipe.preset)
    plain = kind.presets()[preset]
    options = parse_overrides(StudyOptions, arguments, "lawful study", plain)
    folder = options.out or Path("studies") / kind.name
    if unused := _unused(options.config, plain, lambda study: recipe.runs(study, preset)):
        raise InputError(f"{unused}: this table's runs have their own; none of them would change")
    models = _trained(recipe.runs(options.config, preset), folder, options.device)
    if models:
        write_result(recipe.result(models), folder)


def _of_model(kind: type[Study], arguments: list[str]) -> None:
    options: Any = _parse_alone(ModelOptions, arguments, "--model: is trained already")
    model = load(options.model, study=None if registry.STUDIES.get(kind.name) is kind else kind)
    if (found := model.study.name) != kind.name:
        raise InputError(f"--model {options.model}: a model of {found}, not {kind.name}")
    try:
        result = recipe_of(kind).result({options.model: model})
    except (KeyError, TypeError) as error:
        said = f"its manifest lacks figures of the table ({reason(error)})"
        raise InputError(f"--model {options.model}: {said}") from error
    write_result(result, options.out or Path("studies") / kind.name)


def _parse_alone(options: type, arguments: list[str], why: str) -> Any:
    """Parse where nothing is trained, so that there is nothing to configure."""
    try:
        return parse(options, arguments, "lawful study")
    except InputError as error:
        raise InputError(f"{why} and takes nothing to train with: {error}") from None


def _unused(asked: Any, plain: Any, made_of: Callable[[Any], object]) -> str | None:
    """The field in which `asked` differs from `plain` although the same is made of both."""
    for name in (entry.name for entry in fields(asked)):
        value, usual = getattr(asked, name), getattr(plain, name)
        if value == usual:
            continue
        made = lambda v, name=name: made_of(replace(asked, **{name: v}))  # noqa: E731
        if is_dataclass(value) and is_dataclass(usual):
            if inner := _unused(value, usual, made):
                return f"{name}.{inner}"
            continue
        with suppress(InputError):  # the usual value does not go with the rest
            other = replace(asked, **{name: usual})
            if getattr(other, name) == usual and made_of(other) == made_of(asked):
                return name  # and not one that follows from the others
    return None


def _trained(
    configurations: Mapping[str, Study], folder: Path, devices: Devices
) -> dict[str, Model]:
    """Models of all configurations, in the first process alone; finished ones are kept."""
    _check(configurations, folder)
    with launched(devices) as fabric:
        for number, (name, study) in enumerate(configurations.items(), 1):
            if len(configurations) > 1 and fabric.is_global_zero:
                print(f"{number} of {len(configurations)}: {name}", file=sys.stderr)
            train_with_progress(study, folder / name, resume=True, fabric=fabric)
    return {
        name: load(folder / name, study=type(study))
        for name, study in configurations.items()
        if fabric.is_global_zero
    }


def _check(configurations: Mapping[str, Study], folder: Path) -> None:
    """Refuse before the first training what would be refused between two of them."""
    for name, study in configurations.items():
        if runs.holds_run(folder / name):
            runs.check_same(study, folder / name)
    unfinished = [s for n, s in configurations.items() if not (folder / n / MANIFEST).is_file()]
    for study in unfinished if len(unfinished) > 1 else ():  # one alone starts with it anyway
        study.game()  # takes its data


def write_result(result: Result, folder: Path) -> None:
    """Write `table.md`, `table.json` and the figures; print the table."""
    text = f"# {result.title}\n\n{result.markdown}\n"
    files = {folder / "table.md": text.encode(), folder / "table.json": json_bytes(result.data)}
    files |= {folder / f"{name}.png": png(figure) for name, figure in result.figures.items()}
    try:
        write_all(files)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None
    print(text)
    print(f"written: {folder}")
