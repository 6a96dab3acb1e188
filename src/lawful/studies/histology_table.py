"""The tissue table: plain against symmetric players, few patches."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from math import nan
from statistics import median
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from lawful.model import Model
from lawful.studies.histology import (
    WATCHED,
    HistologyStudy,
    TissueQuality,
    judge_tissue,
    tissue_quality,
)
from lawful.studies.symmetric import Loss
from lawful.studies.symmetric_table import (
    FULL,
    LOSSES,
    PLAIN,
    RANDOM,
    Design,
    Match,
    Row,
    block_runs,
    blocks,
    cell,
    checked,
    find,
    known,
    pictures,
    ratio,
    seeds_text,
    spread,
    typical,
    watched,
)
from lawful.study import Study
from lawful.symmetry.symmetrize import orbit_samples
from lawful.table import Recipe, Result, markdown_table

DESIGNS = (
    Design("plain", "plain G, plain D", PLAIN, seeds=3),
    Design("augmented", "plain pair, augmented (+)", {**PLAIN, "treatment": "augmented"}),
    Design("plain-inv", "plain G, random element, Inv D", RANDOM, "plain G, Inv D"),
    Design("d4", "Eqv G, Inv D, D4", FULL, "(I)Eqv G, Inv D, D4", seeds=3),
)
# Best and median FID over training on the slides: ANHIR and LYSTO, relativistic.
SLIDES = {
    "plain G, plain D": "186, 523; 281, 340", "plain pair, augmented (+)": "184, 503; 250, 312",
    "(I)Eqv G, Inv D, D4": "100, 142; 218, 272", "Eqv G, Inv D, D4": "78, 125; 175, 238",
}  # fmt: skip
# The losses whose tables are trained.
BLOCKS: Sequence[Loss] = ("relativistic",)
PAPER: Sequence[Loss] = tuple(LOSSES)
HEAD = ("players", "seeds", "steps", "kernel × 1000", "best, median over training", "Fréchet",
        "of random elements", "precision", "recall", "coverage", "invariance p",
        "equivariance error", "minutes", "slides' FID")  # fmt: skip


def histology_runs(study: Study, preset: str) -> Mapping[str, Study]:
    """Every design at the preset's size, by the name of its run."""
    base = replace(checked(study, HistologyStudy), group="D4", loss="relativistic")
    runs: dict[str, Study] = {}
    for loss in PAPER if preset == "paper" else BLOCKS:
        runs |= block_runs(DESIGNS, base, loss, preset)
    return runs


def histology_result(models: Mapping[str, Model]) -> Result:
    """The table over all models; of a model alone, its row beside the floor."""
    found = blocks(models, DESIGNS, _title, _judge)
    first = _study(next(iter(models.values())))
    floors, real = _floors(first), _real(first)
    floor = [[n, "", "", f"{1000 * q.kernel:.1f} ± {1000 * q.kernel_error:.1f}", "",
              *_cells([q]), "", ""] for n, q in floors.items()]  # fmt: skip
    parts, data, figures = [_head(first)], dict[str, Any](), dict[str, Figure]()
    for title, rows in found.items():
        seen = watched(rows, "d4", "kernel")
        parts += [f"## {title}", markdown_table(HEAD, [*map(_line, rows), *floor])]
        parts += _deciding(rows, seen)
        data[title] = {"rows": [row.data() for row in rows], "watched": seen and seen.data()}
        drawn = pictures(rows, ("kernel", "kernel distance"), count=36, columns=6, beside=real)
        figures |= {f"{name}-{title.lower()}": figure for name, figure in drawn.items()}
    result = {
        "tissue": first.patches().source,
        "floors": {name: asdict(q) for name, q in floors.items()},
        "blocks": data,
    }
    return Result("Tissue", "\n\n".join(parts), result, figures)


def _study(model: Model) -> HistologyStudy:
    return checked(model.study, HistologyStudy)


def _title(model: Model) -> str:
    return LOSSES[_study(model).loss]


def _judge(model: Model, posed: bool) -> TissueQuality:
    return tissue_quality(_study(model), model.network, posed=posed)


