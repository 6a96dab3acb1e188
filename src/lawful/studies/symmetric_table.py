"""Tables of structure-preserving GANs: designs of players, trained alike, in blocks of one game."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from statistics import median
from typing import Any, Generic, Literal, TypeVar

from matplotlib.figure import Figure
from torch import Tensor

from lawful.model import Model
from lawful.studies.latent import Curve, curve, curves_figure, generate, sheets_figure
from lawful.studies.symmetric import Loss, SymmetricStudy
from lawful.table import (
    Column,
    Record,
    Result,
    Row,
    by_label,
    checked,
    ratio_table,
    record,
    rows_of,
    runs_of,
    table,
)

FULL: Mapping[str, Any] = {
    "generator": "equivariant", "pose": "latent", "critic": "invariant", "treatment": "none",
}  # fmt: skip
RANDOM: Mapping[str, Any] = {**FULL, "generator": "plain", "pose": "output"}
PLAIN: Mapping[str, Any] = {**FULL, "generator": "plain", "pose": "none", "critic": "plain"}
LOSSES: Mapping[Loss, str] = {"relativistic": "RA", "alpha": "D2"}
S = TypeVar("S", bound=SymmetricStudy)


@dataclass(frozen=True)
class Comparison(Generic[S]):
    """The table of a study's designs.

    What was watched is the `curve` of a record, its value after as many steps as every row has
    `watched`, its least and its median over training `best` and `middle`.

    Arguments:
        kind: The study.
        heading: Title of the result.
        rows: Designs, sampled with random elements of the group.
        incomplete: By a row's name, the label of the same weights sampled without. With an exactly
            invariant critic both have the same training, so one run serves two rows.
        columns: Columns of its tables by heading.
        pair: Labels of the full design and of the plain pair, which are compared seed by seed.
        distance: What the decisive distance is called.
        sheet: Samples of a design that are shown, and how many in a row.
        title: Title of a study's block, in which all have the same data, critic and game.
        told: What stands above the tables.
        floors: Records of real images, judged alike.
        slides: By label, figures that the papers' slides tell.
        beside: Images that are shown beside the samples.
    """

    kind: type[S]
    heading: str
    rows: Sequence[Row]
    incomplete: Mapping[str, str]
    columns: Mapping[str, Column]
    pair: tuple[str, str]
    distance: str
    sheet: tuple[int, int]
    title: Callable[[S], str]
    told: Callable[[S], str]
    floors: Callable[[S], list[dict[str, Any]]]
    slides: Callable[[S], Mapping[str, str]]
    beside: Callable[[S], Mapping[str, Tensor]] = lambda study: {}

    def result(self, models: Mapping[str, Model]) -> Result:
        """The tables of all models; of a model alone, its row beside the floor."""
        first = checked(next(iter(models.values())).study, self.kind)
        parts, data, figures = [self.told(first)], dict[str, Any](), dict[str, Figure]()
        floors: dict[str, list[dict[str, Any]]] = {}
        for number, (title, records) in enumerate(self.blocks(models).items(), 1):
            study = checked(models[records[0]["run"]].study, self.kind)
            known, origin = self.slides(study), str(study.origin())
            for entry in records:
                entry["slides"] = known.get(entry["row"])
            pairs = compared(records, study.decisive, *self.pair)
            suffix = title.lower() if title.isalnum() else number
            drawn = self._figures(records, models, self.beside(study))
            figures |= {f"{name}-{suffix}": figure for name, figure in drawn.items()}
            watched = _watched(study, records) if "watched" in self.columns else ""
            floors[origin] = floors.get(origin) or self.floors(study)
            records += floors[origin]
            ratio = ratio_table(("full design", "plain pair"), pairs, corner=self.distance)
            parts += [f"## {title}", table(records, self.columns, "players"), watched, ratio]
            data[title] = {"records": records, "pairs": pairs}
        name, source = next(iter(first.origin().items()))
        text = "\n\n".join(filter(None, parts))
        return Result(self.heading, text, {name: source, "blocks": data}, figures)

    def blocks(self, models: Mapping[str, Model]) -> dict[str, list[dict[str, Any]]]:
        """Records of all models by the title of their block."""
        found: dict[str, list[dict[str, Any]]] = {}
        for name, row in rows_of(models, self.rows).items():
            model, study = models[name], checked(models[name].study, self.kind)
            block = found.setdefault(self.title(study), [])
            block.append(record(row.label, name, model, study.measure(model.network)))
            if seen := curve(model, f"watch/{study.decisive}"):
                values = [point["value"] for point in seen]
                block[-1] |= {"curve": seen, "best": min(values), "middle": median(values)}
            if row.name in self.incomplete:
                measured = study.measure(model.network, posed=False)
                block.append(record(self.incomplete[row.name], name, model, measured))
        for block in found.values():
            fewest = min(entry["steps"] for entry in block)
            for entry in block:
                if "curve" in entry:
                    entry["watched"] = last(entry["curve"], "step", fewest)
        return found

    def _figures(
        self,
        records: Sequence[Record],
        models: Mapping[str, Model],
        beside: Mapping[str, Tensor],
    ) -> dict[str, Figure]:
        """Samples of every design's first model beside other images; curves of what was watched."""
        count, columns = self.sheet
        sheets, drawn = dict(beside), set[str]()
        for entry in records:
            if entry["row"] not in sheets and entry["run"] not in drawn:
                model = models[entry["run"]]
                given = checked(model.study, self.kind).conditions(count)
                sheets[entry["row"]] = generate(model.network, given)
            drawn.add(entry["run"])  # its second record is of the same weights
        found = {"samples": sheets_figure(sheets, columns)}
        curves = _curves(records)
        return found | ({"curves": curves_figure(curves, self.distance)} if curves else {})


