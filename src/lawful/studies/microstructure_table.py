"""Figures 4 to 7 of InvNet, and what a trained generator of microstructures adds.

Models that were trained on images are held against held-out images, beside the same code without a
network and direct optimisation; models trained by the law alone, against their one target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from textwrap import fill
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lawful.materials.compare import Figures, HeldOut, held_out, likeness
from lawful.materials.dataset import Images, open_set, small
from lawful.materials.figures import MADE, TARGET, curves, show
from lawful.materials.levelcut import level_cut
from lawful.materials.network import project_latent
from lawful.materials.statistics import mean_pairwise_overlap, two_point
from lawful.model import Model
from lawful.project import Projected
from lawful.studies import microstructure_peers as peers
from lawful.studies.microstructure import MicrostructureStudy, generate, noise, own
from lawful.study import Study
from lawful.table import Column, Recipe, Record, Result, checked, markdown_table, table

TOLERANCE = 1e-3
TARGETS, ALIKE, FRESH = 256, 1_000, 1_600
SEED = 50_000
RAW = "generator, raw"
FREE: Mapping[str, Mapping[str, Any]] = {
    "a": {"target": "held-out 3"},
    "b": {"target": "held-out 9"},
    "c": {"target": "held-out 9", "enforced": 8},
}


def _p95(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.95))


def _within(values: Sequence[float]) -> float:
    return fmean(value <= TOLERANCE for value in values)


ACCURACY = {
    "samples": Column("p2_rmse", "d", of=len),
    "p1 error × N², worst": Column("p1_pixels", ".2f", of=max),
    "p2 RMSE, median": Column("p2_rmse", ".2e"),
    "95th %": Column("p2_rmse", ".2e", of=_p95),
    "worst": Column("p2_rmse", ".2e", of=max),
    "within 1e-3": Column("p2_rmse", ".1%", of=_within),
    "steps": Column("iterations", ".1f", of=fmean),
    "exchanges": Column("exchanges", ".1f", of=fmean),
    "moved": Column("displacement", ".1%", of=fmean),
}
MORPHOLOGY = {
    "samples": Column("p2_rmse", "d", of=len),
    "surface / image's": Column("surface", ".3f"),
    "p2 RMSE": Column("p2_rmse", ".2e"),
    "lineal-path RMSE": Column("lineal_path_rmse", ".2e"),
    "components": Column("components", ".1f", of=fmean),
    "image's": Column("expected", ".1f", of=fmean),
    "difference in components": Column("difference", ".1f", of=fmean),
}
FREE_COLUMNS = {
    "radii in the law": Column("radii", "s"),
    "p2 RMSE there, median of 64": Column("enforced", ".2e"),
    "95th %": Column("enforced", ".2e", of=_p95),
    "over all radii": Column("whole", ".2e"),
    "of the mean curve": Column("mean_curve", ".2e"),
    "minutes": Column("minutes", ".1f"),
}


def microstructure_runs(study: Study, preset: str) -> Mapping[str, Study]:
    """The preset; for one without data, the three models of figures 6 and 7; for `full`, both."""
    study = checked(study, MicrostructureStudy)
    free = study if study.objective == "law" else MicrostructureStudy.presets()["data-free"]
    three = {f"data-free-{name}": replace(free, **changes) for name, changes in FREE.items()}
    if study.objective == "law":
        return three
    return {f"run-{preset}": study, **(three if preset == "full" else {})}


def microstructure_result(models: Mapping[str, Model]) -> Result:
    """Tables and figures for all models that there are."""
    parts: list[str] = []
    data: dict[str, Any] = {}
    figures: dict[str, Figure] = {}
    alone = {name: model for name, model in models.items() if _study(model).target}
    for name in models.keys() - alone.keys():
        images, source, periodic = targets_of(_study(models[name]).data)
        against = held_out(images, TARGETS, periodic=periodic)
        made, done = _samples(models[name], against)
        data[name] = records(made, done, against)
        words = f"{len(against.images)} targets with volume fractions in [0.3, 0.7], of {source}."
        parts += [f"## {name}", words, *_tables(models[name], data[name], against)]
        figures["figure-4"] = _fixed_moments_figure(models[name].network, against)
        figures["figure-5"] = _curves_figure(made[RAW], against)
        figures["morphology"] = _morphology_figure(made, against)
    if alone:
        rows = [row for name, model in alone.items() for row in _free(name, model)]
        data["data-free"] = rows
        parts += ["## Data-free", table(rows, FREE_COLUMNS, "model")]
        figures["figure-6"], figures["figure-7"] = _single_target_figures(alone)
    title = "Two-phase microstructures (InvNet, figures 4 to 7)"
    return Result(title, "\n\n".join(parts), data, figures)


def targets_of(data: str) -> tuple[Images, str, bool]:
    """Images that a model trained on `data` has not seen, their origin, whether they are periodic.

    Of the project's own set, images of another seed: neither trained on nor looked at before.
    """
    if data != "cahn-hilliard":
        found = open_set(data)
        return found.held_out, f"what is held out of {found.source}", found.periodic
    fresh = small(FRESH, seed=1)
    pairs = zip(vars(fresh.train).values(), vars(fresh.held_out).values(), strict=True)
    return Images(*map(torch.cat, pairs)), f"{fresh.source} (trained on seed 0)", True


def _study(model: Model) -> MicrostructureStudy:
    return checked(model.study, MicrostructureStudy)


def _samples(model: Model, against: HeldOut) -> tuple[dict[str, Tensor], dict[str, Projected]]:
    """Samples of the held-out targets by every way, and what refinement did."""
    study, network = _study(model), own(model.network)
    condition = {**against.condition, "noise": noise(len(against.images), study.side, SEED)}
    with torch.no_grad():
        blurred = peers.blurred_field(condition)
        bare = peers.unlearned(network, condition)
    done = {
        f"generator, refined to {TOLERANCE:g}": study.project(network, condition, TOLERANCE),
        f"blurred field, refined to {TOLERANCE:g}": project_latent(blurred, condition, TOLERANCE),
    }
    made = {
        RAW: generate(network, against.condition, study.side, SEED),
        **{way: refined.fields for way, refined in done.items()},
        "blurred field": level_cut(blurred, condition["volume_fraction"]),
        "blurred field, the sampler's law steps": bare,
        "L-BFGS from noise": peers.optimise_from_noise(condition),
    }
    return made, done


def records(
    made: Mapping[str, Tensor], done: Mapping[str, Projected], against: HeldOut
) -> list[Record]:
    """A record per way and target: how sample and image compare, and what refinement did."""
    replicates = against.replicates
    ways = made if replicates is None else {**made, "another simulation": replicates.unsqueeze(1)}
    found: list[Record] = []
    for way, samples in ways.items():
        figures: Figures = likeness(samples, against)
        figures["p1_pixels"] = figures["p1_error"] * against.images[0].numel()
        figures["difference"] = np.abs(figures["components"] - figures["expected"])
        if refined := done.get(way):
            for name in ("iterations", "exchanges", "displacement"):
                figures[name] = getattr(refined, name).numpy()
        columns = (values.tolist() for values in figures.values())
        rows = (dict(zip(figures, row, strict=True)) for row in zip(*columns, strict=True))
        found += [{"row": way, **row} for row in rows]
    return found


def _tables(model: Model, found: Sequence[Record], against: HeldOut) -> list[str]:
    """Accuracy, morphology of every group of targets, and diversity."""
    return [
        table(found, ACCURACY, "way"),
        "Morphology. Phases are exchanged where phase 1 is the majority. Droplets: minority "
        "fraction below 0.35; spinodal: above 0.42.",
        table(morphology_records(found, against), MORPHOLOGY, "targets: samples"),
        f"Diversity: overlap of pairs after the best shift, and how many of {ALIKE:,} equal an "
        "earlier one.",
        markdown_table(("samples", "overlap, mean over pairs", "equal"),
                       _diversity(model, against)),
    ]  # fmt: skip


def morphology_records(found: Sequence[Record], against: HeldOut) -> list[Record]:
    """The records of all targets, then of each group of them."""
    count = len(against.images)
    rows: list[Record] = []
    for group, members in {"all": np.arange(count), **against.groups()}.items():
        few = set(members.tolist())
        for way in dict.fromkeys(record["row"] for record in found):
            own_rows = [record for record in found if record["row"] == way]
            rows += [{**record, "row": f"{group}: {way}"}
                     for place, record in enumerate(own_rows) if place in few]  # fmt: skip
    return rows


def _diversity(model: Model, against: HeldOut) -> list[list[str]]:
    """Overlap of samples of one target, and of independent simulations of like composition."""
    study, network = _study(model), own(model.network)
    many = {name: value[:1].expand(ALIKE, *value.shape[1:])
            for name, value in against.condition.items()}  # fmt: skip
    few = {name: value[:200] for name, value in many.items()}
    few["noise"] = noise(200, study.side, SEED)
    curve = against.condition["two_point"]
    order = (curve - curve[:1]).square().mean(1).argsort()
    first: dict[int, int] = {}  # the nearest image of each pair of runs
    for row in order.tolist():
        first.setdefault(int(against.pair[row]), row)
    sets = {
        f"{RAW}, one target": generate(network, many, study.side, SEED + 1)[:, 0],
        "generator, refined, one target": study.project(network, few, TOLERANCE).fields[:, 0],
        "independent simulations, the 48 nearest in p2": against.images[list(first.values())[:48]],
    }
    return [
        [name, f"{mean_pairwise_overlap(x):.3f}", f"{len(x) - len(x.unique(dim=0))} of {len(x):,}"]
        for name, x in sets.items()
    ]


def _free(name: str, model: Model) -> list[Record]:
    """A record per sample of a model that was trained by the law alone on one target."""
    study = _study(model)
    _, curve, made = free_samples(model)
    found = two_point(made[:, 0] > 0.5).float()
    error = (found - curve).square()
    part, whole = error[:, : study.enforced].mean(1).sqrt(), error.mean(1).sqrt()
    minutes = float(model.manifest.get("training_seconds", 0)) / 60
    mean_curve = float((found - curve).mean(0).square().mean().sqrt())
    said = {"row": name, "radii": f"0 to {study.enforced - 1}", "minutes": minutes}
    said["mean_curve"] = mean_curve
    return [
        {**said, "enforced": e, "whole": w}
        for e, w in zip(part.tolist(), whole.tolist(), strict=True)
    ]


def free_samples(model: Model) -> tuple[Tensor, Tensor, Tensor]:
    """The one target of a model, and 64 raw samples of it."""
    study = _study(model)
    phi, curve = study.statistics()
    condition = {"volume_fraction": phi.expand(64), "two_point": curve.expand(64, -1)}
    return phi, curve[0], generate(model.network, condition, study.side, SEED)


def _fixed_moments_figure(network: nn.Module, against: HeldOut, targets: int = 3) -> Figure:
    """Figure 4: several samples of the same moments; the first image of a row is the real one."""
    figure = Figure(figsize=(10.6, 1.55 * targets), layout="constrained")
    axes = figure.subplots(targets, 8, width_ratios=[1] * 7 + [1.4])
    order = against.condition["volume_fraction"].argsort()
    chosen = order[torch.linspace(0.1, 0.9, targets).mul(len(order) - 1).long()]
    for row, index in enumerate(chosen.tolist()):
        one = {n: v[index].expand(32, *v.shape[1:]) for n, v in against.condition.items()}
        made = generate(network, one, against.images.shape[-1], 60_000 + row)[:, 0]
        show(axes[row, 0], against.images[index], "" if row else "held-out image", TARGET, 1.5)
        for column in range(1, 7):
            title = "samples" if column == 1 and not row else ""
            show(axes[row, column], made[column - 1], title, MADE, 1.5)
        curves(axes[row, 7], made, against.condition["two_point"][index])
    axes[0, 7].legend(fontsize=7, frameon=False)
    return figure


def _curves_figure(made: Tensor, against: HeldOut) -> Figure:
    """Figure 5: volume fractions asked for and found, and four targets' curves."""
    figure = Figure(figsize=(11, 2.8), layout="constrained")
    first, *rest = figure.subplots(1, 5)
    asked = against.condition["volume_fraction"].numpy()
    bins = np.linspace(asked.min() - 0.01, asked.max() + 0.01, 25)
    first.hist(asked, bins, color=TARGET, alpha=0.9, label="targets")
    found = made.mean((1, 2, 3)).numpy()
    first.hist(found, bins, histtype="step", color=MADE, lw=1.5, label="samples")
    first.set_xlabel("volume fraction p1", fontsize=8)
    first.tick_params(labelsize=7)
    first.set_ylim(top=1.3 * first.get_ylim()[1])
    first.legend(fontsize=7, frameon=False)
    order = asked.argsort()
    places = (np.linspace(0.05, 0.95, 4) * (len(order) - 1)).astype(int)
    for axis, index in zip(rest, order[places], strict=True):
        target = against.condition["two_point"][index]
        curves(axis, made[index], target, f"p1 {asked[index]:.3f}\n")
    rest[0].legend(fontsize=7, frameon=False)
    return figure


