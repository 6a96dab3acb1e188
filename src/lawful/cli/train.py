"""`lawful train`, and training with a progress display for every command that trains."""

import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from lightning_fabric import Fabric
from torch import distributed

from lawful import registry
from lawful import run as runs
from lawful.cli.options import Devices, TrainOptions, configured, first_argument
from lawful.cli.progress import progress
from lawful.errors import InputError
from lawful.study import Study


def run(arguments: list[str]) -> None:
    """`lawful train STUDY`."""
    kind = registry.find(first_argument(TrainOptions, arguments, "train", "study"))
    preset, options = configured(TrainOptions, arguments, "train", kind)
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


def launch(devices: Devices) -> Fabric:
    """A launched Fabric.

    Raises:
        InputError: There is no such device or strategy, or the package it needs.
    """
    try:
        fabric = Fabric(**vars(devices))
        fabric.launch()
    except Exception as error:  # noqa: BLE001  each back end has errors of its own
        raise InputError(f"--device: {type(error).__name__}: {error}") from None
    return fabric


@contextmanager
def launched(devices: Devices) -> Iterator[Fabric]:
    """A launched Fabric, whose processes part at the end."""
    fabric = launch(devices)
    try:
        yield fabric
    except BaseException as error:
        # A replica that outlives its process group can wait for gloo's threads for ever.
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()  # its threads must end before the interpreter


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
    """Train to the end, showing step rate, time left and the violation of every law.

    Arguments:
        track: Write TensorBoard files into the run's folder.
    """
    writer = _summary_writer() if track else None
    fabric = fabric or launch(Devices())
    steps = runs.train(study, folder, fabric, resume=resume, init=init)
    if not fabric.is_global_zero:
        deque(steps, maxlen=0)
        return
    tracked: Any = None
    with progress(study.training.steps, quiet=quiet) as show, ExitStack() as stack:
        for step in steps:
            figures = (f"{name} {value:.2g}" for name, value in step.violations.items())
            show(step.step, f"violations: {'  '.join(figures)}")
            if writer is not None:  # opened by the first step: the folder is known to be usable
                tracked = tracked or stack.enter_context(writer(str(folder / "tensorboard")))
                violations = {f"violation/{name}": v for name, v in step.violations.items()}
                for name, value in {**step.values, **violations}.items():
                    tracked.add_scalar(name, value, step.step)


def _summary_writer() -> type[Any]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("--track: needs TensorBoard; pip install 'lawful[track]'") from None
    return SummaryWriter