def _watched(study: SymmetricStudy, records: Sequence[Record]) -> str:
    if not any("watched" in entry for entry in records):
        return ""
    count, fewest = min(study.watched, study.judged), min(entry["steps"] for entry in records)
    return f"Watched: of {count:,} samples at the last checkpoint up to {fewest:,} steps."


def block_runs(rows: Sequence[Row], study: S, loss: Loss, prefix: str) -> dict[str, S]:
    """Every design under a loss, which has its own penalty, by the name of the run."""
    own = study if loss == study.loss else replace(study, loss=loss, penalty=None)
    return runs_of(rows, own, f"{prefix}-{LOSSES[loss].lower()}")


def compared(
    records: Sequence[Record], figure: str, full: str, plain: str
) -> dict[str, tuple[list[float], list[float]]]:
    """The full design against the plain pair, seed by seed; a plain run may be longer."""
    ends, curves = by_label(records, figure), _curves(records)
    both = list(zip(curves.get(full, []), curves.get(plain, []), strict=False))
    own = [a[-1]["value"] for a, _ in both]
    steps = [last(b, "step", a[-1]["step"]) for a, b in both]
    seconds = [last(b, "seconds", a[-1]["seconds"]) for a, b in both]
    return {
        "at the end": (ends.get(full, []), ends.get(plain, [])),
        "watched, after as many steps": (own, steps),
        "watched, after as much time": (own, seconds),
        "watched, the plain pair at its best": (own, [min(p["value"] for p in b) for _, b in both]),
    }


def _curves(records: Sequence[Record]) -> dict[str, list[Curve]]:
    return by_label([entry for entry in records if "curve" in entry], "curve")


def last(seen: Curve, place: Literal["step", "seconds"], limit: float) -> float:
    """The value of the last checkpoint up to a step or a training time; NaN beyond the run."""
    found = [point["value"] for point in seen if point[place] <= limit]
    return found[-1] if found and seen[-1][place] >= limit else nan
