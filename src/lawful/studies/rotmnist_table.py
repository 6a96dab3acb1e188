"""The RotMNIST table: every pair of players, few digits, two losses."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any

from matplotlib.figure import Figure

from lawful.data.rotated import others
from lawful.errors import InputError
from lawful.studies.model import Model
from lawful.studies.result import Result, markdown_table
from lawful.studies.rotmnist import (
    RotatedDigitsStudy,
    RotatedQuality,
    judge_digits,
    rotated_quality,
)
from lawful.studies.study import Study
from lawful.studies.symmetric import LEAST, Labelled, Loss
from lawful.studies.symmetric_table import (
    FULL,
    PLAIN,
    RANDOM,
    Design,
    curve,
    curves_figure,
    design_of,
    match,
    match_text,
    sheets_figure,
    shown,
)

DESIGNS = (
    Design("plain", "plain G, plain D", PLAIN, seeds=3, pace=3.0),
    Design("augmented", "plain pair, augmented by quarter turns",
           {**PLAIN, "treatment": "augmented"}, pace=3.0),
    Design("canonical", "plain pair on canonical poses, random turn",
           {**RANDOM, "critic": "plain", "treatment": "canonical"}, pace=3.0),
    Design("eqv-plain", "Eqv G, plain D, C4", {**FULL, "critic": "plain"}),
    Design("plain-inv", "plain G, random turn, Inv D, C4", RANDOM, "plain G, Inv D, C4"),
    Design("c4", "Eqv G, Inv D, C4", FULL, "(I)Eqv G, Inv D, C4", seeds=3),
    Design("c8", "Eqv G, Inv D, C8", {**FULL, "group": "C8"}, "(I)Eqv G, Inv D, C8"),
)  # fmt: skip
# Fréchet distances on Inception-like features of the slides, at 10 %: RA, D_2.
SLIDES = {
    "plain G, plain D": (348, 283), "Eqv G, plain D, C4": (355, 251),
    "plain G, Inv D, C4": (188, 192), "(I)Eqv G, Inv D, C4": (132, 133),
    "Eqv G, Inv D, C4": (89, 88), "Eqv G, Inv D, C8": (51, 57),
}  # fmt: skip
# Times the preset's share, loss, and whether only one seed of every design is trained.
BLOCKS: Sequence[tuple[float, Loss, bool]] = (
    (1, "relativistic", False),
    (1, "alpha", True),
    (10, "relativistic", True),
    (10, "alpha", True),
)
LOSSES: Mapping[Loss, str] = {"relativistic": "RA", "alpha": "D2"}
HEAD = ("players", "seeds", "steps", "Fréchet", "of random turns", "kernel", "precision", "recall",
        "coverage", "read", "invariance p", "minutes", "slides, 10 %")  # fmt: skip


def rotmnist_runs(study: Study, preset: str) -> Mapping[str, Study]:
    """Every design, share and loss at the preset's size, by the name of its run."""
    if not isinstance(study, RotatedDigitsStudy):
        raise InputError(f"rotmnist table: expected the study rotmnist, got {study.name}")
    runs: dict[str, Study] = {}
    for times, loss, once in BLOCKS:
        base = replace(study, share=times * study.share, loss=loss)
        base = base if loss == study.loss else replace(base, penalty=None)  # that loss's own
        for design in DESIGNS:
            some = replace(design, seeds=1) if once else design
            runs |= some.runs(base, f"{preset}-{100 * base.share:g}pc-{LOSSES[loss].lower()}")
    return runs


def rotmnist_result(models: Mapping[str, Model]) -> Result:
    """The table over all models; of a model alone, its row beside the floor."""
    blocks: dict[str, dict[str, list[Model]]] = {}
    for name, model in models.items():
        study = _study(model)
        title = f"{100 * study.share:g} % of 60,000 digits, {LOSSES[study.loss]}"
        words = design_of(name, DESIGNS).name if len(models) > 1 else name
        blocks.setdefault(title, {}).setdefault(words, []).append(model)
    first = _study(next(iter(models.values())))
    parts, data = [_head(first)], dict[str, Any]()
    figures: dict[str, Figure] = {}
    for title, groups in blocks.items():
        rows, figure = _block(groups, len(models) > 1)
        floors = _floors(_study(next(iter(groups.values()))[0]))
        text = [[*row[0], *_slides(title, row[0][0])] for row in rows]
        parts += [f"## {title}", markdown_table(HEAD, [*text, *_floor_rows(floors)])]
        parts += _deciding(groups)
        data[title] = {
            "floors": {name: asdict(q) for name, q in floors.items()},
            "rows": [{"row": row[0][0], "quality": row[1]} for row in rows],
        }
        figures |= {f"{n}-{len(data)}": f for n, f in figure.items()}
    result = {"digits": first.source().source, "blocks": data}
    return Result("Rotated digits", "\n\n".join(parts), result, figures)