def _morphology_figure(made: Mapping[str, Tensor], against: HeldOut) -> Figure:
    """Droplets, in-between and spinodal targets: the image, then a sample of every way."""
    rows = [(group, int(i)) for group, members in against.groups().items() for i in members[:2]]
    figure = Figure(figsize=(1.55 * (len(made) + 1), 1.62 * len(rows) + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), len(made) + 1, squeeze=False)
    for number, (line, (group, index)) in enumerate(zip(axes, rows, strict=True)):
        first = number == 0
        show(line[0], against.images[index], "held-out image" if first else "", TARGET, 1.5)
        line[0].set_ylabel(group, fontsize=8)
        for axis, (way, samples) in zip(line[1:], made.items(), strict=True):
            show(axis, samples[index, 0], fill(way, 22) if first else "", MADE, 1.5)
    return figure


def _single_target_figures(models: Mapping[str, Model]) -> tuple[Figure, Figure]:
    """Figures 6 and 7: samples of models of one target each, and their curves."""
    pictures = Figure(figsize=(9.6, 1.75 * len(models)), layout="constrained")
    lines = pictures.subplots(len(models), 6, squeeze=False)
    plots = Figure(figsize=(3.5 * len(models), 2.8), layout="constrained")
    axes = plots.subplots(1, len(models), squeeze=False)[0]
    for line, axis, (name, model) in zip(lines, axes, models.items(), strict=True):
        (_, curve, made), study = free_samples(model), _study(model)
        show(line[0], study.target_image(), "target", TARGET, 1.5)
        line[0].set_ylabel(name, fontsize=8)
        for place, sample in zip(line[1:], made, strict=False):
            show(place, sample[0], "", MADE, 1.5)
        curves(axis, made[:, 0], curve, f"{name}: ")
        if study.enforced < len(curve):
            axis.axvspan(0, study.enforced - 1, color="0.92", zorder=0, label="in the law")
    axes[0].legend(fontsize=7, frameon=False)
    return pictures, plots


RECIPE = Recipe(microstructure_result, microstructure_runs)
