"""Tables of a study's result: rows are configurations and seeds, columns are figures.

A result goes through three forms. A `Row` makes the runs of a configuration. Every trained model
becomes a record, a plain mapping of figures by name, with its row's label and its seed. `table`
writes one line per label: the median over its records and, where a column asks for it, the range.
Records are also what `lawful study` stores as data, ready for a data frame.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, isnan
from statistics import median
from typing import Any, TypeVar

from matplotlib.figure import Figure

from lawful.errors import InputError
from lawful.model import Model
from lawful.study import Study

LONG = 30
SPELLED = {"μ": "mu", "α": "alpha", ",000": "000"}
S = TypeVar("S", bound=Study)
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Result:
    """A reproduced table or figure: what `lawful study` writes.

    Arguments:
        title: Heading.
        markdown: Tables and what they mean.
        data: The same figures as plain values.
        figures: By file name without ending.
    """

    title: str
    markdown: str
    data: Mapping[str, Any]
    figures: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """How a study's result comes about; a study's module states it as `RECIPE`.

    Arguments:
        result: Of trained models by the name of their run.
        runs: Configurations to train by name, from a preset and its name; the preset alone where
            not given.
        preset: What is taken where none is asked for; None for the study's first.
    """

    result: Callable[[Mapping[str, Model]], Result]
    runs: Callable[[Study, str], Mapping[str, Study]] = lambda study, preset: {
        f"run-{preset}": study
    }
    preset: str | None = None


@dataclass(frozen=True)
class Claim:
    """A statement of a paper, decided by computed figures.

    Arguments:
        statement: What is claimed.
        found: The figures that decide, in words.
        holds: Whether they bear out the answer.
        answer: The answer as derived: "yes", "no", or under which condition.
    """

    statement: str
    found: str
    holds: bool
    answer: str = "yes"

    @property
    def verdict(self) -> str:
        """The answer, where the figures bear it out."""
        return self.answer if self.holds else "not as derived: see the figures"


@dataclass(frozen=True)
class Row:
    """A row of a table: changes of a preset, trained with several seeds.

    Arguments:
        label: In the table.
        changes: Fields of the study and their values.
        seeds: How many runs, each with a seed of its own.
        name: Of the runs; the words of the label where not given.
        steps: Of training, as a multiple of the preset's.
    """

    label: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 1
    name: str = ""
    steps: float = 1.0

    @property
    def slug(self) -> str:
        """What the row's runs are called between their prefix and their seed."""
        words = self.label.lower()
        for letter, spelled in SPELLED.items():
            words = words.replace(letter, spelled)
        return self.name or re.sub("[^a-z0-9]+", "-", words)

    def runs(self, study: S, prefix: str) -> dict[str, S]:
        """Configurations by the name of the run, `PREFIX-ROW-SEED`."""
        usual = study.training
        changed = replace(usual, steps=round(self.steps * usual.steps))
        return {
            f"{prefix}-{self.slug}-{k}": replace(
                study, training=replace(changed, seed=usual.seed + k), **self.changes
            )
            for k in range(self.seeds)
        }


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Arguments:
        figure: Key of the records.
        form: Format of the figure.
        ranged: Show the least and the most of several records too.
        of: Of several records' figures; the median where not given, `len` to count them.
        scale: What the figure is multiplied by.
    """

    figure: str
    form: str = ".3g"
    ranged: bool = False
    of: Callable[[Sequence[float]], float] = median
    scale: float = 1

    def cell(self, records: Sequence[Record]) -> str:
        """One line's entry: words as they are; empty where no record has the figure."""
        values = [entry[self.figure] for entry in records if entry.get(self.figure) is not None]
        if values and isinstance(values[0], str):
            return values[0]
        known = [self.scale * value for value in values if not isnan(value)]
        if not known:
            return ""
        return spread(known, self.form) if self.ranged else f"{self.of(known):{self.form}}"


def table(records: Sequence[Record], columns: Mapping[str, Column], corner: str = "") -> str:
    """A Markdown table of records: a line per label, in order of appearance.

    Where records are of trained models, their number of seeds stands first, and the median of their
    minutes of training last.

    Arguments:
        columns: By heading.
        corner: Heading of the labels.
    """
    if any("seed" in entry for entry in records):
        seeds, minutes = Column("seed", "d", of=len), Column("minutes", ".1f")
        columns = {"seeds": seeds, **columns, "minutes": minutes}
    lines = [
        [label, *(column.cell(own) for column in columns.values())]
        for label, own in _by_label(records).items()
    ]
    return markdown_table((corner, *columns), lines)


