"""A run folder: `config.yaml`, `metrics.jsonl`, `checkpoints/`, and at the end the model.

`train` plays the study's game and keeps the folder; killed at any moment and started again with
`resume`, it ends with the same weights as a run that was never stopped.
"""

import json
import platform
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning_fabric import Fabric
from torch import Tensor, nn

from lawful import files, registry
from lawful.catalogue import MANIFEST, WEIGHTS, shipped
from lawful.errors import InputError, LawfulWarning
from lawful.metrics.report import Spread, Summary, law_report, relative_error
from lawful.model import Model, digest, read_manifest, save_model
from lawful.reading import parse_json, parse_yaml, read_bytes, read_text, reason
from lawful.study import Study, all_laws, headline
from lawful.training import Game, State, fit
from lawful.training.game import unwrapped
from lawful.typed import shown, typed
from lawful.weights import restored

LOG_EVERY, MONITOR_EVERY, KEEP = 10, 100, 2
CONFIG, METRICS, SNAPSHOTS, SNAPSHOT_COUNT = "config.yaml", "metrics.jsonl", "snapshots", 10
SHOWN = 8


@dataclass(frozen=True)
class Progress:
    """Where a run is after a step.

    Arguments:
        seconds: Training time, the time before a resume included.
        values: Loss terms of this step, by move and law.
        violations: Latest mean violation of every law by the averaged generator.
    """

    step: int
    steps: int
    seconds: float
    values: dict[str, float]
    violations: dict[str, float]


def train(
    study: Study,
    folder: Path,
    fabric: Fabric,
    *,
    resume: bool = False,
    init: str | Path | None = None,
) -> Iterator[Progress]:
    """Train `study` in `folder`, yielding after every step.

    Arguments:
        resume: Go on with the run that is there; a finished one where `study` has more steps.
        init: A run or a shipped model whose weights the networks start from.

    Raises:
        InputError: The folder holds another run, or cannot be written.
        NonFiniteError: A loss is not finite; the last checkpoint stays.
    """
    with registry.own_faults(type(study)):
        registry.check_trainable(study)
        begun = _begun(study, folder, fabric, resume, init)
        if begun is None or not _finished(study, folder):
            game, state, seconds = _ready(study, folder, fabric, init, begun)
            yield from _trained(study, folder, fabric, game, state, seconds)


def _trained(
    study: Study, folder: Path, fabric: Fabric, game: Game, state: State, seconds: float
) -> Iterator[Progress]:
    """The steps that are left, then the model."""
    steps, leads = study.training.steps, fabric.is_global_zero
    network = state.averages["generator"].module.eval()
    model, share = Model(study, network, {}), snapshot_share(steps)
    violations: dict[str, float] = {}
    started = time.perf_counter() - seconds
    if leads and not state.step:
        _keep_snapshot(model, folder, 0, fabric)
    first = state.step + 1
    for _ in fit(game, state, fabric, steps):
        if state.step == first:
            state.rehearse()  # optimizers have their state only now
        seconds = time.perf_counter() - started
        last = state.step == steps or state.over
        fresh = state.step % MONITOR_EVERY == 0 or last
        if leads and (fresh or not violations):
            violations = _violations(model, fabric)
        keeping = state.step % study.training.checkpoint == 0 or last
        if leads and (state.step % LOG_EVERY == 0 or keeping):
            row = {"step": state.step, "seconds": round(seconds, 2), **state.values}
            row |= {f"violation/{k}": v for k, v in violations.items()} if fresh else {}
            if keeping:
                paused = time.perf_counter()
                with _aside(fabric):
                    row |= {f"watch/{k}": v for k, v in study.watch(network).items()}
                started += time.perf_counter() - paused  # watching is no training
            with (folder / METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        if leads and share and state.step % share == 0:
            _keep_snapshot(model, folder, state.step, fabric)
        if keeping:
            _save(study, folder, state, fabric, seconds)
        yield Progress(state.step, steps, seconds, dict(state.values), violations)
    if leads:
        manifest = describe(study, state.step, seconds) | _recorded_init(folder)
        manifest["quality"] = quality(Model(study, network.cpu(), manifest))
        manifest["headline"] = headline(study, manifest["quality"])
        save_model(folder, network, manifest)
    fabric.barrier()


def _ready(
    study: Study, folder: Path, fabric: Fabric, init: str | Path | None, begun: int | None
) -> tuple[Game, State, float]:
    """The game, the state to go on from, and the seconds it has been trained."""
    game, steps, seed = study.game(), study.training.steps, study.training.seed
    torch.manual_seed(seed)
    average = {"generator": study.training.average}
    state = State.create(study.players(), game, fabric, seed=seed, average=average)
    _rehearse(study, state, fabric)
    if init is not None:
        _start_from(init, state)
    if steps != begun:
        _begin(study, folder, fabric, init)
    seconds = 0.0
    if saved := checkpoints(folder):
        found = state.restore(saved[-1], fabric)
        origin, seconds = found.get("origin"), typed(found.get("seconds"), float, f"run {folder}")
        if origin != dict(study.origin()):
            now = study.origin()
            raise InputError(f"run {folder}: was trained on {origin}; to be had now: {now}")
    _warn_of_rates(game, state.step, begun or steps, steps)
    _rewind(folder, state.step, fabric)
    return game, state, float(seconds)


def _aside(fabric: Fabric) -> AbstractContextManager[None]:
    """What is looked at on the way changes no random number of the training."""
    return torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else [])


