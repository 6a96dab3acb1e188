"""Options of the commands as typed dataclasses; whatever is refused is one line.

Nothing here imports a study or PyTorch, so that help is quick.
"""

import argparse
import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro
from tyro.conf import Positional, arg

from lawful.errors import InputError
from lawful.typed import Number, Options, Within, check_fields, spelled

if TYPE_CHECKING:
    from lawful.study import Quantity, Study

T = TypeVar("T")
FORMATS = (".h5", ".nc", ".npz", ".tif", ".vtk", ".png")  # of files of samples
RULE = re.compile(r"[╰─-]{3,}.*")  # of hyphens where the terminal's encoding has no lines
STUDY_HELP = "file of a run's own study, where it is not known here; it is code that runs"
StudyName = Annotated[Positional[str], arg(help="a name, or a .py file")]
StudyFile = Annotated[str | None, arg(help=STUDY_HELP)]


@dataclass(frozen=True)
class Devices:
    """Where a run takes place (Lightning Fabric)."""

    accelerator: str = "cpu"
    devices: Annotated[int, Within(1, 4096)] = 1
    strategy: str = "auto"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"

    def __post_init__(self) -> None:
        check_fields(self, "--device.")
        if self.accelerator == "cpu" and self.devices > (most := max(16, os.cpu_count() or 1)):
            raise InputError(
                f"--device.devices: expected at most {most} processes here, got {self.devices}"
            )


@dataclass(frozen=True)
class TrainOptions:
    """Train a study with a progress bar; --resume goes on where a run was interrupted."""

    study: StudyName
    preset: Annotated[str | None, arg(help="configuration to start from")] = None
    out: Annotated[Path | None, arg(help="run folder [runs/STUDY-PRESET]")] = None
    resume: Annotated[
        bool, arg(help="go on with the run in --out, or with more steps if finished")
    ] = False
    init: Annotated[str | None, arg(help="run or model whose weights to start from")] = None
    dry_run: Annotated[bool, arg(help="print the configuration and stop")] = False
    track: Annotated[bool, arg(help="TensorBoard files in the run folder")] = False
    device: Devices = Devices()


@dataclass(frozen=True, kw_only=True)
class SampleOptions(Options):
    """Sample fields; conditions that are not given are drawn, several values are taken in turn."""

    model: Annotated[Positional[str], arg(help="a shipped model or a run")]
    out: Annotated[Path, arg(help=f"file to write, of {', '.join(FORMATS)}")]
    n: Annotated[
        Number | None, arg(aliases=["-n"], help="samples [as many as values are given]")
    ] = None
    study: StudyFile = None


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Options):
    """Report how well a model's samples, or the samples in a file, obey the laws."""

    subject: Annotated[Positional[str], arg(help="a model, run or file")]
    out: Annotated[Path, arg(help="folder for report.json and report.html")] = Path("report")
    n: Annotated[Number, arg(aliases=["-n"], help="samples drawn from a model")] = 32
    seed: int = 1
    study: StudyFile = None
    force: Annotated[bool, arg(help="replace the report in --out")] = False


@dataclass(frozen=True)
class StudyOptions:
    """Train what a study's result needs, or take a model, and write its tables and figures.
    STUDY --help adds the configuration that its runs have in common."""

    study: StudyName
    out: Annotated[Path | None, arg(help="folder [studies/STUDY]")] = None
    model: Annotated[str | None, arg(help="a trained model instead")] = None
    preset: Annotated[str | None, arg(help="configuration to train")] = None
    device: Devices = Devices()


@dataclass(frozen=True)
class DemoOptions:
    """Train a small generator of Burgers solutions without data and check it against a solver."""

    out: Annotated[Path, arg(help="folder for the run and the reports")] = Path("demo")
    open: Annotated[bool, arg(help="open the report in a browser")] = sys.stdout.isatty()


def no_options() -> None:
    """Studies with their presets, shipped models with size and measured quality."""


HELP: Mapping[str, Callable[..., Any]] = {
    "list": no_options, "train": TrainOptions, "sample": SampleOptions, "report": ReportOptions,
    "study": StudyOptions, "demo": DemoOptions,
}  # fmt: skip


def parse(options: Callable[..., T], arguments: Sequence[str], command: str) -> T:
    """Parse with tyro; whatever it refuses becomes one line.

    Raises:
        InputError: An argument is unknown, missing, of the wrong type or out of range.
        SystemExit: Help was asked for and printed.
    """
    complaint, program = io.StringIO(), f"lawful {command}"
    try:
        with contextlib.redirect_stderr(complaint):
            found = tyro.cli(options, args=list(arguments), prog=program)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise InputError(f"{_unboxed(complaint.getvalue())}; see {program} --help") from None
    if is_dataclass(found):
        check_fields(found, "--")
    return found


