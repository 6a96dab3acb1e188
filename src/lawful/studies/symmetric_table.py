"""What the tables of rotated digits and of tissue share: runs, rows, curves, pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, asdict, dataclass, replace
from math import isfinite, isnan, nan
from statistics import median
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from lawful.errors import InputError
from lawful.model import Model
from lawful.run import history
from lawful.studies.symmetric import Loss, SymmetricStudy, generate
from lawful.study import Study

FULL: Mapping[str, Any] = {
    "generator": "equivariant", "pose": "latent", "critic": "invariant", "treatment": "none",
}  # fmt: skip
RANDOM: Mapping[str, Any] = {**FULL, "generator": "plain", "pose": "output"}
PLAIN: Mapping[str, Any] = {**FULL, "generator": "plain", "pose": "none", "critic": "plain"}
LOSSES: Mapping[Loss, str] = {"relativistic": "RA", "alpha": "D2"}


class Quality(Protocol):
    """Figures of a generator's samples: a dataclass of floats."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @property
    def equivariance(self) -> float:
        """Worst relative error of the generator over the group; NaN where it has none."""


Q = TypeVar("Q", bound=Quality)
S = TypeVar("S", bound=SymmetricStudy)


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


def block_runs(
    designs: Sequence[Design], study: SymmetricStudy, loss: Loss, prefix: str
) -> dict[str, SymmetricStudy]:
    """Every design under a loss, by the name of the run."""
    own = study if loss == study.loss else replace(study, loss=loss, penalty=None)  # the loss's own
    runs: dict[str, SymmetricStudy] = {}
    for design in designs:
        runs |= design.runs(own, f"{prefix}-{LOSSES[loss].lower()}")
    return runs


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


def checked(study: Study, kind: type[S]) -> S:
    """The study, if it is of this kind.

    Raises:
        InputError: It is another.
    """
    if not isinstance(study, kind):
        raise InputError(f"{kind.name} table: expected the study {kind.name}, got {study.name}")
    return study


@dataclass(frozen=True)
class Curve:
    """What a run watched at its checkpoints."""

    steps: list[int]
    seconds: list[float]
    values: list[float]

    def at_step(self, step: float) -> float:
        """The value of the last checkpoint up to a step; NaN where the run was not there."""
        return self._last(self.steps, step)

    def at_time(self, seconds: float) -> float:
        """The value of the last checkpoint up to a training time; NaN where the run was shorter."""
        return self._last(self.seconds, seconds)

    def _last(self, places: Sequence[float], limit: float) -> float:
        found = [v for p, v in zip(places, self.values, strict=True) if p <= limit]
        return found[-1] if found and places[-1] >= limit else nan


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
class Row(Generic[Q]):
    """Models of one design, judged alike.

    Arguments:
        models: A seed an entry.
        qualities: Of their samples, in the same order.
        posed: Samples got random elements of the group; else these are of the incomplete design.
    """

    design: Design
    models: Sequence[Model]
    qualities: Sequence[Q]
    posed: bool

    @property
    def words(self) -> str:
        """In the table."""
        return self.design.full if self.posed else str(self.design.incomplete)

    @property
    def steps(self) -> int:
        """Of training."""
        return int(self.models[0].manifest["steps"])

    @property
    def start(self) -> list[str]:
        """First cells: players, seeds, steps."""
        return [self.words, str(len(self.models)), f"{self.steps:,}"]

    @property
    def minutes(self) -> str:
        """Of training."""
        return f"{median(float(m.manifest['training_seconds']) for m in self.models) / 60:.1f}"

    def data(self) -> dict[str, Any]:
        """As plain values."""
        return {"row": self.words, "quality": [asdict(q) for q in self.qualities]}

    def curves(self, name: str) -> list[Curve]:
        """A watched figure, a seed an entry; none where a run did not watch it."""
        found = [curve(model, name) for model in self.models]
        return found if all(run.steps for run in found) else []

    def at(self, name: str, step: int) -> list[float]:
        """A watched figure at the last checkpoint up to a step, a seed an entry.

        None where it was not watched, or is of other samples than the row's.
        """
        return [run.at_step(step) for run in self.curves(name)] if self.posed else []


def blocks(
    models: Mapping[str, Model],
    designs: Sequence[Design],
    title: Callable[[Model], str],
    judge: Callable[[Model, bool], Q],
) -> dict[str, list[Row[Q]]]:
    """Rows by the title of their block; a model alone is one row, of its own name.

    Arguments:
        title: Of a model's block.
        judge: The quality of a model, sampled with random elements of the group or without.
    """
    grouped: dict[str, dict[str, tuple[Design, list[Model]]]] = {}
    for name, model in models.items():
        design = design_of(name, designs) if len(models) > 1 else Design(name, name, FULL)
        block = grouped.setdefault(title(model), {})
        block.setdefault(design.name, (design, []))[1].append(model)
    return {
        title: [row for design, several in block.values() for row in _rows(design, several, judge)]
        for title, block in grouped.items()
    }


def _rows(
    design: Design, models: Sequence[Model], judge: Callable[[Model, bool], Q]
) -> list[Row[Q]]:
    rows = [Row(design, models, [judge(model, True) for model in models], True)]
    if design.incomplete:
        # The generator as it is sampled there uses no element, so it has no such error.
        judged = [replace(judge(model, False), equivariance=nan) for model in models]
        rows.append(Row(design, models, judged, False))
    return rows


