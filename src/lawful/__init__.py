"""Generative models that obey what is already known."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from lawful.errors import InputError, LawfulWarning, NonFiniteError, StabilityError
    from lawful.laws import AffineLaw, CorrectableLaw, Law, law
    from lawful.model import Model, Samples, load
    from lawful.study import Axis, Quantity, Study, Training

__all__ = [
    "AffineLaw",
    "Axis",
    "CorrectableLaw",
    "InputError",
    "Law",
    "LawfulWarning",
    "Model",
    "NonFiniteError",
    "Quantity",
    "Samples",
    "StabilityError",
    "Study",
    "Training",
    "law",
    "load",
    "train",
]


def __getattr__(name: str) -> Any:
    """Imported when first used, so that commands hear an interrupt and show help at once."""
    for place in ("errors", "laws", "study", "model") if name in __all__ else ():
        if found := getattr(import_module(f"lawful.{place}"), name, None):
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def train(
    study: Study,
    out: str | Path,
    *,
    resume: bool = False,
    init: str | Path | None = None,
    fabric: Fabric | None = None,
    quiet: bool = False,
) -> Model:
    """Train a study in a run folder and return its model: in Python what `lawful train` does.

    Arguments:
        study: What to train, with its configuration.
        out: The run's folder.
        resume: Go on with the run in `out` where it was interrupted; a finished run goes on where
            `study.training.steps` is more than it was trained for.
        init: A finished run or a shipped model whose weights the networks start from; optimizers
            and random numbers start anew.
        fabric: A launched Fabric, for other devices than one processor.
        quiet: Show no progress.

    Raises:
        InputError: What is given is no study, the folder holds another run, the state could not be
            saved, or the study cannot be trained.
        NonFiniteError: A loss is not finite; the last checkpoint stays.
    """
    from lawful.cli.train import train_with_progress
    from lawful.errors import InputError
    from lawful.model import load
    from lawful.study import Study
    from lawful.typed import shown, typed

    if isinstance(study, type):
        raise InputError(f"study: expected a study such as {study.__name__}(), got the class")
    if not isinstance(study, Study):
        raise InputError(f"study: expected an instance of a Study class, got {shown(study)}")
    typed(out, str | Path, "out")
    train_with_progress(study, Path(out), resume=resume, init=init, fabric=fabric, quiet=quiet)
    return load(out, study=type(study))