def _unboxed(box: str) -> str:
    """The message inside tyro's box: after the title, up to the rule below."""
    lines = [line.strip("│ ") for line in box.splitlines()]
    inside = [line for line in lines if line][1:]
    inside = inside[1:] if inside and RULE.fullmatch(inside[0]) else inside
    ends = [i for i, line in enumerate(inside) if RULE.fullmatch(line)]
    return " ".join(inside[: ends[0]] if ends else inside) or "the arguments cannot be read"


def first_argument(options: type, arguments: Sequence[str], command: str, what: str) -> str:
    """What comes first and decides which other options there are: a study or a model.

    Raises:
        InputError: An option comes first, or nothing.
    """
    if arguments and not arguments[0].startswith("-"):
        return arguments[0]
    parse(options, arguments, command)
    said = f"lawful {command}: the {what} comes first"
    raise InputError(f"{said}: lawful {command} {what.upper()} [OPTIONS]")


def value_of(option: str, arguments: Sequence[str]) -> str | None:
    """The value of an option that decides what other options there are.

    Raises:
        InputError: It has none.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, nargs="?", const="", dest="value")
    value: str | None = parser.parse_known_args(list(arguments))[0].value
    if value == "":
        raise InputError(f"{option}: expected a value")
    return value


def configured(
    options: type, arguments: Sequence[str], command: str, kind: "type[Study]", usual: str = ""
) -> tuple[str, Any]:
    """The name of the preset after `--preset`, else the usual or the first; and `options` with this
    preset as their `config`, of which every field has an option: `--NAME`, or `--config.NAME` for
    all where one has the name of an option of the command.

    Raises:
        InputError: The study has no such preset, or an argument is refused.
    """
    presets = kind.presets()
    name = value_of("--preset", arguments) or usual or next(iter(presets))
    if name not in presets:
        raise InputError(f"preset {name!r}: expected one of {', '.join(presets)}")
    preset = presets[name]
    met = {spelled(entry.name) for entry in fields(preset)} & _names(options)
    config: Any = Annotated[type(preset), arg(name="config" if met else "")]
    whole = _extended(options, [("config", config, field(default=preset))])
    return name, parse(whole, arguments, command)


def for_study(options: type, study: "Study") -> type:
    """`options` with one per quantity of a study, as `quantity_0` and so on, and with the study's
    own as `own`.

    A quantity's option takes numbers, or .npy files where its values are arrays. It is `--NAME`
    where no other option has that name, and `--c.NAME` in any case.
    """
    own = study.sample_options
    taken = _names(options) | (set() if own is None else _names(own))
    more: list[Any] = []
    if own is not None:
        more.append(("own", Annotated[own, arg(name="")], field(default=own())))
    for i, quantity in enumerate(asked(study)):
        plain = spelled(quantity.name)
        names: dict[str, Any] = {"name": f"c.{plain or i}"}
        if plain and plain not in taken:
            names = {"name": plain, "aliases": [f"--c.{plain}"]}
        normal = quantity.distribution == "normal"
        extent = "normal" if normal else f"{quantity.lower:g}, {quantity.upper:g}"
        about = f"{quantity.about} [{extent}]"
        about += "; a .npy file of one value or a stack" if quantity.shape else ""
        kind: Any = tuple[str, ...] if quantity.shape else tuple[float, ...]
        hint = "(drawn where not given)" if quantity.required else "(optional)"
        described = arg(help=about, metavar="VALUE …", help_behavior_hint=hint, **names)
        said = field(default=(), metadata={"name": names["name"]})  # in messages
        more.append((f"quantity_{i}", Annotated[kind, described], said))
    return _extended(options, more)


def asked(study: "Study") -> "list[Quantity]":
    """The quantities that have an option."""
    return [quantity for quantity in study.quantities if quantity.kept]


def _names(options: type) -> set[str]:
    """What is taken by a command itself: its fields, `--no-NAME` of its switches, and tyro's."""
    names = {entry.name for entry in fields(options)}
    switches = {f"no_{entry.name}" for entry in fields(options) if isinstance(entry.default, bool)}
    always = {"h", "help", "tyro-print-completion", "tyro-write-completion"}
    return always | {spelled(name) for name in names | switches}


def _extended(options: type, entries: list[Any]) -> type:
    said = {"__doc__": options.__doc__}
    return make_dataclass(options.__name__, entries, bases=(options,), frozen=True, namespace=said)


def refuse_to_replace(files: Sequence[Path], *, force: bool) -> None:
    """Refuse, before any work, to write over results that are there.

    Raises:
        InputError: One of the files exists and `force` was not given.
    """
    for path in files:
        if path.exists() and not force:
            raise InputError(f"{path}: is there already; --force replaces it, --out spares it")
