"""`lawful study`: reproduces a study's table and figures as Markdown, JSON and PNG."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lawful.app.options import parse
from lawful.app.training import choose_preset, train_with_progress
from lawful.errors import InputError
from lawful.games.checkpoint import replacing, write_json, write_text
from lawful.studies import registry
from lawful.studies.model import Model, load
from lawful.studies.result import Result
from lawful.studies.results import result_of


@dataclass(frozen=True)
class StudyOptions:
    """Train a study's preset, or take a model, and write its table and figures."""

    study: Annotated[tyro.conf.Positional[str], tyro.conf.arg(help="a name, or a .py file")]
    preset: Annotated[str | None, tyro.conf.arg(help="configuration to train")] = None
    model: Annotated[str | None, tyro.conf.arg(help="a trained model instead")] = None
    out: Annotated[Path | None, tyro.conf.arg(help="folder [studies/STUDY]")] = None


def run(arguments: list[str]) -> None:
    """`lawful study STUDY`."""
    options = parse(StudyOptions, arguments, "lawful study")
    kind = registry.find(options.study)
    preset = choose_preset(kind, arguments)
    folder = options.out or Path("studies") / kind.name
    if options.model is not None:
        model = load(options.model)
        if model.study.name != kind.name:
            raise InputError(
                f"--model {options.model}: a model of {model.study.name}, not {kind.name}"
            )
    else:
        run_folder = folder / f"run-{preset}"
        train_with_progress(kind.presets()[preset], run_folder, resume=True)
        model = load(run_folder)
    write_result(result_of(model), folder, model)


def write_result(result: Result, folder: Path, model: Model) -> None:
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