def _by_label(records: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for entry in records:
        found.setdefault(entry["row"], []).append(entry)
    return found


def by_label(records: Sequence[Record], figure: str) -> dict[str, list[Any]]:
    """A figure of all records by the label of their row."""
    return {label: [entry[figure] for entry in own] for label, own in _by_label(records).items()}


def runs_of(rows: Sequence[Row], study: S, prefix: str) -> dict[str, S]:
    """Configurations of all rows by the name of the run."""
    return {name: run for row in rows for name, run in row.runs(study, prefix).items()}


def row_of(name: str, rows: Sequence[Row]) -> Row:
    """The row of a run's name, `PREFIX-ROW-SEED`.

    Raises:
        InputError: It is none of them.
    """
    bare = name.rpartition("-")[0]
    found = [row for row in rows if bare.endswith(f"-{row.slug}")]
    if not found:
        raise InputError(f"run {name}: of none of the rows {', '.join(row.slug for row in rows)}")
    return max(found, key=lambda row: len(row.slug))  # a name may end in another's


def rows_of(models: Mapping[str, Model], rows: Sequence[Row]) -> dict[str, Row]:
    """The row of every run's model; a model alone is a row of its own name.

    Raises:
        InputError: A run is of none of the rows.
    """
    return {name: Row(name) if len(models) == 1 else row_of(name, rows) for name in models}


def record(label: str, run: str, model: Model, figures: Mapping[str, Any]) -> dict[str, Any]:
    """A trained model's figures with its row, run and seed, and steps and minutes of training."""
    manifest = model.manifest
    return {
        "row": label, "run": run, "seed": model.study.training.seed,
        "steps": manifest.get("steps"), "minutes": float(manifest["training_seconds"]) / 60,
        **figures,
    }  # fmt: skip


def records_of(
    models: Mapping[str, Model],
    rows: Sequence[Row],
    judge: Callable[[Model], Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """A record per model, of the figures that `judge` gives it."""
    found = rows_of(models, rows)
    return [record(found[n].label, n, model, judge(model)) for n, model in models.items()]


def checked(study: Study, kind: type[S]) -> S:
    """The study, if it is of this kind.

    Raises:
        InputError: It is another.
    """
    if not isinstance(study, kind):
        raise InputError(f"{kind.name} table: expected the study {kind.name}, got {study.name}")
    return study


def spread(values: Sequence[float], form: str = ".3g") -> str:
    """Median, and of several values the least and the most.

    >>> spread([3.0, 1.0, 2.0], ".1f")
    '2.0 (1.0–3.0)'
    """
    ends = f" ({min(values):{form}}–{max(values):{form}})" if len(values) > 1 else ""
    return f"{median(values):{form}}{ends}"


def ratios(
    records: Sequence[Record], figure: str, pair: tuple[str, str], form: str, corner: str
) -> str:
    """`ratio_table` of a figure, wherever rows differ only by the words of a pair of labels."""
    found = by_label(records, figure)
    pairs = {
        label.replace(pair[0], "").removeprefix(", ") or "as above": (ours, theirs)
        for label, ours in found.items()
        if pair[0] in label and (theirs := found.get(label.replace(*pair)))
    }
    return ratio_table(pair, pairs, form, corner)


def ratio_table(
    names: tuple[str, str],
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    form: str = ".3g",
    corner: str = "",
) -> str:
    """Two sets of figures and the ratio of their medians, a line per pair; "" without a pair.

    A pair with a figure that is not known is left out. There is no ratio to a median that is not
    above 0, as that of an unbiased distance may be.

    Arguments:
        names: Of the two sets.
        pairs: By label.
    """
    lines = []
    for label, (ours, theirs) in pairs.items():
        if ours and theirs and all(map(isfinite, (*ours, *theirs))):
            under = median(theirs)
            ratio = f"{median(ours) / under:.2g}" if under > 0 else ""
            lines.append([label, spread(ours, form), spread(theirs, form), ratio])
    return markdown_table((corner, *names, "ratio"), lines) if lines else ""


def claims_table(claims: Sequence[Claim]) -> str:
    """What is claimed, what holds, and the figures that decide."""
    rows = [(claim.statement, claim.verdict, claim.found) for claim in claims]
    return markdown_table(("claim", "holds", "figures"), rows)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others right-aligned where they are short."""
    wide = [i == 0 or any(len(row[i]) > LONG for row in rows) for i in range(len(head))]
    lines = [head, ["---" if text else "---:" for text in wide], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