def _head(study: HistologyStudy) -> str:
    patches = study.patches()
    return (
        f"Tissue: {patches.source}; {len(patches.train)} patches to train on, "
        f"{len(patches.held_out)} of other places held out. Distances of {study.judged} samples on "
        f"features of {study.features}, not to be compared with the slides' FID. The kernel "
        "distance is unbiased and decides; the Fréchet distance of so few patches is mostly "
        f"bias. Best and median over training: of {_watched(study)} samples at every checkpoint. "
        "Of random elements: kernel distance of the same samples, each moved by a random element "
        "of the group. Invariance p: is the law of the samples invariant? Patches trained on "
        "overlap where they are cut out of large pictures (stride 16 of 64 pixels), so they are "
        "not independent and have none. Equivariance error: the generator's worst over the group, "
        "where samples get random elements of it. (I)Eqv and the plain generator without a random "
        "element are the weights of the row with it. The slides' symmetric rows that are augmented "
        "by D4 (+) have no row here: with R1 at data, an exactly invariant critic sees the same "
        "whether the data are moved by elements of the group or not, so that would be the same "
        "training. Several seeds: median, least and most; of the equivariance error the worst."
    )


def _watched(study: HistologyStudy) -> int:
    return min(WATCHED, study.judged)


def _floors(study: HistologyStudy) -> dict[str, TissueQuality]:
    """Real patches, judged alike; they overlap, which the test of invariance does not allow."""
    train = study.patches().train
    random = torch.Generator().manual_seed(2)
    some = train[torch.randperm(len(train), generator=random)[: study.judged]]
    return {"patches trained on": replace(judge_tissue(study, some), invariance=nan)}


def _real(study: HistologyStudy) -> dict[str, Tensor]:
    """Some patches held out, in every pose."""
    real = orbit_samples(study.patches().held_out[::2], study.symmetry)
    random = torch.Generator().manual_seed(4)
    return {"real, held out": real[torch.randperm(len(real), generator=random)[:36]]}


def _line(row: Row[TissueQuality]) -> list[str]:
    kernel = spread([1000 * q.kernel for q in row.qualities], ".1f")
    curves = [run.values for run in row.curves("kernel")] if row.posed else []
    over = [median(1000 * of(values) for values in curves) for of in (min, median) if curves]
    return [
        *row.start, kernel, ", ".join(f"{value:.1f}" for value in over), *_cells(row.qualities),
        row.minutes, SLIDES.get(row.words, ""),
    ]  # fmt: skip


def _cells(several: Sequence[TissueQuality]) -> list[str]:
    q = typical(several)
    return [
        f"{q.frechet:.0f}", f"{1000 * q.kernel_symmetrized:.1f}", f"{q.precision:.2f}",
        f"{q.recall:.2f}", f"{q.coverage:.2f}", cell(q.invariance, ".3f"),
        cell(q.equivariance, ".0e"),
    ]  # fmt: skip


def _deciding(rows: Sequence[Row[TissueQuality]], seen: Match | None) -> list[str]:
    """The full design against the plain pair, where both were trained, by the table's figures."""
    full, plain = find(rows, "d4"), find(rows, "plain")
    if full is None or plain is None:
        return []
    ours, theirs = ([1000 * q.kernel for q in row.qualities] for row in (full, plain))
    study = _study(full.models[0])
    text = (
        f"Full design against the plain pair, kernel distance of {study.judged} samples × 1000, "
        f"{seeds_text(ours)}: {spread(ours)}; the plain pair {_against(ours, theirs)}."
    )
    if seen is None:
        return [text]
    ours, best, in_time = (
        [1000 * value for value in values] for values in (seen.ours, seen.best, seen.in_time)
    )
    text += (
        f" As watched, of {_watched(study)} samples: {spread(ours)}; the plain pair "
        f"{_against(ours, best)} at its best checkpoint"
    )
    text += f", {_against(ours, in_time)} after the same time." if known(in_time) else "."
    return [text]


def _against(ours: Sequence[float], theirs: Sequence[float]) -> str:
    share = ratio(ours, theirs)
    return spread(theirs) + (f" (ratio {share:.2f})" if known([share]) else "")


RECIPE = Recipe(histology_result, histology_runs, "quick")
