"""The command line: `lawful COMMAND`; a user's mistake is one line and exit status 2."""

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import TextIO

from lawful.errors import InputError, LawfulWarning, NonFiniteError

# Command: (module, what it does). Modules are imported when used, so that help is quick.
COMMANDS = {
    "list": ("listing", "studies, presets, shipped models and their measured quality"),
    "train": ("training", "train a study, or a study of your own in a .py file"),
    "sample": ("sampling", "sample from a model into .h5, .nc, .npz, .tif, .vtk or .png"),
    "report": ("reporting", "law report of a model or of a file of samples"),
    "study": ("studying", "reproduce a study's table and figures"),
    "stats": ("statistics", "two-point correlation, lineal path, surface of an image"),
    "data": ("datasets", "make the two-phase images that studies train on"),
    "demo": ("demo", "train, sample and check against the solver, in a minute or two"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return _dispatch(argv)
    except InputError as error:
        return _complain(error, 2)
    except NonFiniteError as error:
        return _complain(error, 1)
    except BrokenPipeError:  # the reader of a pipe has gone
        return 0
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _complain(f"{place}{error.strerror or error}", 2)
    except KeyboardInterrupt:
        return _complain(
            "interrupted; train goes on with --resume, study with the same command", 130
        )


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if argv[0] == "--version":
        print(f"lawful {version('lawful')}")
        return 0
    if argv[0] not in COMMANDS:
        raise InputError(f"unknown command {argv[0]!r}; there are {', '.join(COMMANDS)}")
    module = importlib.import_module(f"lawful.app.{COMMANDS[argv[0]][0]}")
    run: Callable[[list[str]], None] = module.run
    try:
        run(argv[1:])
    except SystemExit as stop:  # help was printed
        return int(stop.code or 0)
    return 0


def _usage() -> str:
    lines = [f"  {name:<8}{about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join(
        ["usage: lawful COMMAND [OPTIONS]", "", *lines, "", "lawful COMMAND --help for its options"]
    )


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A line for a warning of lawful's own, and another library's as Python shows it."""
    if issubclass(category, LawfulWarning):
        print(f"lawful: warning: {message}", file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno), end="", file=sys.stderr)


def _complain(message: object, status: int) -> int:
    print(f"lawful: {' '.join(str(message).split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
