"""The tissue table: plain against symmetric players, few patches."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure

from lawful.errors import InputError
from lawful.studies.histology import HistologyStudy, TissueQuality, judge_tissue, tissue_quality
from lawful.studies.model import Model
from lawful.studies.result import Result, markdown_table
from lawful.studies.study import Study
from lawful.studies.symmetric import Loss
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
from lawful.symmetry.symmetrize import orbit_samples

DESIGNS = (
    Design("plain", "plain G, plain D", PLAIN, seeds=3, pace=3.0),
    Design("augmented", "plain pair, augmented (+)", {**PLAIN, "treatment": "augmented"}, pace=3.0),
    Design("plain-inv", "plain G, random element, Inv D", RANDOM, "plain G, Inv D"),
    Design("d4", "Eqv G, Inv D, D4", FULL, "(I)Eqv G, Inv D, D4", seeds=3),
)
# Best and median FID over training on the slides: ANHIR and LYSTO, relativistic.
SLIDES = {
    "plain G, plain D": "186, 523; 281, 340", "plain pair, augmented (+)": "184, 503; 250, 312",
    "(I)Eqv G, Inv D, D4": "100, 142; 218, 272", "Eqv G, Inv D, D4": "78, 125; 175, 238",
}  # fmt: skip
BLOCKS: Sequence[tuple[Loss, bool]] = (("relativistic", False), ("alpha", True))
LOSSES: Mapping[Loss, str] = {"relativistic": "RA", "alpha": "D2"}
HEAD = ("players", "seeds", "steps", "kernel × 1000", "best, median over training", "Fréchet",
        "of random elements", "precision", "recall", "coverage", "invariance p", "minutes",
        "slides' FID")  # fmt: skip


def histology_runs(study: Study, preset: str) -> Mapping[str, Study]:
    """Every design and loss at the preset's size, by the name of its run."""
    if not isinstance(study, HistologyStudy):
        raise InputError(f"histology table: expected the study histology, got {study.name}")
    runs: dict[str, Study] = {}
    for loss, once in BLOCKS:
        for design in DESIGNS:
            some = replace(design, seeds=1) if once else design
            own = study if loss == study.loss else replace(study, loss=loss, penalty=None)
            runs |= some.runs(own, f"{preset}-{LOSSES[loss].lower()}")
    return runs


def histology_result(models: Mapping[str, Model]) -> Result:
    """The table over all models; of a model alone, its row beside the floor."""
    blocks: dict[str, dict[str, list[Model]]] = {}
    for name, model in models.items():
        words = design_of(name, DESIGNS).name if len(models) > 1 else name
        blocks.setdefault(LOSSES[_study(model).loss], {}).setdefault(words, []).append(model)
    first = _study(next(iter(models.values())))
    floors, parts = _floors(first), [_head(first)]
    data: dict[str, Any] = {"floors": {name: asdict(q) for name, q in floors.items()}}
    figures: dict[str, Figure] = {}
    for title, groups in blocks.items():
        rows = [row for name, several in groups.items() for row in _rows(name, several, models)]
        lines = [line for line, _ in rows]
        floor = [[n, "", "", f"{1000 * q.kernel:.1f} ± {1000 * q.kernel_error:.1f}", "",
                  *_figures([q]), "", ""] for n, q in floors.items()]  # fmt: skip
        parts += [f"## {title}", markdown_table(HEAD, lines + floor), *_deciding(groups)]
        data[title] = [{"row": line[0], "seeds": quality} for line, quality in rows]
        figures |= _pictures(groups, first, title.lower())
    return Result("Tissue", "\n\n".join(parts), data, figures)


def _study(model: Model) -> HistologyStudy:
    if not isinstance(model.study, HistologyStudy):
        raise InputError(f"histology table: expected its model, got one of {model.study.name}")
    return model.study


