"""What the tables of rotated digits and of tissue share: rows, curves, equal steps, equal time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from lawful.errors import InputError
from lawful.studies.model import Model
from lawful.studies.run import history
from lawful.studies.symmetric import SymmetricStudy, generate

PLAIN: Mapping[str, Any] = {"generator": "plain", "pose": "none", "critic": "plain"}
RANDOM: Mapping[str, Any] = {"generator": "plain", "pose": "output"}
FULL: Mapping[str, Any] = {}


@dataclass(frozen=True)
class Design:
    """Players to be trained: changes of the full design's configuration.

    Arguments:
        name: Of its runs.
        full: In the table's words, sampled with random elements of the group.
        incomplete: The same weights sampled without; None where that is no row. With an exactly
            invariant critic both have the same training, so one run serves two rows.
        seeds: Independent runs.
        pace: Steps, as a multiple of the preset's: a plain network does more in the same time.
    """

    name: str
    full: str
    changes: Mapping[str, Any]
    incomplete: str | None = None
    seeds: int = 1
    pace: float = 1.0

    def runs(self, study: SymmetricStudy, prefix: str) -> dict[str, SymmetricStudy]:
        """Configurations by the name of the run."""
        training = study.training
        steps = round(self.pace * training.steps)
        return {
            f"{prefix}-{self.name}-{seed}": replace(
                study, training=replace(training, steps=steps, seed=training.seed + seed),
                **self.changes,
            )
            for seed in range(self.seeds)
        }  # fmt: skip


def design_of(name: str, designs: Sequence[Design]) -> Design:
    """The design of a run's name.

    Raises:
        InputError: It is none of them.
    """
    bare = name.rpartition("-")[0]
    found = [design for design in designs if bare.endswith(f"-{design.name}")]
    if found:
        return max(found, key=lambda design: len(design.name))  # a name may end in another's
    raise InputError(f"run {name}: of none of the designs {', '.join(d.name for d in designs)}")


def symmetric(study: object) -> SymmetricStudy:
    """The study, if it is one of these.

    Raises:
        InputError: It is another.
    """
    if not isinstance(study, SymmetricStudy):
        raise InputError(f"table: expected a study of symmetric players, got {study!r:.60}")
    return study


@dataclass(frozen=True)
class Curve:
    """What a run watched at its checkpoints."""

    steps: list[int]
    seconds: list[float]
    values: list[float]

    def at_step(self, step: float) -> float:
        """The value of the last checkpoint up to a step; NaN before the first."""
        return self._last(self.steps, step)

    def at_time(self, seconds: float) -> float:
        """The value of the last checkpoint up to a training time; NaN before the first."""
        return self._last(self.seconds, seconds)

    def _last(self, places: Sequence[float], limit: float) -> float:
        found = [v for p, v in zip(places, self.values, strict=True) if p <= limit]
        return found[-1] if found else float("nan")


def curve(model: Model, name: str) -> Curve:
    """A watched figure of a model's run; empty for a model without a run folder."""
    rows = history(model.folder) if model.folder is not None else []
    kept = [row for row in rows if f"watch/{name}" in row]
    return Curve(
        [int(row["step"]) for row in kept],
        [row["seconds"] for row in kept],
        [row[f"watch/{name}"] for row in kept],
    )


@dataclass(frozen=True)
class Match:
    """The full design against the plain pair, seed by seed, by a watched figure.

    Arguments:
        ours: Of the full design at its end, a seed an entry.
        theirs: Of the plain pair at as many steps.
        in_time: Of the plain pair after as much training time.
        best: Of the plain pair at its best checkpoint.
    """

    ours: list[float]
    theirs: list[float]
    in_time: list[float]
    best: list[float]

    @property
    def ratio(self) -> float:
        """Of the medians, at equal steps."""
        return median(self.ours) / median(self.theirs)


def match(ours: Sequence[Curve], theirs: Sequence[Curve]) -> Match:
    """Compare runs of two designs; plain runs go on for longer."""
    pairs = list(zip(ours, theirs, strict=False))
    return Match(
        ours=[a.values[-1] for a, _ in pairs],
        theirs=[b.at_step(a.steps[-1]) for a, b in pairs],
        in_time=[b.at_time(a.seconds[-1]) for a, b in pairs],
        best=[min(b.values) for _, b in pairs],
    )


def match_text(found: Match, figure: str, count: int, steps: int) -> str:
    """The comparison in a paragraph."""
    spread = lambda values: f"{median(values):.3g} ({min(values):.3g}–{max(values):.3g})"  # noqa: E731
    return (
        f"Full design against the plain pair, {figure} of the averaged generator, median of "
        f"{count} seeds (least–most): {spread(found.ours)} after {steps:,} steps; the plain pair "
        f"{spread(found.theirs)} at the same steps (ratio {found.ratio:.2f}), "
        f"{spread(found.in_time)} after the same time, {spread(found.best)} at its best checkpoint."
    )


def curves_figure(curves: Mapping[str, Sequence[Curve]], figure: str) -> Figure:
    """A watched figure against steps and against minutes; a line a run, a colour a design."""
    picture = Figure(figsize=(8, 3.4), layout="constrained")
    axes = picture.subplots(1, 2, sharey=True)
    for number, (name, runs) in enumerate(curves.items()):
        for k, run in enumerate(runs):
            label = name if k == 0 else None
            colour = f"C{number % 10}"
            axes[0].plot(run.steps, run.values, color=colour, lw=1, label=label)
            axes[1].plot([s / 60 for s in run.seconds], run.values, color=colour, lw=1)
    for axis, title in zip(axes, ("steps", "minutes"), strict=True):
        axis.set_xlabel(title)
        axis.set_yscale("log")
    axes[0].set_ylabel(figure)
    axes[0].legend(fontsize=6)
    return picture


def sheet(images: Tensor, columns: int) -> Tensor:
    """Images `(n, channel, h, w)` as one `(h', w', channel)`, row by row; what is over is left."""
    rows = len(images) // columns
    channels, high, wide = images.shape[1:]
    tiles = images[: rows * columns].reshape(rows, columns, channels, high, wide)
    return tiles.permute(0, 3, 1, 4, 2).reshape(rows * high, columns * wide, channels)


def sheets_figure(sheets: Mapping[str, Tensor], columns: int) -> Figure:
    """Sheets of images under one another's titles, side by side."""
    across = min(3, len(sheets))
    down = -(-len(sheets) // across)
    some = next(iter(sheets.values()))
    shape = sheet(some, columns).shape
    height = 2.9 * shape[0] / shape[1] + 0.2
    figure = Figure(figsize=(2.9 * across, height * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).flatten()
    for axis in axes:
        axis.axis("off")
    for axis, (title, images) in zip(axes, sheets.items(), strict=False):
        shown = sheet(images, columns).numpy()
        axis.imshow(shown if shown.shape[2] == 3 else shown[..., 0], cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, loc="left", fontsize=7, pad=2)
    return figure


def shown(model: Model, count: int, *, posed: bool = True) -> Tensor:
    """The first few samples of a model."""
    with torch.no_grad():
        return generate(symmetric(model.study), model.network, count, posed=posed).images
