"""Generative models that obey what is already known."""

from pathlib import Path

from lightning_fabric import Fabric

from lawful.errors import InputError, LawfulWarning, NonFiniteError, StabilityError
from lawful.laws.law import AffineLaw, CorrectableLaw, Law, law
from lawful.studies.model import Model, Samples, load
from lawful.studies.study import Quantity, Study, Training

__all__ = [
    "AffineLaw",
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
        InputError: The folder holds another run, the state could not be saved, or the study cannot
            be trained.
        NonFiniteError: A loss is not finite; the last checkpoint stays.
    """
    from lawful.app.training import train_with_progress

    train_with_progress(study, Path(out), resume=resume, init=init, fabric=fabric, quiet=quiet)
    return load(out, study=type(study))