def _study(model: Model) -> RotatedDigitsStudy:
    if not isinstance(model.study, RotatedDigitsStudy):
        raise InputError(f"rotmnist table: expected its model, got one of {model.study.name}")
    return model.study


def _head(study: RotatedDigitsStudy) -> str:
    training = study.training
    return (
        f"Digits: {study.source().source}. Distances of {study.judged:,} samples to held-out "
        "digits, on 64 features of an autoencoder of digits in every orientation (`lawful train "
        "digits --preset rotated`); not to be compared with the slides' FID, whose order is what "
        "can be. Of random turns: the same samples, each moved by a random element of the group. "
        "Read: share that a classifier reads as the class asked for. Invariance p: is the law of "
        "the samples invariant? (I)Eqv and the plain generator without a random turn are the "
        "weights of the row with it: an exactly invariant critic with R1 trains both alike; under "
        "D2, and with C8, it does so nearly. "
        f"Batches of {training.batch}; parameter counts are within 7 % of one another. Several "
        "seeds: median, least and most."
    )


def _floors(study: RotatedDigitsStudy) -> dict[str, RotatedQuality]:
    """Real digits, judged alike: those that are trained on, and as many others as there are."""
    data, left = study.data(), others(study.source(), study.share, study.subset)
    count = min(len(left.train), study.judged)
    floors = {f"the {len(data.images):,} trained on": Labelled(data.images, data.labels)}
    if count >= LEAST:
        rest = Labelled(left.train[:count], left.train_labels[:count])
        floors = {f"{count:,} other real digits": rest, **floors}
    return {name: judge_digits(study, real.images, real.labels) for name, real in floors.items()}


def _figures(several: Sequence[RotatedQuality]) -> list[str]:
    q = RotatedQuality(**{k: median(asdict(q)[k] for q in several) for k in asdict(several[0])})
    spread = sorted(q.frechet for q in several)
    frechet = f"{q.frechet:.2f}"
    frechet += f" ({spread[0]:.2f}–{spread[-1]:.2f})" if len(several) > 1 else ""
    return [
        frechet, f"{q.frechet_symmetrized:.2f}", f"{q.kernel:.3f}", f"{q.precision:.2f}",
        f"{q.recall:.2f}", f"{q.coverage:.2f}", f"{q.read:.0%}", f"{q.invariance:.3f}",
    ]  # fmt: skip


def _floor_rows(floors: Mapping[str, RotatedQuality]) -> list[list[str]]:
    return [[name, "", "", *_figures([q]), "", ""] for name, q in floors.items()]


Row = tuple[list[str], list[dict[str, float]]]


def _block(
    groups: Mapping[str, Sequence[Model]], table: bool
) -> tuple[list[Row], dict[str, Figure]]:
    """Rows of one share and loss, with their pictures."""
    rows, sheets = [], {}
    for name, models in groups.items():
        design = next((d for d in DESIGNS if table and d.name == name), None)
        words = design.full if design else name
        rows.append(_row(words, models, posed=True))
        sheets[words] = shown(models[0], 60)
        if design and design.incomplete:
            rows.append(_row(design.incomplete, models, posed=False))
    figures = {"samples": sheets_figure(sheets, 10)}
    curves = {n: [curve(m, "frechet") for m in models] for n, models in groups.items()}
    if curves := {n: c for n, c in curves.items() if all(run.steps for run in c)}:
        figures["curves"] = curves_figure(curves, "Fréchet distance")
    return rows, figures


def _row(words: str, models: Sequence[Model], *, posed: bool) -> Row:
    several = [rotated_quality(_study(m), m.network, posed=posed) for m in models]
    minutes = median(float(m.manifest["training_seconds"]) for m in models) / 60
    steps = f"{int(models[0].manifest['steps']):,}"
    line = [words, str(len(models)), steps, *_figures(several), f"{minutes:.1f}"]
    return line, [asdict(q) for q in several]


def _slides(title: str, words: str) -> list[str]:
    found = SLIDES.get(words)
    return ["" if found is None else str(found[int(LOSSES["alpha"] in title)])]


def _deciding(groups: Mapping[str, Sequence[Model]]) -> list[str]:
    """The full design against the plain pair, where both were trained."""
    runs = [[curve(m, "frechet") for m in groups.get(name, ())] for name in ("c4", "plain")]
    if not all(runs) or not all(run.steps for side in runs for run in side):
        return []
    found = match(*runs)
    return [match_text(found, "Fréchet distance", len(found.ours), runs[0][0].steps[-1])]
