"""The command line: `lawful COMMAND`; a user's mistake is one line and exit status 2."""

import importlib
import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from types import FrameType
from typing import Any

from lawful.errors import InputError, LawfulWarning, NonFiniteError

LONGEST = 600  # characters of a complaint; what is said of a value stands at its ends
STOPPED = "interrupted; train goes on with --resume, study and data with the same command"
# Command: (module, what it does). Modules are imported when used, so that help is quick.
COMMANDS = {
    "list": ("listing", "studies, presets, shipped models and their measured quality"),
    "train": ("train", "train a study, or a study of your own in a .py file"),
    "sample": ("sample", "sample from a model into a file of numbers or pictures"),
    "report": ("report", "law report of a model or of a file of samples"),
    "study": ("study", "reproduce a study's table and figures"),
    "stats": ("statistics", "two-point correlation, lineal path, surface of an image"),
    "data": ("datasets", "make the two-phase images that studies train on"),
    "demo": ("demo", "train, sample and check against the solver, in a minute or two"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    message, status, stopped = "", 0, list[int]()
    try:
        with stopping_on_signals(stopped, program=arguments is None):
            message, status = _run(list(sys.argv[1:] if arguments is None else arguments))
    except BaseException:  # what foreign code made of an interrupt, or one after the last line
        if not stopped:
            raise
    if stopped:  # also where foreign code has lost what was raised
        message, status = STOPPED, 128 + stopped[0]
    if message:
        print(f"lawful: {_one_line(message)}", file=sys.stderr)
    return status


def _one_line(message: str) -> str:
    text = " ".join(message.split())
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    half = LONGEST // 2
    return plain if len(plain) <= LONGEST else f"{plain[:half]} … {plain[-half:]}"


def _run(argv: list[str]) -> tuple[str, int]:
    """What is complained of, if anything, and the exit status."""
    if hasattr(sys.stdout, "reconfigure"):  # names of files need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return "", _dispatch(argv)
    except InputError as error:
        return str(error), 2
    except NonFiniteError as error:
        return str(error), 1
    except BrokenPipeError:  # the reader of a pipe has gone
        return "", 0
    except (MemoryError, RuntimeError) as error:
        memory = isinstance(error, MemoryError) or re.search("(allocate|out of) memory", str(error))
        if not memory:
            raise
        return f"out of memory ({str(error) or type(error).__name__})", 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return f"{place}{error.strerror or error}", 2
    except KeyboardInterrupt:
        return STOPPED, 128 + signal.SIGINT


@contextmanager
def stopping_on_signals(stopped: list[int], *, program: bool) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt; a second one ends the process at once.

    The numbers of those that came are added to `stopped`. What the parent told the process to
    ignore, as nohup does, is ignored. Where the process is only this program, one that comes after
    the block ends it without a word, since all is done.
    """
    leaving = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        if leaving.is_set():  # all is done, and nobody is left to catch what would be raised
            return
        stopped.append(number)
        if len(stopped) > 1:  # files take their places by a rename, so none is left half
            os.write(2, f"lawful: {STOPPED}\n".encode())
            os._exit(128 + stopped[0])
        raise KeyboardInterrupt

    numbers = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    if threading.current_thread() is not threading.main_thread():
        before = {}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        try:
            leaving.set()
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if program else handler)


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if argv[0] == "--version":
        print(f"lawful {version('lawful')}")
        return 0
    if any("\0" in argument for argument in argv):
        raise InputError("arguments: expected none with a NUL character")
    if argv[0] not in COMMANDS:
        raise InputError(f"unknown command {argv[0]!r}; there are {', '.join(COMMANDS)}")
    try:
        options = importlib.import_module("lawful.cli.options")
        if argv[1:] in (["-h"], ["--help"]) and argv[0] in options.HELP:
            options.parse(options.HELP[argv[0]], argv[1:], argv[0])
        importlib.import_module(f"lawful.cli.{COMMANDS[argv[0]][0]}").run(argv[1:])
    except SystemExit as stop:  # help was printed
        return int(stop.code or 0)
    return 0


def _usage() -> str:
    lines = [f"  {name:<8}{about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join(
        ["usage: lawful COMMAND [OPTIONS]", "", *lines, "", "lawful COMMAND --help for its options"]
    )


def _show_warning(
    message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """A line for a warning of lawful's own, and another library's as Python shows it."""
    said = warnings.formatwarning(message, category, filename, lineno)
    own = issubclass(category, LawfulWarning)
    print(f"lawful: warning: {message}\n" if own else said, end="", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
