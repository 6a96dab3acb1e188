"""How far a command is: a bar where there is a terminal, else a line now and then."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from math import inf
from time import perf_counter
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal


@contextmanager
def progress(
    total: int, *, plain: bool = True, quiet: bool = False
) -> Iterator[Callable[..., None]]:
    """Yields a function `show(done, text="")` that shows the rate and the time left.

    Arguments:
        plain: Print lines where there is no terminal.
        quiet: Show nothing at all.
    """
    console = Console(file=sys.stderr, quiet=quiet, markup=False, highlight=False)
    rate = TextColumn("{task.description}/s")
    columns = BarColumn(30), MofNCompleteColumn(), rate, TimeRemainingColumn()
    bar = Progress(*columns, console=console, speed_estimate_period=300)
    bar.add_task("0.0", total=total)
    (task,) = bar.tasks
    terminal = console.is_terminal
    shown: Any = Live(bar, console=console) if terminal else nullcontext()
    last = -inf

    def show(done: int, text: str = "") -> None:
        nonlocal last
        bar.update(task.id, completed=done)
        task.description = f"{task.finished_speed or task.speed or 0:.1f}"
        if terminal:
            shown.update(Group(bar, Text(text, style="dim")))
        elif plain and (done >= total or perf_counter() >= last + PLAIN_EVERY):
            last, left = perf_counter(), task.time_remaining
            when = "starting" if left is None else f"{left:.0f} s left"
            line = f"{done}/{total}  {task.description}/s  {when}  {text}"
            console.print(line.rstrip(), soft_wrap=True)

    with shown:
        yield show
