"""`lawful study`: reproduces a study's table and figures as Markdown, JSON and PNG."""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from lawful import registry
from lawful import run as runs
from lawful.catalogue import COMPUTED, MANIFEST
from lawful.cli.options import Devices, StudyOptions, configured, first_argument, parse, value_of
from lawful.cli.page import check_folder, png, write_folder
from lawful.cli.train import launched, train_with_progress
from lawful.errors import InputError
from lawful.files import json_bytes
from lawful.model import Model, load
from lawful.reading import reason
from lawful.studies.results import compute, recipe_of
from lawful.study import Study
from lawful.table import Result


def run(arguments: list[str]) -> None:
    """`lawful study STUDY`."""
    name = first_argument(StudyOptions, arguments, "study", "study")
    if name in COMPUTED:
        options = _untrained(arguments, f"study {name}: is computed")
        if options.model is not None:
            raise InputError(f"study {name}: is computed and takes no --model")
        folder = options.out or Path("studies") / name
        check_folder(folder)
        write_result(compute(name), folder)
        return
    kind = registry.find(name, COMPUTED)
    folder = Path("studies") / kind.name
    if value_of("--model", arguments) is not None:
        options = _untrained(arguments, "--model: is trained already")
        check_folder(folder := options.out or folder)
        write_result(_of_model(kind, options.model), folder)
        return
    recipe = recipe_of(kind)
    preset, options = configured(StudyOptions, arguments, "study", kind, recipe.preset or "")
    plain = kind.presets()[preset]
    if unused := _unused(options.config, plain, lambda study: recipe.runs(study, preset)):
        raise InputError(f"{unused}: this table's runs have their own; none of them would change")
    folder = options.out or folder
    models = _trained(recipe.runs(options.config, preset), folder, options.device)
    if models:
        write_result(recipe.result(models), folder)


def _untrained(arguments: list[str], why: str) -> Any:
    """Options where nothing is trained, so that there is nothing to configure."""
    said = f"{why} and takes nothing to train with"
    try:
        options = parse(StudyOptions, arguments, "study")
    except InputError as error:
        raise InputError(f"{said}: {error}") from None
    if options.preset is not None or options.device != Devices():
        raise InputError(f"{said}, such as --preset and --device")
    return options


def _of_model(kind: type[Study], name: str) -> Result:
    model = load(name, study=None if registry.STUDIES.get(kind.name) is kind else kind)
    if (found := model.study.name) != kind.name:
        raise InputError(f"--model {name}: a model of {found}, not {kind.name}")
    try:
        return recipe_of(kind).result({name: model})
    except (KeyError, TypeError) as error:
        said = f"its manifest lacks figures of the table ({reason(error)})"
        raise InputError(f"--model {name}: {said}") from error


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
    if not fabric.is_global_zero:
        return {}
    return {n: load(folder / n, study=type(study)) for n, study in configurations.items()}


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
    figures = {f"{name}.png": png(figure) for name, figure in result.figures.items()}
    data = json_bytes(result.data)
    write_folder(folder, {"table.md": text.encode(), "table.json": data, **figures})
    print(text)
    print(f"written: {folder}")