def _violations(model: Model, fabric: Fabric) -> dict[str, float]:
    """Mean violation of every law by the averaged generator, on a few conditions."""
    with _aside(fabric):
        lines = model.watched(SHOWN, seed=30_000).report.lines
    return {line.name: float(line.violation.mean()) for line in lines}


def _keep_snapshot(model: Model, folder: Path, step: int, fabric: Fabric) -> None:
    """Keep a few samples, of the same conditions every time, to show the training by."""
    with _aside(fabric):
        fields = model.watched(SHOWN, seed=30_000).fields
    files.save(folder / SNAPSHOTS / f"{step:08d}.safetensors", {"fields": fields.half()})


def snapshot_share(steps: int) -> int:
    """Steps between snapshots."""
    return steps // SNAPSHOT_COUNT


def snapshots(folder: Path) -> dict[int, Tensor]:
    """Samples kept during a run, by step: the averaged generator on the same few conditions."""
    return {
        int(path.stem): typed(files.load(path).get("fields"), Tensor, str(path)).float()
        for path in _numbered(folder / SNAPSHOTS)
    }


def checkpoints(folder: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    return _numbered(folder / "checkpoints")


def _numbered(folder: Path) -> list[Path]:
    """The files whose names are steps, in order."""
    return sorted(path for path in folder.glob("*.safetensors") if path.stem.isdecimal())


def history(folder: Path) -> list[dict[str, float]]:
    """The rows of `metrics.jsonl`: step, seconds, loss terms; now and then violations, and what
    the study watches. Lines that are no rows, such as an interrupted write leaves, are left out."""
    path, rows = folder / METRICS, []
    text = read_bytes(path).decode("utf-8", "replace") if path.is_file() else ""
    for line in text.splitlines():
        try:
            row = parse_json(line, "metrics")
        except InputError:
            continue
        whole = isinstance(row, dict) and {"step", "seconds"} <= row.keys()
        if whole and all(type(v) in (int, float) for v in row.values()):
            rows.append(row)
    return rows


def describe(study: Study, steps: int, seconds: float) -> dict[str, Any]:
    """The manifest of a model, but for its quality and the digest of its weights."""
    config, origin = study.config(), dict(study.origin())
    names = [name for name, preset in study.presets().items() if preset.config() == config]
    return {
        **registry.source_of(type(study)),
        "preset": names[0] if names else None,
        "config": config,
        "seed": study.training.seed,
        **({"data": origin} if origin else {}),
        "steps": steps,
        "training_seconds": round(seconds, 1),
        "versions": {
            "lawful": version("lawful"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }


def quality(model: Model, count: int = 48, seed: int = 20_000) -> dict[str, Any]:
    """Law report and, where the study has a reference, error of `count` drawn samples.

    The conditions are drawn from the study's quantities with a seed of their own.
    """
    samples = model.sample(count, seed=seed)
    reference = model.study.reference(samples.condition)
    laws = all_laws(model.study, model.network)
    lines = law_report(laws, samples.fields, samples.condition, reference=reference).lines
    measured = Summary.of([replace(samples.report, lines=lines)]).as_dict()
    if reference is not None:
        measured["relative_error"] = Spread.of(relative_error(samples.fields, reference)).as_dict()
    return measured | dict(model.study.measure(model.network))


def holds_run(folder: Path) -> bool:
    """Whether a run has begun in `folder`."""
    return (folder / CONFIG).is_file() or (folder / MANIFEST).is_file()


def _begun(
    study: Study, folder: Path, fabric: Fabric, resume: bool, init: str | Path | None
) -> int | None:
    """The steps that the run in the folder was begun for; None where there is none yet."""
    exists = holds_run(folder)
    fabric.barrier()  # every process has looked before one of them writes
    if exists and not resume:
        raise InputError(f"run {folder}: holds a run already; --resume it or choose another")
    if not exists:
        return None
    begun = check_same(study, folder, longer=True)
    recorded, asked = _recorded_init(folder), {} if init is None else _origin_of(init)
    if asked != recorded and (asked or not checkpoints(folder)):
        raise InputError(f"run {folder}: was begun with {recorded or 'no --init'}")
    longer = study.training.steps > begun
    if longer and (folder / MANIFEST).is_file() and not checkpoints(folder):
        raise InputError(f"run {folder}: has no checkpoint to go on from; --init another run by it")
    return begun


def _finished(study: Study, folder: Path) -> bool:
    """Whether the folder holds a model that was trained for as many steps."""
    if not (folder / MANIFEST).is_file():
        return False
    manifest = read_manifest(read_text(folder / MANIFEST), folder / MANIFEST)
    trained = type(study).from_config(manifest["config"]).training.steps
    return study.training.steps <= trained


def _warn_of_rates(game: Game, done: int, budget: int, steps: int) -> None:
    """Say where a run that is made longer is not the run that would have been that long."""
    moves = [(part, part.optimizer.rate) for move in game.moves for part in move.parts]
    if any(
        move.plays(k, budget) != move.plays(k, steps)
        or (move.plays(k, steps) and rate(k, budget) != rate(k, steps))
        for move, rate in moves
        for k in range(done)
    ):
        said = f"the first {done} steps had the learning rates of a run of {budget} steps"
        warnings.warn(f"{said}; of {steps} at once they would differ", LawfulWarning, stacklevel=3)


def _start_from(init: str | Path, state: State) -> None:
    """Give the networks the weights of another run: the generator those of its model, the other
    players those of its last checkpoint, if it has one. Nothing else is taken over.

    Raises:
        InputError: There is no such run, or its networks are others.
    """
    weights = _weights_of(init)
    saved = checkpoints(weights.parent)
    players = dict(files.load(saved[-1])["players"]) if saved else {}
    players["generator"] = files.load(weights, foreign=True)
    try:
        for name, player in state.players.items():
            if name in players:
                unwrapped(player).load_state_dict(players[name])
        state.averages["generator"].module.load_state_dict(players["generator"])
    except (RuntimeError, TypeError) as error:
        raise InputError(f"init {init}: its networks are others ({reason(error)})") from None


def _weights_of(init: str | Path) -> Path:
    weights = shipped().get(str(init), Path(init)) / WEIGHTS
    if not weights.is_file():
        raise InputError(f"init {init}: expected a finished run or a shipped model")
    return weights


def _origin_of(init: str | Path) -> dict[str, Any]:
    """What is recorded of the run that another starts from."""
    weights = _weights_of(init)
    return {"init": {"run": weights.parent.name, "sha256": digest(weights)}}


def _recorded_init(folder: Path) -> dict[str, Any]:
    found = _read_config(folder / CONFIG).get("init")
    return {"init": found} if isinstance(found, Mapping) else {}


def _rehearse(study: Study, state: State, fabric: Fabric) -> None:
    """Refuse before the first step what could not be saved, or would be another when loaded.

    Raises:
        InputError: The state cannot be saved, or a fresh network with the saved weights makes
            other samples: it has values, such as random ones, that are not in its `state_dict`.
    """
    state.rehearse()
    if not state.repeats():
        said = (
            f"study {study.name!r}: its batches depend on more than is saved, such as an iterator "
            "that it keeps; a resumed run is not exactly the uninterrupted one. Give what draws "
            "them state_dict and load_state_dict"
        )
        warnings.warn(said, LawfulWarning, stacklevel=3)
    network = state.averages["generator"].module
    fresh = restored(study.network(), network.state_dict(), "network").to(fabric.device)

    def few(candidate: nn.Module) -> Tensor:
        torch.manual_seed(0)
        return Model(study, candidate.eval(), {}).sample(2, seed=40_000).fields

    with _aside(fabric):
        first, again, other = few(network), few(network), few(fresh)
    if torch.equal(first, again) and not torch.equal(first, other):
        raise InputError(
            f"study {study.name!r}: a fresh network with the saved weights makes other samples; "
            "register what it holds as parameters or persistent buffers"
        )


def _begin(study: Study, folder: Path, fabric: Fabric, init: str | Path | None) -> None:
    """Write the configuration, and a copy of the file of a user's own study."""
    refusal = None
    if fabric.is_global_zero:
        registry.warn_of_reading(study, folder)
        try:
            if (text := registry.text_of(type(study))) is not None:
                files.write_all({folder / registry.COPY: text})
                registry.remember(text)
            origin = _recorded_init(folder) if init is None else _origin_of(init)
            files.write_all({folder / CONFIG: _configuration(study, origin).encode()})
        except OSError as error:
            refusal = str(error.strerror)
    if refusal := fabric.broadcast(refusal):
        raise InputError(f"run {folder}: cannot be written ({refusal})")


def check_same(study: Study, folder: Path, *, longer: bool = False) -> int:
    """Refuse to go on with another configuration than the run's own, defaults filled in.

    Arguments:
        longer: Take more steps for the same.

    Returns:
        The steps that the run was begun for.

    Raises:
        InputError: Names the entries that differ.
    """
    config, kind = folder / CONFIG, type(study)
    asked, found = yaml.safe_load(_configuration(study)), _read_config(config)
    (asked_study, asked_source), (study_found, source_found) = (
        (entry.pop("study", None), entry.pop("source", None)) for entry in (asked, found)
    )
    found.pop("init", None)
    if source_found is None and study_found != asked_study:
        raise InputError(
            f"{config}: the run's study is {shown(study_found)}, asked for {asked_study}"
        )
    if source_found != asked_source:
        copy = folder / registry.COPY
        instead = f"; the run has a copy: {copy}" if copy.is_file() else ""
        raise InputError(f"{config}: its study was edited since, or is another{instead}")
    found = yaml.safe_load(yaml.safe_dump(kind.from_config(found).config()))
    begun = int(found["training"]["steps"])
    if longer and study.training.steps > begun:
        found["training"]["steps"] = study.training.steps
    of_run, now = _flat(found), _flat(asked)
    if differing := [
        f"{name[:60]}: the run's is {shown(of_run.get(name))}, asked for {shown(now.get(name))}"
        for name in of_run | now
        if of_run.get(name) != now.get(name)
    ]:
        raise InputError(f"{config}: {'; '.join(differing)}")
    return begun


def _flat(config: Mapping[str, Any], place: str = "") -> dict[str, Any]:
    """The entries of entries under their whole names, such as `training.steps`."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        deeper = isinstance(value, Mapping) and value
        flat |= _flat(value, f"{place}{name}.") if deeper else {f"{place}{name}": value}
    return flat


def _read_config(config: Path) -> dict[str, Any]:
    if not config.is_file():
        return {}
    return dict(typed(parse_yaml(read_text(config), config), dict[str, Any], str(config)))


def _configuration(study: Study, init: Mapping[str, Any] | None = None) -> str:
    asked = {**registry.source_of(type(study)), **(init or {}), **study.config()}
    return yaml.safe_dump(asked, sort_keys=False)


def _save(study: Study, folder: Path, state: State, fabric: Fabric, seconds: float) -> None:
    path = folder / "checkpoints" / f"{state.step:08d}.safetensors"
    state.save(path, fabric, {"seconds": seconds, "origin": dict(study.origin())})
    if fabric.is_global_zero:
        for old in checkpoints(folder)[:-KEEP]:
            old.unlink()


def _rewind(folder: Path, step: int, fabric: Fabric) -> None:
    """Drop the rows that an interrupted run wrote after its last checkpoint."""
    path = folder / METRICS
    if path.exists() and not path.is_file():  # a pipe would be waited for without an end
        raise InputError(f"{path}: expected a file")
    if fabric.is_global_zero and path.is_file():
        kept = [json.dumps(row) + "\n" for row in history(folder) if row["step"] <= step]
        files.write_all({path: "".join(kept).encode()})