def _head(study: HistologyStudy) -> str:
    patches = study.patches()
    return (
        f"Tissue: {patches.source}; {len(patches.train)} patches to train on, "
        f"{len(patches.held_out)} of other places held out. Distances on features of "
        f"{study.features}, not to be compared with the slides' FID. The kernel distance is "
        "unbiased and decides; the Fréchet distance of so few patches is mostly "
        "bias. Of random elements: kernel distance of the same samples, each "
        "moved by a random element of the group. (I)Eqv and the plain generator without a random "
        "element are the weights of the row with it. Several seeds: median, least and most."
    )


def _floors(study: HistologyStudy) -> dict[str, TissueQuality]:
    """Real patches, judged alike."""
    train = study.patches().train
    random = torch.Generator().manual_seed(2)
    some = train[torch.randperm(len(train), generator=random)[: study.judged]]
    return {"patches trained on": judge_tissue(study, some)}


def _figures(several: Sequence[TissueQuality]) -> list[str]:
    q = TissueQuality(**{k: median(asdict(q)[k] for q in several) for k in asdict(several[0])})
    return [
        f"{q.frechet:.0f}", f"{1000 * q.kernel_symmetrized:.1f}", f"{q.precision:.2f}",
        f"{q.recall:.2f}", f"{q.coverage:.2f}", f"{q.invariance:.3f}",
    ]  # fmt: skip


Row = tuple[list[str], list[dict[str, float]]]


def _rows(name: str, several: Sequence[Model], models: Mapping[str, Model]) -> list[Row]:
    design = next((d for d in DESIGNS if len(models) > 1 and d.name == name), None)
    rows = [_row(design.full if design else name, several, posed=True)]
    if design and design.incomplete:
        rows.append(_row(design.incomplete, several, posed=False))
    return rows


def _row(words: str, models: Sequence[Model], *, posed: bool) -> Row:
    several = [tissue_quality(_study(m), m.network, posed=posed) for m in models]
    kernels = sorted(1000 * q.kernel for q in several)
    kernel = f"{median(kernels):.1f}"
    kernel += f" ({kernels[0]:.1f}–{kernels[-1]:.1f})" if len(kernels) > 1 else ""
    curves = [run.values for m in models if (run := curve(m, "kernel")).values]
    middle = ("", "")
    if posed and curves:
        least = median(1000 * min(values) for values in curves)
        middle = (f"{least:.1f}", f"{median(1000 * median(v) for v in curves):.1f}")
    minutes = median(float(m.manifest["training_seconds"]) for m in models) / 60
    line = [
        words, str(len(models)), f"{int(models[0].manifest['steps']):,}", kernel,
        ", ".join(filter(None, middle)), *_figures(several), f"{minutes:.1f}",
        SLIDES.get(words, ""),
    ]  # fmt: skip
    return line, [asdict(q) for q in several]


def _deciding(groups: Mapping[str, Sequence[Model]]) -> list[str]:
    """The full design against the plain pair, where both were trained."""
    runs = [[curve(m, "kernel") for m in groups.get(name, ())] for name in ("d4", "plain")]
    if not all(runs) or not all(run.steps for side in runs for run in side):
        return []
    found = match(*runs)
    return [match_text(found, "kernel distance", len(found.ours), runs[0][0].steps[-1])]


def _pictures(
    groups: Mapping[str, Sequence[Model]], study: HistologyStudy, title: str
) -> dict[str, Figure]:
    held_out = study.patches().held_out
    real = orbit_samples(held_out[::2], study.symmetry)
    random = torch.Generator().manual_seed(4)
    sheets = {"real, held out": real[torch.randperm(len(real), generator=random)[:36]]}
    names = {d.name: d.full for d in DESIGNS}
    sheets |= {names.get(n, n): shown(several[0], 36) for n, several in groups.items()}
    figures = {f"samples-{title}": sheets_figure(sheets, 6)}
    curves = {names.get(n, n): [curve(m, "kernel") for m in ms] for n, ms in groups.items()}
    if curves := {n: c for n, c in curves.items() if all(run.steps for run in c)}:
        figures[f"curves-{title}"] = curves_figure(curves, "kernel distance")
    return figures
