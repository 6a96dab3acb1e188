"""`lawful train`, and the progress display of every command that trains."""

import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
import yaml
from lightning_fabric import Fabric
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from torch import distributed

from lawful import registry
from lawful import run as runs
from lawful.cli.options import own_options, parse, value_of
from lawful.errors import InputError
from lawful.study import Study, spelled
from lawful.typed import Within, check_fields

PLAIN_EVERY = 10.0  # seconds between lines where there is no terminal


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

    def fabric(self) -> Fabric:
        """A launched Fabric.

        Raises:
            InputError: There is no such device or strategy, or the package it needs.
        """
        try:
            fabric = Fabric(
                accelerator=self.accelerator,
                devices=self.devices,
                strategy=self.strategy,
                precision=self.precision,
            )
            fabric.launch()
        except Exception as error:  # noqa: BLE001  each back end has errors of its own
            raise InputError(f"--device: {type(error).__name__}: {error}") from None
        return fabric


@dataclass(frozen=True)
class TrainOptions:
    """Train a study with a progress bar; --resume goes on where a run was interrupted."""

    study: Annotated[tyro.conf.Positional[str], tyro.conf.arg(help="a name, or a .py file")]
    preset: Annotated[str | None, tyro.conf.arg(help="configuration to start from")] = None
    out: Annotated[Path | None, tyro.conf.arg(help="run folder [runs/STUDY-PRESET]")] = None
    resume: Annotated[
        bool, tyro.conf.arg(help="go on with the run in --out, or with more steps if finished")
    ] = False
    init: Annotated[str | None, tyro.conf.arg(help="run or model whose weights to start from")] = (
        None
    )
    dry_run: Annotated[bool, tyro.conf.arg(help="print the configuration and stop")] = False
    track: Annotated[bool, tyro.conf.arg(help="TensorBoard files in the run folder")] = False
    device: Devices = Devices()


def run(arguments: list[str]) -> None:
    """`lawful train STUDY`."""
    kind = registry.find(study_named(TrainOptions, arguments, "lawful train"))
    preset = choose_preset(kind, arguments)
    options = parse_overrides(TrainOptions, arguments, "lawful train", kind.presets()[preset])
    if options.dry_run:
        print(yaml.safe_dump({"study": arguments[0], **options.config.config()}, sort_keys=False))
        return
    folder = options.out or Path("runs") / f"{kind.name}-{preset}"
    with launched(options.device) as fabric:
        train_with_progress(
            options.config, folder, resume=options.resume, init=options.init, fabric=fabric,
            track=options.track,
        )  # fmt: skip
    if fabric.is_global_zero:
        print(f"model: {folder}")


def study_named(options: type, arguments: list[str], program: str) -> str:
    """The study, which comes first: what other options there are depends on it."""
    if not arguments or arguments[0].startswith("-"):
        parse(options, arguments, program)
        raise InputError(f"{program}: the study comes first: {program} STUDY [OPTIONS]")
    return arguments[0]


def parse_overrides(options: type, arguments: list[str], program: str, preset: Study) -> Any:
    """Parse `options` and, into their `config`, an option for every field of `preset`: `--NAME`,
    or `--config.NAME` for all where one has the name of an option of the command."""
    own = {spelled(entry.name) for entry in fields(preset)} & own_options(options)
    prefix = "config" if own else ""
    overrides: Any = Annotated[type(preset), tyro.conf.arg(name=prefix)]
    complete = make_dataclass(
        options.__name__,
        [("config", overrides, field(default=preset))],
        bases=(options,),
        frozen=True,
    )
    complete.__doc__ = options.__doc__
    return parse(complete, arguments, program)


@contextmanager
def launched(devices: Devices) -> Iterator[Fabric]:
    """A launched Fabric, whose processes part at the end."""
    fabric = devices.fabric()
    try:
        yield fabric
    except BaseException as error:
        # A replica that outlives its process group can wait for gloo's threads for ever.
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()  # its threads must end before the interpreter


def choose_preset(kind: type[Study], arguments: list[str], default: str | None = None) -> str:
    """The preset named after `--preset` among the arguments, else `default`, else the first."""
    presets = kind.presets()
    asked = value_of("--preset", arguments)
    name = (default or next(iter(presets))) if asked is None else asked
    if name not in presets:
        raise InputError(f"preset {name!r}: expected one of {', '.join(presets)}")
    return name


def train_with_progress(
    study: Study,
    folder: Path,
    *,
    resume: bool = False,
    init: str | Path | None = None,
    fabric: Fabric | None = None,
    track: bool = False,
    quiet: bool = False,
) -> None:
    """Train to the end, showing step rate, time left and the violation of every law."""
    fabric = fabric or Devices().fabric()
    console = Console(file=sys.stderr, quiet=quiet, markup=False)
    steps = runs.train(study, folder, fabric, resume=resume, init=init)
    if not fabric.is_global_zero:
        for _ in steps:
            pass
        return
    with _display(console, study.training.steps) as show, _tracker(folder, track) as record:
        for progress in steps:
            show(progress)
            record(progress)


def _figures(progress: runs.Progress) -> str:
    return "  ".join(f"{name} {value:.2g}" for name, value in progress.violations.items())


@contextmanager
def _display(console: Console, steps: int) -> Iterator[Any]:
    if not console.is_terminal:
        lines = PlainLines(console)
        yield lambda progress: lines(progress.step, progress.steps, _figures(progress))
        return
    bar = Progress(
        BarColumn(30),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f}/s"),
        TimeRemainingColumn(),
        console=console,
    )
    task = bar.add_task("", total=steps, rate=0.0)
    started: list[float] = []

    def show(progress: runs.Progress) -> None:
        started[:] = started or [time.perf_counter(), float(progress.step - 1)]
        elapsed = max(time.perf_counter() - started[0], 1e-9)
        bar.update(task, completed=progress.step, rate=(progress.step - started[1]) / elapsed)
        live.update(Group(bar, Text(f"violations: {_figures(progress)}", style="dim")))

    with Live(bar, console=console) as live:
        yield show


class PlainLines:
    """A line now and then, where no bar can be drawn."""

    def __init__(self, console: Console) -> None:
        self.console, self.last = console, time.perf_counter() - PLAIN_EVERY
        self.first: tuple[float, int] | None = None

    def __call__(self, done: int, total: int, text: str = "") -> None:
        now = time.perf_counter()
        self.first = self.first or (now, done)
        if now - self.last < PLAIN_EVERY and done < total:
            return
        self.last = now
        rate = (done - self.first[1]) / max(now - self.first[0], 1e-9)
        left = f"{(total - done) / rate:.0f} s left" if rate else "starting"
        self.console.print(
            f"{done}/{total}  {rate:.1f}/s  {left}  {text}".rstrip(),
            highlight=False,
            soft_wrap=True,
        )


@contextmanager
def _tracker(folder: Path, active: bool) -> Iterator[Any]:
    if not active:
        yield lambda progress: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("--track: needs TensorBoard; pip install 'lawful[track]'") from None
    writers: list[Any] = []  # opened by the first step, when the folder is known to be usable

    def record(progress: runs.Progress) -> None:
        if not writers:
            writers.append(SummaryWriter(str(folder / "tensorboard")))
        violations = {f"violation/{name}": v for name, v in progress.violations.items()}
        for name, value in {**progress.values, **violations}.items():
            writers[0].add_scalar(name, value, progress.step)

    try:
        yield record
    finally:
        for writer in writers:
            writer.close()
