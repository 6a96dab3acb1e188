"""A run folder: `config.yaml`, `metrics.jsonl`, `checkpoints/`, and at the end the model.

`train` plays the study's game and keeps the folder; killed at any moment and started again with
`resume`, it ends with the same weights as a run that was never stopped.
"""

import json
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning_fabric import Fabric

from lawful.errors import InputError
from lawful.evaluation.report import Spread, law_report, relative_error
from lawful.games import checkpoint
from lawful.games.fit import fit
from lawful.games.state import State
from lawful.laws.law import law
from lawful.studies import registry
from lawful.studies.model import MANIFEST, Model, save_model
from lawful.studies.study import Study

LOG_EVERY, KEEP = 10, 2


@dataclass(frozen=True)
class Progress:
    """Where a run is after a step.

    Arguments:
        seconds: Training time, earlier sessions of a resumed run included.
        values: Loss terms of this step, by move and law.
    """

    step: int
    steps: int
    seconds: float
    values: dict[str, float]


def train(
    study: Study, folder: Path, fabric: Fabric, *, resume: bool = False
) -> Iterator[Progress]:
    """Train `study` in `folder`, yielding after every step.

    Raises:
        InputError: The folder holds another run, or cannot be written.
        NonFiniteError: A loss is not finite; the last checkpoint stays.
    """
    game = study.game()
    torch.manual_seed(study.training.seed)
    players = {"generator": study.network()}
    average = {"generator": study.training.average}
    state = State.create(players, game, fabric, seed=study.training.seed, average=average)
    seconds = _open(study, folder, state, fabric, resume)
    if (folder / MANIFEST).is_file():
        return
    metrics = _Metrics(folder / "metrics.jsonl", state.step, fabric.is_global_zero)
    started = time.perf_counter() - seconds
    steps = study.training.steps
    for _ in fit(game, state, fabric, steps):
        seconds = time.perf_counter() - started
        if state.step % LOG_EVERY == 0 or state.step == steps:
            metrics.write({"step": state.step, "seconds": round(seconds, 2), **state.values})
        if state.step % study.training.checkpoint == 0 or state.step == steps:
            metrics.flush()
            _save(study, folder, state, fabric, seconds)
        yield Progress(state.step, steps, seconds, dict(state.values))
    if fabric.is_global_zero:
        network = state.averages["generator"].module.eval()
        manifest = describe(study, state.step, seconds)
        manifest["quality"] = quality(Model(study, network, manifest))
        save_model(folder, network, manifest)
    fabric.barrier()


def describe(study: Study, steps: int, seconds: float) -> dict[str, Any]:
    """The manifest of a model, but for its quality and the digest of its weights."""
    presets = {name: preset.config() for name, preset in study.presets().items()}
    names = [name for name, config in presets.items() if config == study.config()]
    return {
        "study": registry.source_of(type(study)),
        "preset": names[0] if names else None,
        "config": study.config(),
        "seed": study.training.seed,
        "steps": steps,
        "training_seconds": round(seconds, 1),
        "versions": {
            "lawful": version("lawful"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def quality(model: Model, count: int = 32, seed: int = 20_000) -> dict[str, Any]:
    """Law report and, where the study has a reference, error of `count` drawn samples.

    The conditions are drawn uniformly from the study's quantities with a seed of their own.
    """
    samples = model.sample(count, seed=seed)
    reference = model.study.reference(samples.condition)
    laws = [law(entry) for entry in model.study.laws()]
    report = law_report(laws, samples.fields, samples.condition, reference=reference).as_dict()
    if samples.report.error is not None:
        report["estimated_relative_error"] = Spread.of(samples.report.error).as_dict()
    if reference is not None:
        error = relative_error(samples.fields, reference)
        report["relative_error"] = Spread.of(error).as_dict()
    return report


def checkpoints(folder: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return sorted((folder / "checkpoints").glob("[0-9]*.safetensors"))


def _open(study: Study, folder: Path, state: State, fabric: Fabric, resume: bool) -> float:
    """Start or take up the run; returns the seconds it has been trained."""
    config = folder / "config.yaml"
    asked = {"study": registry.source_of(type(study)), **study.config()}
    text = yaml.safe_dump(asked, sort_keys=False)
    exists = config.is_file()
    fabric.barrier()  # every process has looked before one of them writes
    if exists:
        if not resume:
            raise InputError(f"run {folder}: holds a run already; --resume it or choose another")
        _compare(config, yaml.safe_load(text))
    elif fabric.is_global_zero:
        try:
            checkpoint.write_text(config, text)
        except OSError as error:
            raise InputError(f"run {folder}: cannot be written ({error.strerror})") from None
    fabric.barrier()
    saved = checkpoints(folder)
    if not saved:
        return 0.0
    return float(state.restore(saved[-1], fabric)["seconds"])


def _compare(config: Path, asked: dict[str, Any]) -> None:
    """Refuse to go on with another configuration than the run's own."""
    try:
        found = dict(yaml.safe_load(config.read_text(encoding="utf-8")))
    except (yaml.YAMLError, TypeError, ValueError):
        raise InputError(f"{config}: not a configuration of lawful") from None
    for name in asked.keys() | found.keys():
        if asked.get(name) != found.get(name):
            raise InputError(
                f"{config}: the run's {name} is {found.get(name)}, asked for {asked.get(name)}"
            )


def _save(study: Study, folder: Path, state: State, fabric: Fabric, seconds: float) -> None:
    path = folder / "checkpoints" / f"{state.step:08d}.safetensors"
    state.save(path, fabric, {"study": study.config(), "seconds": seconds})
    if fabric.is_global_zero:
        for old in checkpoints(folder)[:-KEEP]:
            old.unlink()


class _Metrics:
    """`metrics.jsonl`; what an interrupted run wrote after its last checkpoint is dropped."""

    def __init__(self, path: Path, step: int, active: bool) -> None:
        self.path, self.active, self.lines = path, active, list[str]()
        if active and path.is_file():
            rows = path.read_text(encoding="utf-8").splitlines()
            kept = [row for row in rows if row.endswith("}") and json.loads(row)["step"] <= step]
            checkpoint.write_text(path, "".join(row + "\n" for row in kept))

    def write(self, row: dict[str, float]) -> None:
        self.lines.append(json.dumps(row))
        if len(self.lines) >= LOG_EVERY:
            self.flush()

    def flush(self) -> None:
        if self.active and self.lines:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(line + "\n" for line in self.lines))
        self.lines.clear()