def typical(several: Sequence[Q]) -> Q:
    """The median of every figure; of the error of equivariance the worst."""
    entries = [asdict(quality) for quality in several]
    medians = {name: median(entry[name] for entry in entries) for name in entries[0]}
    worst = max(quality.equivariance for quality in several)
    return replace(several[0], **{**medians, "equivariance": worst})


def spread(values: Sequence[float], form: str = ".3g") -> str:
    """Median, and of several values the least and the most."""
    middle = f"{median(values):{form}}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):{form}}–{max(values):{form}})"


def seeds_text(values: Sequence[float]) -> str:
    """How `spread` is to be read."""
    return "one seed" if len(values) == 1 else f"median of {len(values)} seeds (least–most)"


def cell(value: float, form: str) -> str:
    """A figure; empty where there is none."""
    return "" if isnan(value) else f"{value:{form}}"


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Of the medians; NaN where the second is not above 0, as an unbiased distance may be."""
    under = median(theirs)
    return median(ours) / under if under > 0 else nan


@dataclass(frozen=True)
class Match:
    """The full design against the plain pair, seed by seed, by a watched figure.

    Arguments:
        ours: Of the full design at its end, a seed an entry.
        theirs: Of the plain pair at as many steps.
        in_time: Of the plain pair after as much training time; NaN where it was trained for less.
        best: Of the plain pair at its best checkpoint.
        steps: Of the full design.
    """

    ours: list[float]
    theirs: list[float]
    in_time: list[float]
    best: list[float]
    steps: int

    def data(self) -> dict[str, Any]:
        """As plain values."""
        ratios = {"ratio": ratio(self.ours, self.theirs), "to_best": ratio(self.ours, self.best)}
        return {**asdict(self), **ratios}


def match(ours: Sequence[Curve], theirs: Sequence[Curve]) -> Match:
    """Compare runs of two designs; plain runs may go on for longer."""
    pairs = list(zip(ours, theirs, strict=False))
    return Match(
        ours=[a.values[-1] for a, _ in pairs],
        theirs=[b.at_step(a.steps[-1]) for a, b in pairs],
        in_time=[b.at_time(a.seconds[-1]) for a, b in pairs],
        best=[min(b.values) for _, b in pairs],
        steps=ours[0].steps[-1],
    )


def find(rows: Sequence[Row[Q]], name: str) -> Row[Q] | None:
    """The row of a design with random elements, if it was trained."""
    return next((row for row in rows if row.posed and row.design.name == name), None)


def watched(rows: Sequence[Row[Q]], full: str, figure: str) -> Match | None:
    """The full design against the plain pair, where both were trained and watched."""
    ours, theirs = (row.curves(figure) if (row := find(rows, n)) else [] for n in (full, "plain"))
    return match(ours, theirs) if ours and theirs else None


def known(values: Sequence[float]) -> bool:
    """Whether every run has the figure."""
    return all(map(isfinite, values))


def match_text(found: Match, figure: str) -> str:
    """The comparison in a paragraph; what plain runs were too short for is left out."""
    theirs = {
        "at the same steps": found.theirs,
        "after the same time": found.in_time,
        "at its best checkpoint": found.best,
    }
    parts = [f"{spread(values)} {words}" for words, values in theirs.items() if known(values)]
    ratios = {"at the same steps": found.theirs, "to its best": found.best}
    shares = {words: ratio(found.ours, values) for words, values in ratios.items()}
    said = ", ".join(f"{share:.2f} {words}" for words, share in shares.items() if isfinite(share))
    return (
        f"Full design against the plain pair, {figure} of the generator that is sampled, "
        f"{seeds_text(found.ours)}: {spread(found.ours)} after {found.steps:,} steps; the plain "
        f"pair {', '.join(parts)}" + (f" (ratio {said})." if said else ".")
    )


def pictures(
    rows: Sequence[Row[Q]],
    watch: tuple[str, str],
    *,
    count: int,
    columns: int,
    beside: Mapping[str, Tensor] | None = None,
) -> dict[str, Figure]:
    """Samples of every design, and its curves where it was watched.

    Arguments:
        watch: The watched figure: its name, and the words for it.
        count, columns: Images of a design.
        beside: Other images, by title.
    """
    posed = [row for row in rows if row.posed]
    sheets = {row.words: shown(row.models[0], count) for row in posed}
    figures = {"samples": sheets_figure({**(beside or {}), **sheets}, columns)}
    if curves := {row.words: runs for row in posed if (runs := row.curves(watch[0]))}:
        figures["curves"] = curves_figure(curves, watch[1])
    return figures


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
        _set_scale(axis, [v for runs in curves.values() for run in runs for v in run.values])
    axes[0].set_ylabel(figure)
    axes[0].legend(fontsize=6)
    return picture


def _set_scale(axis: Axes, values: Sequence[float]) -> None:
    """Logarithmic; where a value is not above 0, linear around it."""
    if min(values) > 0:
        axis.set_yscale("log")
        for which in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            which(FuncFormatter(lambda value, _: f"{value:g}"))
    elif most := max(map(abs, values)):
        axis.set_yscale("symlog", linthresh=most / 100)


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


def shown(model: Model, count: int) -> Tensor:
    """The first few samples of a model.

    Raises:
        InputError: It is of another study.
    """
    if not isinstance(model.study, SymmetricStudy):
        raise InputError(f"table: expected a study of symmetric players, got {model.study.name}")
    return generate(model.study, model.network, count).images
