"""Command-line options from typed dataclasses, with one-line errors."""

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import field, fields, make_dataclass
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from lawful.errors import InputError
from lawful.study import Quantity, spelled
from lawful.typed import check_fields

T = TypeVar("T")
RULE = re.compile(r"[─-]{3,}|╰.*")
STUDY_HELP = "file of a run's own study, where it is not known here; it is code that runs"


def parse(options: type[T], arguments: Sequence[str], program: str) -> T:
    """Parse with tyro; whatever it refuses becomes one line.

    Raises:
        InputError: An argument is unknown, missing or of the wrong type.
        SystemExit: Help was asked for and printed.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            found = tyro.cli(options, args=list(arguments), prog=program)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise InputError(f"{_one_line(complaint.getvalue())}; see {program} --help") from None
    check_fields(found, "--")
    return found


def value_of(option: str, arguments: Sequence[str]) -> str | None:
    """The value of an option that decides what other options there are."""
    found = None
    for i, argument in enumerate(arguments):
        if argument == option:
            found = arguments[i + 1] if i + 1 < len(arguments) else ""
        elif argument.startswith(f"{option}="):
            found = argument.partition("=")[2]
    return found


def _one_line(box: str) -> str:
    """The message inside tyro's box, up to the rule after it; rules are of hyphens where the
    terminal's encoding has no lines."""
    lines = [re.sub(r"^\s*│|│\s*$", "", line).strip() for line in box.splitlines()]
    whole = [line for line in lines if line][1:]  # without the title
    inside = dropwhile(RULE.fullmatch, whole)
    message = takewhile(lambda line: not RULE.fullmatch(line), inside)
    return " ".join(message) or "the arguments cannot be read"


def own_options(options: type) -> set[str]:
    """The options of a command itself: its fields, `--no-NAME` of its switches, and tyro's."""
    names = {entry.name for entry in fields(options)}
    switches = {f"no_{entry.name}" for entry in fields(options) if isinstance(entry.default, bool)}
    always = {"h", "help", "tyro-print-completion", "tyro-write-completion"}
    return always | {spelled(name) for name in names | switches}


def with_conditions(options: type, quantities: Sequence[Quantity], own: type | None = None) -> type:
    """`options` with an option for each quantity: numbers, or a file of them for a vector.

    A study's `own` options stand beside those of the command and are the entry `own`.

    A quantity's option is `--NAME` where the command has no such option of its own, and `--c.NAME`
    in any case. `given_values` reads them.
    """
    taken = own_options(options) | (set() if own is None else own_options(own))
    extra: list[Any] = []
    if own is not None:
        extra.append(("own", Annotated[own, tyro.conf.arg(name="")], field(default=own())))
    for i, quantity in enumerate(quantities):
        plain = spelled(quantity.name)
        always = f"c.{plain or i}"
        names: dict[str, Any] = {"name": always}
        if plain and plain not in taken:
            names = {"name": plain, "aliases": [f"--{always}"]}
        normal = quantity.distribution == "normal"
        extent = "normal" if normal else f"{quantity.lower:g}, {quantity.upper:g}"
        about = f"{quantity.about} [{extent}]"
        kind: Any = tuple[str, ...] if quantity.shape else tuple[float, ...]
        if quantity.shape:
            about += "; a .npy file of one value or a stack"
        option = Annotated[kind, tyro.conf.arg(help=about, metavar="VALUE …", **names)]
        said = field(default=(), metadata={"name": names["name"]})  # in messages
        extra.append((f"quantity_{i}", option, said))
    return make_dataclass(options.__name__, extra, bases=(options,), frozen=True)


def refuse_to_replace(files: Sequence[Path], *, force: bool) -> None:
    """Refuse, before any work, to write over results that are there.

    Raises:
        InputError: One of the files exists and `force` was not given.
    """
    for path in files:
        if path.exists() and not force:
            raise InputError(f"{path}: is there already; --force replaces it, --out spares it")


def given_values(options: Any, quantities: Sequence[Quantity]) -> dict[str, Any]:
    """What was given for each of the quantities that `with_conditions` was given, by name."""
    values = {q.name: getattr(options, f"quantity_{i}") for i, q in enumerate(quantities)}
    return {name: value for name, value in values.items() if value}
